//! Adapters and controllers, and the stack that they belong to.

use super::Layers;
use crate::{Error, Result};
use half::bf16;

/// The stack that the networks belong to, and how they were trained.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// n: number of layers of the stack.
    pub layers: usize,
    /// d: width of the hidden state.
    pub width: usize,
    /// The layers that always run.
    pub static_layers: Vec<usize>,
    /// The ratio that selected the static layers; `None` if they were given.
    #[serde(default)]
    pub static_ratio: Option<f64>,
    /// `[n]`: mean cosine similarity of each layer's input and output.
    pub similarity: Vec<f64>,
    /// ha: inner width of an adapter.
    pub adapter_hidden: usize,
    /// hc: inner width of a controller.
    pub controller_hidden: usize,
    /// The cost of a layer in the loss of training stage 2.
    pub lambda: f64,
    /// The seed of the training.
    pub seed: u64,
    /// The layer of an early exit at a fixed depth. A separate adapter computes the head's input
    /// from the input of this layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<usize>,
}

/// The network that replaces the rest of a gap: `x + down(silu(up(rms(x) * norm)))`. The epsilon of
/// rms is 1e-5.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// The weights of rms, `[d]`.
    pub norm: Vec<f32>,
    /// `[ha, d]`.
    pub up: Vec<bf16>,
    /// `[d, ha]`.
    pub down: Vec<bf16>,
}

/// The network that returns the probability of skipping.
///
/// The probability is `sigmoid(out . silu(hidden(rms(x) * norm)) + bias)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Controller {
    /// The weights of rms, `[d]`.
    pub norm: Vec<f32>,
    /// `[hc, d]`.
    pub hidden: Vec<bf16>,
    /// `[hc]`.
    pub out: Vec<f32>,
    /// `[1]`.
    pub bias: f32,
}

impl NetworkConfig {
    /// Returns the static layers and gaps of the stack.
    ///
    /// # Errors
    /// As [`Layers::new`].
    pub fn skip_layers(&self) -> Result<Layers> {
        Layers::new(self.layers, &self.static_layers)
    }

    /// Checks every field. `file` is the name in errors.
    pub(super) fn check(&self, file: &str) -> Result<Layers> {
        let invalid = |reason: String| Err(Error::format(file, format!("`config`: {reason}")));
        // This check comes first: the next call allocates memory for `layers` layers.
        if self.similarity.len() != self.layers {
            return invalid(format!(
                "`similarity` has {} numbers: expected {}, one per layer",
                self.similarity.len(),
                self.layers
            ));
        }
        let layers = match self.skip_layers() {
            Ok(layers) => layers,
            Err(error) => return invalid(error.to_string()),
        };
        for (field, value) in [
            ("width", self.width),
            ("adapter_hidden", self.adapter_hidden),
            ("controller_hidden", self.controller_hidden),
        ] {
            if value == 0 {
                return invalid(format!("`{field}` is 0: expected at least 1"));
            }
        }
        // JSON cannot represent other values: they would be written as `null`.
        let numbers = [
            ("static_ratio", self.static_ratio),
            ("lambda", Some(self.lambda)),
        ];
        let similarities = self.similarity.iter().map(|&s| ("similarity", Some(s)));
        for (field, value) in numbers.into_iter().chain(similarities) {
            if let Some(value) = value.filter(|value| !value.is_finite()) {
                return invalid(format!("`{field}` has {value}: expected a finite value"));
            }
        }
        if let Some(exit) = self.exit.filter(|&exit| exit >= self.layers) {
            return invalid(format!(
                "`exit` is {exit}: expected less than {}",
                self.layers
            ));
        }
        Ok(layers)
    }
}

impl Adapter {
    /// Returns the number of parameters.
    pub fn parameters(&self) -> usize {
        self.norm.len() + self.up.len() + self.down.len()
    }
}

impl Controller {
    /// Returns the number of parameters.
    pub fn parameters(&self) -> usize {
        self.norm.len() + self.hidden.len() + self.out.len() + 1
    }
}
