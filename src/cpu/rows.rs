//! The rows of activations, as packing reads them: x itself, x in another order of k, or the
//! result of a row operation.

use crate::numerics::{rms_norm_row, silu_mul_row};
use crate::{HiddenState, KOrder, MatRef, RmsNorm, SiluMul};
use half::bf16;

/// The BF16 rows `[K]` of a matrix of activations.
pub(super) trait Rows: Sync {
    /// Returns the row of a token, `[K]`. `buffer` is `[K]`.
    ///
    /// Every implementation is `#[inline(always)]`, so that it is compiled for the instruction set
    /// of its caller.
    fn row<'b>(&'b self, token: usize, buffer: &'b mut [bf16]) -> &'b [bf16];
}

/// x `[M, K]`.
pub(super) struct Input<'a> {
    pub x: MatRef<'a, bf16>,
    /// The order of k to gather x into; `None` if x is in the order of the weight.
    pub order: Option<&'a KOrder>,
}

impl Rows for Input<'_> {
    #[inline(always)]
    fn row<'b>(&'b self, token: usize, buffer: &'b mut [bf16]) -> &'b [bf16] {
        let x = self.x.row(token);
        let Some(order) = self.order else {
            return x;
        };
        order.gather_row(x, buffer);
        buffer
    }
}

impl Rows for RmsNorm<'_> {
    #[inline(always)]
    fn row<'b>(&'b self, token: usize, buffer: &'b mut [bf16]) -> &'b [bf16] {
        match self.x() {
            HiddenState::Bf16(x) => rms_norm_row(x.row(token), self.weight(), self.eps(), buffer),
            HiddenState::F32(x) => rms_norm_row(x.row(token), self.weight(), self.eps(), buffer),
        }
        buffer
    }
}

impl Rows for SiluMul<'_> {
    #[inline(always)]
    fn row<'b>(&'b self, token: usize, buffer: &'b mut [bf16]) -> &'b [bf16] {
        silu_mul_row(self.gate().row(token), self.up().row(token), buffer);
        buffer
    }
}
