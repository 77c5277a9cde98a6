//! What watches a pass through the networks: its intermediate tensors and its times.

use super::Trace;
use crate::Result;
use candle_core::Tensor;
use std::time::{Duration, Instant};

/// The parts of a decoder layer's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LayerPart {
    /// The linear layers: W4AX GEMMs, or plain products in an unquantized model.
    Gemm,
    /// Rotary embeddings, the cache, and the products of attention.
    Attention,
    /// RMSNorm.
    Norm,
    /// Residual sums and SwiGLU.
    Elementwise,
}

/// The time of a pass by part, summed over its layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerTimes([Duration; 4]);

impl LayerTimes {
    /// Returns the time of a part.
    pub fn of(&self, part: LayerPart) -> Duration {
        self.0[part as usize]
    }

    /// Returns the time of all parts.
    pub fn total(&self) -> Duration {
        self.0.iter().sum()
    }

    /// Adds the times of another pass.
    pub fn add(&mut self, other: &Self) {
        for (to, from) in self.0.iter_mut().zip(other.0) {
            *to += from;
        }
    }
}

/// Watches a pass: calls a function with each intermediate tensor, and measures times.
///
/// The default watches nothing but the times of the CPU. On a GPU, where operations are enqueued,
/// [`LayerTimes`] hold the time to enqueue them.
#[derive(Default)]
pub struct Probe<'a> {
    stage: Option<Trace<'a>>,
    times: LayerTimes,
}

impl<'a> Probe<'a> {
    /// Creates a probe that calls `stage` with the name and the value of each intermediate tensor.
    pub fn new(stage: Trace<'a>) -> Self {
        Self {
            stage: Some(stage),
            times: LayerTimes::default(),
        }
    }

    /// Returns the times since the last call, and starts anew.
    pub fn take_times(&mut self) -> LayerTimes {
        std::mem::take(&mut self.times)
    }

    /// Returns whether intermediate tensors are reported.
    pub fn has_stage(&self) -> bool {
        self.stage.is_some()
    }

    /// Reports an intermediate tensor.
    pub fn stage(&mut self, name: &str, value: &Tensor) {
        if let Some(stage) = &mut self.stage {
            stage(name, value);
        }
    }

    /// Reports the output of a layer as `llama_layer{layer}_out`.
    pub(crate) fn layer(&mut self, layer: usize, value: &Tensor) {
        if let Some(stage) = &mut self.stage {
            stage(&format!("llama_layer{layer}_out"), value);
        }
    }

    /// Reports the input and the output of a linear layer as `llama_layer{layer}.{name}.in` and
    /// `.out`.
    pub(crate) fn linear(&mut self, layer: usize, name: &str, [x, y]: [&Tensor; 2]) {
        if let Some(stage) = &mut self.stage {
            stage(&format!("llama_layer{layer}.{name}.in"), x);
            stage(&format!("llama_layer{layer}.{name}.out"), y);
        }
    }

    pub(crate) fn time<T>(
        &mut self,
        part: LayerPart,
        run: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let begin = Instant::now();
        let value = run();
        self.times.0[part as usize] += begin.elapsed();
        value
    }
}
