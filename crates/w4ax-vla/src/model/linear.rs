//! A linear layer with a plain or a packed weight.

use crate::{Result, ops};
use candle_core::{DType, Module, Tensor};
use w4ax::Width;

/// A linear layer whose weight is unquantized or packed.
#[derive(Clone, Debug)]
pub enum AnyLinear {
    /// An unquantized weight, which runs at BF16 or F32, as its input.
    Plain(ops::Linear),
    /// A packed weight, which runs at the width of its layer or of a call.
    Packed(w4ax::candle::Linear),
}

impl AnyLinear {
    /// Returns N, the number of output channels.
    pub fn n(&self) -> usize {
        match self {
            Self::Plain(linear) => linear.n(),
            Self::Packed(linear) => linear.n(),
        }
    }

    /// Returns K, the number of inputs.
    pub fn k(&self) -> usize {
        match self {
            Self::Plain(linear) => linear.k(),
            Self::Packed(linear) => linear.k(),
        }
    }

    /// Returns the bytes of the weight.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Plain(linear) => linear.bytes() as u64,
            Self::Packed(linear) => linear.packed_bytes() as u64,
        }
    }

    /// Returns `y[.., N]` of `x[.., K]`, in the type of x. A packed weight runs at the width of its
    /// layer, on x rounded to BF16.
    ///
    /// # Errors
    /// If x is neither F32 nor BF16, is on another device, or its last dimension is not K.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Plain(linear) => linear.forward(x),
            Self::Packed(linear) => packed(x, |x| linear.forward(x)),
        }
    }

    /// As [`forward`](Self::forward), with a packed weight at `width`. A plain weight has no width.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_at(&self, x: &Tensor, width: Width) -> Result<Tensor> {
        match self {
            Self::Plain(linear) => linear.forward(x),
            Self::Packed(linear) => packed(x, |x| linear.forward_at(x, width)),
        }
    }
}

/// Runs a layer on BF16 and returns the type of x.
fn packed(x: &Tensor, run: impl Fn(&Tensor) -> candle_core::Result<Tensor>) -> Result<Tensor> {
    let y = run(&ops::cast(x, DType::BF16)?.contiguous()?)?;
    ops::cast(&y, x.dtype())
}
