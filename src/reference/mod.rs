//! The references that every backend is tested against.
//!
//! - [`gemm`]: a scalar GEMM with the rounding steps of [`crate::numerics`]. Every backend is
//!   compared with it bit for bit (BF16 across backends: within the bound of that page).
//! - [`matmul_f64`]: the product in f64, for error bounds.
//! - [`QuantizedMatrix`]: quantized activations in plain order.
//! - [`rms_norm`], [`add_rms_norm`] and [`silu_mul`]: the row operations, row by row.
//!
//! The two products are written to be read, not to be fast. They share no code with the backends:
//! they read unpacked weights and quantize with their own loops.

mod quantized_matrix;
mod row_op;

pub use quantized_matrix::QuantizedMatrix;
pub use row_op::{add_rms_norm, rms_norm, silu_mul};

use crate::gemm::check_shapes;
use crate::{Grouping, MatRef, PackedWeight, Result, Scheme, Width};
use half::bf16;

/// Returns `x * W^T` in f64, of dequantized weights and unquantized activations, row-major `[M,
/// N]`.
///
/// Each `(qw - zw) * sw`, or `w8 * sw` of a two-level weight, is exact in f64. The sum runs over k
/// in ascending order.
///
/// # Errors
/// [`crate::Error::Shape`] if `x` does not have K columns.
pub fn matmul_f64(x: MatRef<'_, bf16>, w: &PackedWeight) -> Result<Vec<f64>> {
    check_shapes(&x, w, None)?;
    let (n, k, q) = (w.n(), w.k(), w.unpack());
    let groups = groups_of(w);
    let weights: Vec<f64> = (0..n * k)
        .map(|i| {
            let (row, group) = (i / k, groups[i % k]);
            f64::from(i32::from(q[i]) - i32::from(w.zero(row, group)))
                * f64::from(w.step(row, group))
                * f64::from(w.scale(row, group))
        })
        .collect();
    let mut y = Vec::with_capacity(x.rows() * n);
    for row in 0..x.rows() {
        let x: Vec<f64> = x.row(row).iter().map(|v| v.to_f64()).collect();
        y.extend(
            weights
                .chunks(k)
                .map(|w| w.iter().zip(&x).map(|(w, x)| w * x).sum::<f64>()),
        );
    }
    Ok(y)
}

/// Returns `y = x * W^T + bias` with the rounding steps of [`crate::numerics`], row-major `[M, N]`.
///
/// `x` is in the order of the matrix, as for [`crate::Gemm::new`].
///
/// # Errors
/// [`crate::Error::Shape`] if `x` does not have K columns or `bias` does not have N values.
pub fn gemm(
    x: MatRef<'_, bf16>,
    w: &PackedWeight,
    width: Width,
    bias: Option<&[f32]>,
) -> Result<Vec<bf16>> {
    check_shapes(&x, w, bias)?;
    let (n, k, matrix) = (w.n(), w.k(), w.unpack());
    // Position i of a row of the packed weight is k `position[i]` of the matrix.
    let position: Vec<usize> = match w.order() {
        Some(order) => order.as_slice().iter().map(|&k| k as usize).collect(),
        None => (0..k).collect(),
    };
    let q: Vec<i8> = (0..n * k)
        .map(|i| matrix[i / k * k + position[i % k]])
        .collect();
    let mut y = Vec::with_capacity(x.rows() * n);
    for token in 0..x.rows() {
        let x: Vec<bf16> = position.iter().map(|&k| x.row(token)[k]).collect();
        let activations = Activations::new(&x, width, w.activation_grouping());
        for row in 0..n {
            let q = &q[row * k..][..k];
            let bias = bias.map(|bias| bias[row]);
            let result = match w.scheme() {
                Scheme::Grouped => grouped(&activations, q, w, row, bias),
                Scheme::TwoLevel => two_level(&activations, q, w, row, bias),
            };
            y.push(row_op::round(result));
        }
    }
    Ok(y)
}

/// The activations of one token.
enum Activations<'a> {
    /// `[k]`.
    Plain(&'a [bf16]),
    /// `[group]`.
    Quantized(Vec<Quantized>),
}

impl<'a> Activations<'a> {
    fn new(x: &'a [bf16], width: Width, grouping: Grouping) -> Self {
        let Some(qmax) = width.qmax() else {
            return Self::Plain(x);
        };
        let group = |g| Quantized::new(&x[grouping.range(g, x.len())], qmax);
        Self::Quantized((0..grouping.groups(x.len())).map(group).collect())
    }
}

/// One result of [`Scheme::Grouped`] before its last rounding. `q` is `[k]`.
fn grouped(x: &Activations<'_>, q: &[i8], w: &PackedWeight, row: usize, bias: Option<f32>) -> f32 {
    let mut acc = 0f32;
    for g in 0..w.groups() {
        let range = w.grouping().range(g, q.len());
        let q = &q[range.clone()];
        let (sw, zw) = (w.scale(row, g), i64::from(w.zero(row, g)));
        acc = match x {
            Activations::Plain(x) => {
                let mut sum = 0f32;
                for (q, x) in q.iter().zip(&x[range]) {
                    sum = x.to_f32().mul_add((i64::from(*q) - zw) as f32, sum);
                }
                sum.mul_add(sw, acc)
            }
            Activations::Quantized(groups) => {
                let a = &groups[g];
                let product = |(q, code): (&i8, &i64)| (code - a.zero) * (i64::from(*q) - zw);
                let d: i64 = q.iter().zip(&a.codes).map(product).sum();
                (d as f32).mul_add(a.step * sw, acc)
            }
        };
    }
    match bias {
        Some(bias) => acc + bias,
        None => acc,
    }
}

/// One result of [`Scheme::TwoLevel`] before its last rounding. `q` is `[k]`.
fn two_level(
    x: &Activations<'_>,
    q: &[i8],
    w: &PackedWeight,
    row: usize,
    bias: Option<f32>,
) -> f32 {
    let mut w8 = vec![0i64; q.len()];
    for g in 0..w.groups() {
        let (zg, sg) = (i64::from(w.zero(row, g)), i64::from(w.step(row, g)));
        for k in w.grouping().range(g, q.len()) {
            w8[k] = (i64::from(q[k]) - zg) * sg;
        }
    }
    let (sw, bias) = (w.scale(row, 0), bias.unwrap_or(0.0));
    match x {
        Activations::Plain(x) => {
            let mut sum = 0f32;
            for (w8, x) in w8.iter().zip(*x) {
                sum = x.to_f32().mul_add(*w8 as f32, sum);
            }
            sum.mul_add(sw, bias)
        }
        Activations::Quantized(groups) => {
            let a = &groups[0];
            let d: i64 = (w8.iter().zip(&a.codes))
                .map(|(w8, code)| (code - a.zero) * w8)
                .sum();
            (d as f32).mul_add(a.step * sw, bias)
        }
    }
}

/// The activations of one token and group, quantized by the formulas of [`crate::numerics`].
struct Quantized {
    step: f32,
    zero: i64,
    /// `[k of the group]`.
    codes: Vec<i64>,
}

impl Quantized {
    fn new(x: &[bf16], qmax: u8) -> Self {
        let x: Vec<f32> = x.iter().map(|v| v.to_f32()).collect();
        let levels = f32::from(qmax);
        let lo = x.iter().fold(0f32, |lo, &v| if v < lo { v } else { lo });
        let hi = x.iter().fold(0f32, |hi, &v| if v > hi { v } else { hi });
        let step = hi / levels - lo / levels;
        if x.iter().any(|v| !v.is_finite()) || step < 2f32.powi(-64) {
            return Self {
                step: if x.iter().all(|v| v.is_finite()) {
                    0.0
                } else {
                    f32::NAN
                },
                zero: 0,
                codes: vec![0; x.len()],
            };
        }
        let inverse = 1.0 / step;
        let rint = |v: f32| v.round_ties_even() as i64;
        let zero = rint(-lo * inverse).clamp(0, i64::from(qmax));
        let code = |v: &f32| (rint(v * inverse) + zero).clamp(0, i64::from(qmax));
        Self {
            step,
            zero,
            codes: x.iter().map(code).collect(),
        }
    }
}

/// The group of each k of the matrix.
fn groups_of(w: &PackedWeight) -> Vec<usize> {
    let mut groups = vec![0; w.k()];
    for position in 0..w.k() {
        let k = w
            .order()
            .map_or(position, |o| o.as_slice()[position] as usize);
        groups[k] = w.grouping().size().map_or(0, |size| position / size);
    }
    groups
}
