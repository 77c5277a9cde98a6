//! The order of k of a packed weight: GPTQ's `desc_act`.
//!
//! A checkpoint that was quantized in the order of its activations spreads the members of a group
//! over all of K. A packed weight keeps the members of each group next to each other, so every
//! kernel reads it like any other. In return the activations must be in the same order: a backend
//! gathers them before the GEMM.

use crate::{Error, MatMut, MatRef, Result};
use std::sync::Arc;

/// A permutation of K: element `i` is the k of the matrix that is at position `i` of the packed
/// weight.
///
/// Clones share the memory.
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
pub struct KOrder(Arc<[u32]>);

impl KOrder {
    /// An order from its permutation.
    ///
    /// # Errors
    /// [`Error::Range`] unless `order` contains each of `0..order.len()` once.
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
        Ok(Self(order.into()))
    }

    /// The k of the matrix, by position in the packed weight.
    pub fn as_slice(&self) -> &[u32] {
        &self.0
    }

    /// Whether this is the order of the matrix itself.
    pub fn is_identity(&self) -> bool {
        self.0.iter().enumerate().all(|(i, &k)| i == k as usize)
    }

    /// Gathers activations `x[M, K]` into the order of the packed weight: `gathered[m, i] = x[m,
    /// order[i]]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` does not have K columns, or `gathered` does not have the shape of
    /// `x`.
    pub fn gather<T: Copy>(&self, x: MatRef<'_, T>, mut gathered: MatMut<'_, T>) -> Result<()> {
        if x.cols() != self.0.len() {
            let expected = [x.rows(), self.0.len()];
            return Err(Error::shape("x", expected, [x.rows(), x.cols()]));
        }
        if (gathered.rows(), gathered.cols()) != (x.rows(), x.cols()) {
            let got = [gathered.rows(), gathered.cols()];
            return Err(Error::shape("gathered x", [x.rows(), x.cols()], got));
        }
        for row in 0..x.rows() {
            self.gather_row(x.row(row), gathered.row_mut(row));
        }
        Ok(())
    }

    /// One row of [`KOrder::gather`]: `x[K]` into `gathered[K]`.
    #[inline(always)]
    pub(crate) fn gather_row<T: Copy>(&self, x: &[T], gathered: &mut [T]) {
        for (to, &k) in gathered.iter_mut().zip(self.0.iter()) {
            *to = x[k as usize];
        }
    }

    /// The inverse of [`KOrder::gather_row`]: `packed[K]` into the order of the matrix.
    pub(super) fn scatter_row<T: Copy>(&self, packed: &[T], out: &mut [T]) {
        for (&from, &k) in packed.iter().zip(self.0.iter()) {
            out[k as usize] = from;
        }
    }
}
