//! The LayerNorm of the vision towers and the action head.

use super::Loader;
use crate::{Result, ops};
use candle_core::Tensor;

/// A LayerNorm with weight and bias.
#[derive(Clone, Debug)]
pub(super) struct LayerNorm {
    weight: Tensor, // [N]
    bias: Tensor,   // [N]
    eps: f64,
}

impl LayerNorm {
    pub fn load(loader: &Loader<'_>, module: &str, n: usize, eps: f64) -> Result<Self> {
        Ok(Self {
            weight: loader.tensor(&format!("{module}.weight"), &[n])?,
            bias: loader.tensor(&format!("{module}.bias"), &[n])?,
            eps,
        })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ops::layer_norm(x, &self.weight, &self.bias, self.eps)
    }
}
