//! Weights whose k are stored in another order than the matrix has them: GPTQ's `desc_act`.
//!
//! A checkpoint that was quantized in the order of its activations spreads the members of a group over all of K. Packed, the
//! members of each group stand together, so every kernel reads such a weight like any other; in return the activations
//! must come in the same order. [`ActOrderWeight`] is a type of its own, so that no GEMM takes one without the gather.

use super::PackedWeight;
use crate::{Error, MatMut, MatRef, Result};

/// A permutation of K: number `i` says which k of the matrix stands at `i` in the packed weight.
///
/// ```
/// use w4ax::{KOrder, MatMut, MatRef};
/// # fn main() -> w4ax::Result<()> {
/// let order = KOrder::new(vec![2, 0, 1])?;
/// let (x, mut gathered) = ([10, 11, 12], [0; 3]);
/// order.gather(MatRef::new(&x, 1, 3)?, MatMut::new(&mut gathered, 1, 3)?)?;
/// assert_eq!(gathered, [12, 10, 11]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KOrder(Vec<u32>);

impl KOrder {
    /// The order of those k.
    ///
    /// # Errors
    /// [`Error::Range`] unless each of `0..order.len()` is there once.
    pub fn new(order: Vec<u32>) -> Result<Self> {
        let mut seen = vec![false; order.len()];
        for &k in &order {
            match seen.get_mut(k as usize) {
                Some(seen) if !*seen => *seen = true,
                _ => {
                    return Err(Error::Range {
                        what: "order of k",
                        value: k.to_string(),
                        range: "a permutation of 0..K",
                    });
                }
            }
        }
        Ok(Self(order))
    }

    /// The k, in the order in which the packed weight has them.
    pub fn as_slice(&self) -> &[u32] {
        &self.0
    }

    /// Whether this is the matrix's own order.
    pub fn is_identity(&self) -> bool {
        self.0.iter().enumerate().all(|(i, &k)| i == k as usize)
    }

    /// Brings activations `x[M, K]` into the packed weight's order: `gathered[m, i] = x[m, order[i]]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if x has not K columns, or `gathered` not the shape of x.
    pub fn gather<T: Copy>(&self, x: MatRef<'_, T>, mut gathered: MatMut<'_, T>) -> Result<()> {
        if x.cols() != self.0.len() {
            return Err(Error::Shape {
                what: "x",
                expected: format!("[M, {}]", self.0.len()),
                got: format!("[{}, {}]", x.rows(), x.cols()),
            });
        }
        if (gathered.rows(), gathered.cols()) != (x.rows(), x.cols()) {
            return Err(Error::Shape {
                what: "gathered x",
                expected: format!("[{}, {}]", x.rows(), x.cols()),
                got: format!("[{}, {}]", gathered.rows(), gathered.cols()),
            });
        }
        for row in 0..x.rows() {
            let x = x.row(row);
            for (to, &k) in gathered.row_mut(row).iter_mut().zip(&self.0) {
                *to = x[k as usize];
            }
        }
        Ok(())
    }
}

/// A packed weight `[N, K]` whose k stand in another order than the matrix has them, and that order.
///
/// A GEMM with it takes gathered activations: [`crate::cpu::Cpu::gemm_act_order`] (on a GPU `cuda::Gpu::gemm_act_order`), or
/// [`KOrder::gather`] and then any backend's GEMM with [`ActOrderWeight::weight`].
///
/// ```
/// use half::bf16;
/// use w4ax::checkpoint::{Checkpoint, LoadedWeight};
/// use w4ax::{MatMut, MatRef, Width, cpu::Cpu};
/// # fn main() -> w4ax::Result<()> {
/// let checkpoint = Checkpoint::open("tests/data/checkpoints/gptq_v2_desc_act")?;
/// for module in checkpoint.quantized() {
///     let LoadedWeight::ActOrder(weight) = checkpoint.weight(module)? else {
///         continue;
///     };
///     let (n, k) = (weight.weight().n(), weight.weight().k());
///     let (x, mut gathered) = (vec![bf16::ONE; k], vec![bf16::ZERO; k]);
///     weight.order().gather(MatRef::new(&x, 1, k)?, MatMut::new(&mut gathered, 1, k)?)?;
///     let (cpu, mut y) = (Cpu::new()?, vec![bf16::ZERO; n]);
///     let (x, to) = (MatRef::new(&gathered, 1, k)?, MatMut::new(&mut y, 1, n)?);
///     cpu.gemm(x, weight.weight(), Width::A8, None, to, &mut cpu.workspace(1, k))?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ActOrderWeight {
    weight: PackedWeight,
    order: KOrder,
}

impl ActOrderWeight {
    /// A weight that is packed in that order.
    ///
    /// # Errors
    /// [`Error::Shape`] if the order is not one of K.
    pub fn new(weight: PackedWeight, order: KOrder) -> Result<Self> {
        if order.0.len() != weight.k() {
            return Err(Error::Shape {
                what: "order of k",
                expected: format!("[{}]", weight.k()),
                got: format!("[{}]", order.0.len()),
            });
        }
        Ok(Self { weight, order })
    }

    /// The weight as it is packed: its k are [`ActOrderWeight::order`]'s.
    pub fn weight(&self) -> &PackedWeight {
        &self.weight
    }

    /// Which k of the matrix stands where in the packed weight.
    pub fn order(&self) -> &KOrder {
        &self.order
    }

    /// The two, apart.
    pub fn into_parts(self) -> (PackedWeight, KOrder) {
        (self.weight, self.order)
    }

    /// `f32(qw - zw) * sw`, rounded once, row-major `[N, K]`, in the matrix's own order of k.
    pub fn dequantize(&self) -> Vec<f32> {
        let k = self.weight.k();
        let mut out = vec![0.0; self.weight.n() * k];
        let mut packed = vec![0.0; k];
        for (row, out) in out.chunks_mut(k).enumerate() {
            self.weight.dequantize_row(row, &mut packed);
            for (&w, &k) in packed.iter().zip(&self.order.0) {
                out[k as usize] = w;
            }
        }
        out
    }
}
