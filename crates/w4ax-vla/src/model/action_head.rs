//! OpenVLA-OFT's head that regresses a chunk of actions.

use super::norm::LayerNorm;
use super::{AnyLinear, Loader, Trace};
use crate::{Result, VlaError, ops};
use candle_core::{DType, Tensor};

/// Epsilon of the LayerNorms.
const EPS: f64 = 1e-5;

/// A residual MLP from the hidden states of an action's positions to the action.
#[derive(Clone, Debug)]
pub struct ActionHead {
    inputs: usize,
    layer_norm1: LayerNorm,
    fc1: AnyLinear,
    blocks: Vec<(LayerNorm, AnyLinear)>,
    layer_norm2: LayerNorm,
    fc2: AnyLinear,
}

impl ActionHead {
    /// Loads the tensors `action_head.model.*`. Widths and the number of blocks are those of the
    /// tensors.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape than the others imply.
    pub fn load(loader: &Loader<'_>) -> Result<Self> {
        let module = |name: &str| format!("action_head.model.{name}");
        let first = |name: &str| -> Result<usize> {
            Ok(loader.shape(&module(name))?.first().copied().unwrap_or(0))
        };
        let inputs = first("layer_norm1.weight")?;
        let hidden = first("fc1.weight")?;
        let action = first("fc2.weight")?;
        let norm = |name: &str, n| LayerNorm::load(loader, &module(name), n, EPS);
        let linear = |name: &str, n, k| loader.linear(&module(name), n, k, true);
        let block = |i: usize| -> Result<(LayerNorm, AnyLinear)> {
            let block = format!("mlp_resnet_blocks.{i}.ffn");
            let norm = norm(&format!("{block}.0"), hidden)?;
            Ok((norm, linear(&format!("{block}.1"), hidden, hidden)?))
        };
        let exists = |i: &usize| {
            let norm = module(&format!("mlp_resnet_blocks.{i}.ffn.0.weight"));
            loader.source().shape(&norm).is_some()
        };
        Ok(Self {
            inputs,
            layer_norm1: norm("layer_norm1", inputs)?,
            fc1: linear("fc1", hidden, inputs)?,
            blocks: (0..).take_while(exists).map(block).collect::<Result<_>>()?,
            layer_norm2: norm("layer_norm2", hidden)?,
            fc2: linear("fc2", action, hidden)?,
        })
    }

    /// Returns the number of values of an action.
    pub fn action_len(&self) -> usize {
        self.fc2.n()
    }

    /// Returns the normalized actions `[chunk, action]` in F32 of the hidden states
    /// `[chunk * action, hidden]`. They may be outside -1..=1.
    ///
    /// Traces `head.layer_norm1`, `head.relu1`, `head.blockI` and `head.layer_norm2`.
    ///
    /// # Errors
    /// If the hidden states are not those of whole actions.
    pub fn forward(&self, hidden: &Tensor, trace: Trace<'_>) -> Result<Tensor> {
        let (positions, width) = hidden.dims2()?;
        let action = self.action_len();
        if action * width != self.inputs || positions % action != 0 {
            return Err(VlaError::Input {
                what: "hidden states of the action head",
                got: format!("{positions}x{width}"),
                expected: format!("a multiple of {action} rows of {}", self.inputs / action),
            });
        }
        let x = hidden.reshape((positions / action, self.inputs))?;
        let x = self.layer_norm1.forward(&x)?;
        trace("head.layer_norm1", &x);
        let mut x = ops::relu(&self.fc1.forward(&x)?)?;
        trace("head.relu1", &x);
        for (i, (norm, linear)) in self.blocks.iter().enumerate() {
            let y = ops::relu(&linear.forward(&norm.forward(&x)?)?)?;
            x = (x + y)?;
            trace(&format!("head.block{i}"), &x);
        }
        let x = self.layer_norm2.forward(&x)?;
        trace("head.layer_norm2", &x);
        ops::cast(&self.fc2.forward(&x)?, DType::F32)
    }
}
