//! GPTQ (arXiv 2210.17323): quantization that minimizes the error of the layer's output.
//!
//! Round to nearest minimizes the error of each weight. The output `x * W^T` of a row with weight
//! error `d` has the squared error `d H d^T`, with `H = sum x x^T` over calibration activations.
//! GPTQ rounds column after column and compensates the error of each in the columns that follow
//! (Algorithm 1).

use super::PackedWeight;
use super::pack::check_shape;
use super::quantize::{
    Candidates, Channel, Clipping, GroupError, GroupValues, Quantize, RowTile, WeightGrid,
    pack_tiles,
};
use crate::{Error, MatRef, Result};
use half::bf16;
use rayon::prelude::*;

/// The Hessian of a layer, `H[K, K] = sum x x^T` over calibration tokens, in f64 (8 * K^2 bytes).
///
/// Layers with the same input (q, k and v; gate and up) share it.
#[derive(Clone, Debug)]
pub struct Hessian {
    k: usize,
    tokens: usize,
    /// `[K, K]`, symmetric.
    sums: Vec<f64>,
}

impl Hessian {
    /// An empty Hessian, `[k, k]`.
    pub fn new(k: usize) -> Self {
        Self {
            k,
            tokens: 0,
            sums: vec![0.0; k * k],
        }
    }

    /// Adds activations `x[M, K]`, the input of the layer.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` does not have K columns; [`Error::NotFinite`] for a NaN or an
    /// infinity. Nothing is added then.
    pub fn add(&mut self, x: MatRef<'_, bf16>) -> Result<()> {
        let (m, k) = (x.rows(), self.k);
        if x.cols() != k {
            return Err(Error::shape("x", [m, k], [m, x.cols()]));
        }
        // Transposed, so that the sums are dot products of contiguous memory.
        let mut columns = vec![0f64; k * m];
        for token in 0..m {
            for (at, v) in x.row(token).iter().enumerate() {
                let value = v.to_f64();
                if !value.is_finite() {
                    return Err(Error::NotFinite {
                        what: "calibration activations",
                        index: token * k + at,
                        value,
                    });
                }
                columns[at * m + token] = value;
            }
        }
        if m == 0 || k == 0 {
            return Ok(());
        }
        self.sums
            .par_chunks_mut(k)
            .zip(columns.par_chunks(m))
            .for_each(|(sums, a)| {
                for (sum, b) in sums.iter_mut().zip(columns.chunks(m)) {
                    *sum += dot(a, b);
                }
            });
        self.tokens += m;
        Ok(())
    }

    /// Returns K, the number of inputs.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Returns the number of tokens added.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Returns the upper triangular `U[K, K]` with `H'^-1 = U^T U`, `H'` being `H` with `damping`
    /// times the mean of its diagonal added to the diagonal.
    fn inverse_factor(&self, damping: f64) -> Result<Vec<f64>> {
        let k = self.k;
        let mean = (0..k).map(|i| self.sums[i * k + i]).sum::<f64>() / k as f64;
        // H' = R R^T with R upper triangular is the Cholesky factorization of H' with rows and
        // columns in reverse; U = R^-1.
        let mut lower = vec![0f64; k * k];
        for (i, row) in lower.chunks_mut(k).enumerate() {
            let source = &self.sums[(k - 1 - i) * k..][..k];
            for (to, from) in row.iter_mut().zip(source.iter().rev()) {
                *to = *from;
            }
            row[i] += damping * mean;
            // An input that is always 0: its weight is arbitrary.
            if row[i] == 0.0 {
                row[i] = 1.0;
            }
        }
        for j in 0..k {
            let (above, below) = lower.split_at_mut((j + 1) * k);
            let row = &mut above[j * k..];
            let pivot = row[j] - dot(&row[..j], &row[..j]);
            if pivot.is_nan() || pivot <= 0.0 {
                return Err(Error::Config {
                    field: "damping",
                    reason: format!(
                        "{damping} is too small for these activations ({} tokens, {k} inputs)",
                        self.tokens
                    ),
                });
            }
            let pivot = pivot.sqrt();
            row[j] = pivot;
            let row = &*row;
            below
                .par_chunks_mut(k)
                .with_min_len(32)
                .for_each(|other| other[j] = (other[j] - dot(&other[..j], &row[..j])) / pivot);
        }
        // The columns of the inverse of the lower factor are the rows of U in reverse.
        let by_column: Vec<f64> = (0..k)
            .into_par_iter()
            .flat_map_iter(|j| {
                let mut column = vec![0f64; k];
                column[j] = 1.0 / lower[j * k + j];
                for i in j + 1..k {
                    let row = &lower[i * k..][..=i];
                    column[i] = -dot(&row[j..i], &column[j..i]) / row[i];
                }
                column
            })
            .collect();
        let mut factor = vec![0f64; k * k];
        factor.par_chunks_mut(k).enumerate().for_each(|(i, row)| {
            for (j, u) in row.iter_mut().enumerate().skip(i) {
                *u = by_column[(k - 1 - j) * k + (k - 1 - i)];
            }
        });
        Ok(factor)
    }
}

/// The parameters of quantization by GPTQ.
///
/// ```
/// use half::bf16;
/// use w4ax::{Grouping, MatRef, Quantize, weights::{Gptq, Hessian}};
/// # fn main() -> w4ax::Result<()> {
/// let (n, k, tokens) = (48, 128, 300);
/// let w: Vec<f32> = (0..n * k).map(|i| (i * 37 % 101) as f32 / 101.0 - 0.5).collect();
/// let value = |i: usize| bf16::from_f32((i * i % 89) as f32 / 89.0);
/// let x: Vec<bf16> = (0..tokens * k).map(value).collect();
/// let mut hessian = Hessian::new(k);
/// hessian.add(MatRef::new(&x, tokens, k)?)?;
/// let packed = Gptq::new(Quantize::new(Grouping::G64)).pack(MatRef::new(&w, n, k)?, &hessian)?;
/// assert_eq!((packed.n(), packed.k()), (n, k));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gptq {
    /// The grid: scheme, groups, symmetry, type of the scales.
    quantize: Quantize,
    /// Added to the diagonal of the Hessian, relative to its mean: 0.01 by default. More damping
    /// trusts the calibration less.
    damping: f64,
}

impl Gptq {
    /// GPTQ with the default damping.
    pub const fn new(quantize: Quantize) -> Self {
        Self {
            quantize,
            damping: 0.01,
        }
    }

    /// Sets what is added to the diagonal of the Hessian, relative to its mean: at least 0.
    #[must_use]
    pub const fn with_damping(mut self, damping: f64) -> Self {
        self.damping = damping;
        self
    }

    /// What is added to the diagonal of the Hessian, relative to its mean.
    pub const fn damping(&self) -> f64 {
        self.damping
    }

    /// Quantizes and packs `w[N, K]` (f32, BF16 or F16), on all threads of the current rayon pool.
    ///
    /// The grid of a group is chosen when its first column is reached: of the scales (steps) from
    /// the one that covers the group down to about half of it, the one with the least error,
    /// weighed by the Hessian. The scale of a channel of a two-level weight is chosen before, from
    /// the channel as it is. With [`Clipping::SquaredError`] the candidates are those of round to
    /// nearest: more zero points, and all scales of a channel. Takes about `N * K^2 + K^3`
    /// operations in f64 and three times the memory of the Hessian.
    ///
    /// # Errors
    /// As [`Quantize::pack`]; [`Error::Shape`] if the Hessian has another K; [`Error::Config`] for
    /// an empty Hessian, and for a damping that is negative or too small for the Hessian to be
    /// invertible.
    pub fn pack<T>(&self, w: MatRef<'_, T>, hessian: &Hessian) -> Result<PackedWeight>
    where
        T: Copy + Into<f32> + Sync,
    {
        let (n, k) = (w.rows(), w.cols());
        check_shape(n, k, self.quantize.grouping, self.quantize.scheme)?;
        if hessian.k != k {
            return Err(Error::shape("hessian", [k, k], [hessian.k, hessian.k]));
        }
        if !(self.damping >= 0.0 && self.damping.is_finite()) {
            return Err(Error::Config {
                field: "damping",
                reason: format!("is {}: expected at least 0", self.damping),
            });
        }
        if hessian.tokens == 0 {
            return Err(Error::Config {
                field: "hessian",
                reason: "has no activations: expected at least one token".into(),
            });
        }
        let factor = hessian.inverse_factor(self.damping)?;
        // The cost of an error of 1 in a column, after compensation in the columns that follow.
        let costs: Vec<f64> = (0..k).map(|i| factor[i * k + i].powi(-2)).collect();
        pack_tiles(
            &self.quantize,
            [n, k],
            |_, _| (),
            |rows, tile| {
                let mut w: Vec<f64> = rows
                    .clone()
                    .flat_map(|row| w.row(row).iter().map(|&v| f64::from(v.into())))
                    .collect();
                match w.iter().position(|v| !v.is_finite()) {
                    Some(at) => Err(GroupError::NotFinite(rows.start * k + at, w[at] as f32)),
                    None => self.quantize_rows(&mut w, &factor, &costs, tile),
                }
            },
        )
    }

    /// Quantizes up to 16 rows `w[rows, K]`, and moves the errors to the columns that follow.
    /// `factor` is `[K, K]`, `costs` is `[K]`.
    fn quantize_rows(
        &self,
        w: &mut [f64],
        factor: &[f64],
        costs: &[f64],
        tile: &mut RowTile<'_>,
    ) -> std::result::Result<(), GroupError> {
        let (k, grouping) = (costs.len(), self.quantize.grouping);
        let candidates = match self.quantize.clipping {
            Clipping::AbsMax => Candidates::Clipped,
            Clipping::SquaredError => Candidates::All,
        };
        let channel = |w| self.quantize.channel(w, costs, candidates);
        let channels: Vec<Channel> = w
            .chunks(k)
            .map(channel)
            .collect::<std::result::Result<_, _>>()?;
        for g in 0..grouping.groups(k) {
            let range = grouping.range(g, k);
            let mut grids: Vec<WeightGrid> = Vec::with_capacity(channels.len());
            for (r, w) in w.chunks(k).enumerate() {
                let group = GroupValues::new(&w[range.clone()], &costs[range.clone()]);
                let grid = self.quantize.grid_of(channels[r], &group, candidates)?;
                tile.set_grid(r, g, &grid);
                grids.push(grid);
            }
            for column in range {
                let factor = &factor[column * k..][..k];
                for ((r, w), grid) in w.chunks_mut(k).enumerate().zip(&grids) {
                    let code = grid.code(w[column]);
                    tile.set_code(r, column, code);
                    let error = (w[column] - grid.value(code)) / factor[column];
                    for (w, u) in w[column + 1..].iter_mut().zip(&factor[column + 1..]) {
                        *w -= error * u;
                    }
                }
            }
        }
        Ok(())
    }
}

/// A dot product in eight partial sums, which vectorizes.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0f64; 8];
    let (a8, a1) = a.as_chunks::<8>();
    let (b8, b1) = b.as_chunks::<8>();
    for (a, b) in a8.iter().zip(b8) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f64 = a1.iter().zip(b1).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}
