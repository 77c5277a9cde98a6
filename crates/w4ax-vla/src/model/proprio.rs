//! OpenVLA-OFT's projector of the robot's state.

use super::Loader;
use crate::{Result, ops};
use candle_core::{DType, Tensor};

/// Two linear layers with GELU between them, which turn a state into one embedding.
///
/// The checkpoint stores F32, and the model runs on the weights rounded to BF16, in F32 too.
#[derive(Clone, Debug)]
pub struct ProprioProjector {
    fc1: ops::Linear,
    fc2: ops::Linear,
    dtype: DType,
}

impl ProprioProjector {
    /// Loads the tensors `proprio_projector.*`.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape than the others imply.
    pub fn load(loader: &Loader<'_>) -> Result<Self> {
        let load = |layer: &str, k: Option<usize>| -> Result<ops::Linear> {
            let name = format!("proprio_projector.{layer}.weight");
            let shape = loader.shape(&name)?;
            let n = shape.first().copied().unwrap_or(0);
            let k = k.unwrap_or(shape.get(1).copied().unwrap_or(0));
            let weight = loader.tensor(&name, &[n, k])?;
            let bias = loader.tensor(&format!("proprio_projector.{layer}.bias"), &[n])?;
            let (weight, bias) = (weight.to_dtype(DType::BF16)?, bias.to_dtype(DType::BF16)?);
            ops::Linear::new(weight, Some(bias))
        };
        let fc1 = load("fc1", None)?;
        let fc2 = load("fc2", Some(fc1.n()))?;
        let dtype = loader.dtype();
        Ok(Self { fc1, fc2, dtype })
    }

    /// Returns the number of values of a state.
    pub fn state_len(&self) -> usize {
        self.fc1.k()
    }

    /// Returns the embedding `[1, hidden]` of a normalized state `[1, values]`.
    ///
    /// # Errors
    /// If the state has another number of values.
    pub fn forward(&self, state: &Tensor) -> Result<Tensor> {
        let x = ops::cast(state, self.dtype)?;
        self.fc2.forward(&ops::gelu(&self.fc1.forward(&x)?)?)
    }
}
