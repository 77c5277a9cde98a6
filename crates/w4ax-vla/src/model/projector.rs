//! The projector from patch features to embeddings of the language model.

use super::{AnyLinear, Loader};
use crate::{Result, ops};
use candle_core::Tensor;

/// Three linear layers with GELU between them.
#[derive(Clone, Debug)]
pub struct Projector {
    fc1: AnyLinear,
    fc2: AnyLinear,
    fc3: AnyLinear,
}

impl Projector {
    /// Loads the projector. Its widths are those of the tensors.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape than the others imply.
    pub fn load(loader: &Loader<'_>, features: usize) -> Result<Self> {
        let width = |layer: &str| -> Result<usize> {
            Ok(loader.shape(&format!("projector.{layer}.weight"))?[0])
        };
        let (n1, n2, n3) = (width("fc1")?, width("fc2")?, width("fc3")?);
        Ok(Self {
            fc1: loader.linear("projector.fc1", n1, features, true)?,
            fc2: loader.linear("projector.fc2", n2, n1, true)?,
            fc3: loader.linear("projector.fc3", n3, n2, true)?,
        })
    }

    /// Returns the width of the embeddings.
    pub fn hidden(&self) -> usize {
        self.fc3.n()
    }

    /// Returns the embeddings `[patches, hidden]` of `[patches, features]`.
    ///
    /// # Errors
    /// If the input has another number of features.
    pub fn forward(&self, features: &Tensor) -> Result<Tensor> {
        let x = ops::gelu(&self.fc1.forward(features)?)?;
        let x = ops::gelu(&self.fc2.forward(&x)?)?;
        self.fc3.forward(&x)
    }
}
