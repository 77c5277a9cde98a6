//! Scaled dot-product attention.

use super::cast::widen_here;
use super::matmul::{Matrix, matmul, with_scratch};
use super::shared::SharedOutput;
use super::simd::{add_scaled, dot, max, sum, vectorized};
use super::value::{Value, with_storage};
use super::{generic, on_cpu};
use crate::{Result, VlaError};
use candle_core::{DType, Tensor};
use half::bf16;
use rayon::prelude::*;
use w4ax::numerics::exp;

/// Rows of q of one task.
const BLOCK: usize = 64;
/// The most rows of q for which inner products are quicker than a GEMM, which packs its operands.
const FEW_ROWS: usize = 4;

/// Which keys a query attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// All of them.
    None,
    /// Row i of q attends to the keys `0..=past + i`.
    Causal {
        /// Keys before the first row of q.
        past: usize,
    },
}

impl Mask {
    /// Returns the number of keys, of `t`, that row `row` of q attends to.
    pub(super) fn visible(self, row: usize, t: usize) -> usize {
        match self {
            Self::None => t,
            Self::Causal { past } => past + row + 1,
        }
    }
}

/// Returns `softmax(q * k^T / sqrt(d)) * v`, the heads side by side: `[M, H * d]`, in the type of
/// q.
///
/// q is `[H, M, d]`, k and v are `[H, T, d]`. They may be views with any strides, of which those
/// with a contiguous last dimension are not copied, and k and v may be of another type than q.
/// Scores, softmax and sums are in F32.
///
/// # Memory
/// Each thread holds the scores of 64 rows of q, and in BF16 the keys and values of one head in
/// F32.
///
/// # Errors
/// If a tensor is neither F32 nor BF16, k and v differ in type, the shapes do not fit together, or
/// the last row of q attends to more than T keys.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, mask: Mask) -> Result<Tensor> {
    let (h, m, d) = q.dims3()?;
    let t = k.dim(1)?;
    for (what, x) in [("keys of attention", k), ("values of attention", v)] {
        super::expect_dims(what, x, &[h, t, d])?;
        on_cpu(what, x)?;
    }
    if k.dtype() != v.dtype() {
        return Err(VlaError::Input {
            what: "type of the values of attention",
            got: format!("{:?}", v.dtype()),
            expected: format!("{:?}, as the keys", k.dtype()),
        });
    }
    if t == 0 || m > 0 && mask.visible(m - 1, t) > t {
        return Err(VlaError::Input {
            what: "number of keys of attention",
            got: t.to_string(),
            expected: format!("at least {}", mask.visible(m.max(1) - 1, t).max(1)),
        });
    }
    if !on_cpu("queries of attention", q)? {
        return generic::attention(q, k, v, mask);
    }
    match (q.dtype(), k.dtype()) {
        (DType::F32, DType::F32) => on_rayon::<f32, f32>(q, k, v, mask),
        (DType::F32, _) => on_rayon::<f32, bf16>(q, k, v, mask),
        (_, DType::F32) => on_rayon::<bf16, f32>(q, k, v, mask),
        _ => on_rayon::<bf16, bf16>(q, k, v, mask),
    }
}

fn on_rayon<Q: Value, K: Value>(q: &Tensor, k: &Tensor, v: &Tensor, mask: Mask) -> Result<Tensor> {
    let (h, m, d) = q.dims3()?;
    let mut y = vec![Q::zero(); m * h * d]; // [M, H * d]
    with_heads(q, |q: Heads<'_, Q>| {
        with_heads(k, |k: Heads<'_, K>| {
            with_heads(v, |v: Heads<'_, K>| {
                let call = Call { q, k, v, h, mask };
                let output = SharedOutput::new(&mut y);
                let blocks = m.div_ceil(BLOCK);
                (0..h * blocks).into_par_iter().for_each(|task| {
                    let (head, first) = (task / blocks, task % blocks * BLOCK);
                    let rows = BLOCK.min(m - first);
                    // SAFETY: this task writes its rows and its head of y and no other.
                    unsafe {
                        if m <= FEW_ROWS {
                            call.by_dots(&output, head, first, rows);
                        } else {
                            call.by_gemm(&output, head, first, rows);
                        }
                    }
                });
                Ok(())
            })
        })
    })?;
    Ok(Tensor::from_vec(y, (m, h * d), q.device())?)
}

/// A tensor `[H, rows, d]` whose last dimension is contiguous.
#[derive(Clone, Copy)]
struct Heads<'a, T> {
    values: &'a [T],
    rows: usize,
    d: usize,
    head_stride: usize,
    row_stride: usize,
}

impl<'a, T: Value> Heads<'a, T> {
    fn row(&self, head: usize, row: usize) -> &'a [T] {
        let start = head * self.head_stride + row * self.row_stride;
        &self.values[start..start + self.d]
    }
}

fn with_heads<T: Value, R>(x: &Tensor, f: impl FnOnce(Heads<'_, T>) -> Result<R>) -> Result<R> {
    let x = if x.layout().stride()[2] == 1 {
        x.clone()
    } else {
        x.contiguous()?
    };
    with_storage(&x, |storage, layout| {
        f(Heads {
            values: &storage.as_slice::<T>()?[layout.start_offset()..],
            rows: layout.dims()[1],
            d: layout.dims()[2],
            head_stride: layout.stride()[0],
            row_stride: layout.stride()[1],
        })
    })
}

/// What the tasks of one call share.
struct Call<'a, Q, K> {
    q: Heads<'a, Q>,
    k: Heads<'a, K>,
    v: Heads<'a, K>,
    h: usize,
    mask: Mask,
}

impl<Q: Value, K: Value> Call<'_, Q, K> {
    fn scale(&self) -> f32 {
        1.0 / (self.q.d as f32).sqrt()
    }

    /// Returns the part of y of one row and head.
    ///
    /// # Safety
    /// No other thread may use it.
    #[allow(clippy::mut_from_ref)] // As `SharedOutput::part`.
    unsafe fn output<'y>(
        &self,
        y: &'y SharedOutput<'_, Q>,
        head: usize,
        row: usize,
    ) -> &'y mut [Q] {
        let d = self.q.d;
        // SAFETY: by the contract of this function.
        unsafe { y.part(row * self.h * d + head * d, d) }
    }

    /// Computes rows of q one by one, by inner products with the keys and sums of the values.
    ///
    /// # Safety
    /// No other thread may use these rows and this head of y.
    unsafe fn by_dots(&self, y: &SharedOutput<'_, Q>, head: usize, first: usize, rows: usize) {
        let (t, d) = (self.k.rows, self.q.d);
        with_scratch(t + 2 * d, |scratch| {
            vectorized(|| {
                let (scores, rest) = scratch.split_at_mut(t);
                let (q, out) = rest.split_at_mut(d);
                for row in first..first + rows {
                    for (wide, q) in q.iter_mut().zip(self.q.row(head, row)) {
                        *wide = q.widen() * self.scale();
                    }
                    let scores = &mut scores[..self.mask.visible(row, t)];
                    for (key, score) in scores.iter_mut().enumerate() {
                        *score = dot(q, self.k.row(head, key));
                    }
                    let total = exp_of_differences(scores);
                    out.fill(0.0);
                    for (key, weight) in scores.iter().enumerate() {
                        add_scaled(out, *weight, self.v.row(head, key));
                    }
                    // SAFETY: by the contract of this function.
                    let y = unsafe { self.output(y, head, row) };
                    for (y, out) in y.iter_mut().zip(&*out) {
                        *y = Q::round(*out / total);
                    }
                }
            });
        });
    }

    /// Computes a block of rows of q by two GEMMs. Keys that no row attends to are left out.
    ///
    /// # Safety
    /// As [`by_dots`](Self::by_dots).
    unsafe fn by_gemm(&self, y: &SharedOutput<'_, Q>, head: usize, first: usize, rows: usize) {
        let d = self.q.d;
        let t = self.mask.visible(first + rows - 1, self.k.rows);
        with_scratch(2 * rows * d + rows * t + rows + 2 * t * d, |scratch| {
            let (q, rest) = scratch.split_at_mut(rows * d); // [rows, d]
            let (out, rest) = rest.split_at_mut(rows * d); // [rows, d]
            let (scores, rest) = rest.split_at_mut(rows * t); // [rows, t]
            let (totals, rest) = rest.split_at_mut(rows); // [rows]
            let (k_wide, v_wide) = rest.split_at_mut(t * d); // [t, d] each
            vectorized(|| {
                for (row, wide) in q.chunks_exact_mut(d).enumerate() {
                    for (wide, q) in wide.iter_mut().zip(self.q.row(head, first + row)) {
                        *wide = q.widen() * self.scale();
                    }
                }
            });
            let q = Matrix::new(q, rows, d, d);
            matmul(scores, q, as_matrix(&self.k, head, t, k_wide).t());
            vectorized(|| {
                for (row, scores) in scores.chunks_exact_mut(t).enumerate() {
                    let visible = self.mask.visible(first + row, t);
                    totals[row] = exp_of_differences(&mut scores[..visible]);
                    scores[visible..].fill(0.0);
                }
            });
            let weights = Matrix::new(scores, rows, t, t);
            matmul(out, weights, as_matrix(&self.v, head, t, v_wide));
            vectorized(|| {
                for (row, out) in out.chunks_exact(d).enumerate() {
                    // SAFETY: by the contract of this function.
                    let y = unsafe { self.output(y, head, first + row) };
                    for (y, out) in y.iter_mut().zip(out) {
                        *y = Q::round(*out / totals[row]);
                    }
                }
            });
        });
    }
}

/// Replaces each score by e to the difference to the largest, and returns their sum.
#[inline(always)]
fn exp_of_differences(scores: &mut [f32]) -> f32 {
    let max = max(scores);
    for score in scores.iter_mut() {
        *score = exp(*score - max);
    }
    sum(scores, |x| x)
}

/// Returns the first t rows of one head in F32: the values themselves, or a copy in `wide[t, d]`.
fn as_matrix<'a, T: Value>(
    x: &Heads<'a, T>,
    head: usize,
    t: usize,
    wide: &'a mut [f32],
) -> Matrix<'a> {
    if let Some(values) = T::as_f32(x.values) {
        let start = if t == 0 { 0 } else { head * x.head_stride };
        return Matrix::new(&values[start..], t, x.d, x.row_stride);
    }
    for (row, wide) in wide.chunks_exact_mut(x.d).enumerate() {
        widen_here(x.row(head, row), wide);
    }
    Matrix::new(wide, t, x.d, x.d)
}
