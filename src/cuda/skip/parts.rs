//! The parts of a step that skips layers, and the arguments of its capture.

use crate::cuda::memory::DeviceMatRef;
use crate::cuda::sys;
use crate::skip::{Layers, SkipConfig};
use crate::{Error, Result};
use half::bf16;
use std::collections::BTreeMap;

/// The last layer of a controller: `p = sigmoid(out . silu(hidden) + bias)`, in f32 on the device.
#[derive(Clone, Copy, Debug)]
pub struct DeviceController<'a> {
    /// The hidden vector `[1, hc]` that [`SkipPart::Controller`] computes.
    pub hidden: &'a DeviceMatRef<'a, bf16>,
    /// The weights of the output `[1, hc]`.
    pub out: &'a DeviceMatRef<'a, f32>,
    /// The bias of the output.
    pub bias: f32,
}

/// A part of a step that the caller enqueues on the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipPart {
    /// The part before the layers: the embedding, a [latch](crate::cuda::Latch) of the step. It
    /// always runs.
    Before,
    /// A layer, on the hidden state.
    Layer(usize),
    /// The controller of a dynamic layer up to its hidden vector. It reads the input of the layer
    /// and does not change it.
    Controller(usize),
    /// The adapter of layer `from`. It computes the input of layer `to`, or of the head behind the
    /// last layer, from the input of `from`.
    Adapter {
        /// The layer that skips.
        from: usize,
        /// The end of its gap.
        to: usize,
    },
    /// The part after the layers: the head. It always runs.
    After,
}

impl std::fmt::Display for SkipPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Before => f.write_str("the part before the layers"),
            Self::Layer(layer) => write!(f, "layer {layer}"),
            Self::Controller(layer) => write!(f, "the controller of layer {layer}"),
            Self::Adapter { from, .. } => write!(f, "the adapter of layer {from}"),
            Self::After => f.write_str("the part after the layers"),
        }
    }
}

/// Options of a [`SkipGraph`](super::SkipGraph). By default the threshold is
/// [`SkipConfig::THRESHOLD`], and steps are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct SkipOptions {
    threshold: f32,
    first: u32,
}

impl Default for SkipOptions {
    fn default() -> Self {
        Self {
            threshold: SkipConfig::THRESHOLD,
            first: 0,
        }
    }
}

impl SkipOptions {
    /// Sets the threshold in [0, 1]: a layer whose controller returns a larger p is skipped.
    #[must_use]
    pub fn with_threshold(self, threshold: f32) -> Self {
        Self { threshold, ..self }
    }

    /// Sets the number of the first step.
    #[must_use]
    pub fn with_first(self, first: u32) -> Self {
        Self { first, ..self }
    }

    /// The threshold.
    pub fn threshold(&self) -> f32 {
        self.threshold
    }

    /// The number of the first step.
    pub fn first(&self) -> u32 {
        self.first
    }
}

/// Checks the arguments of a capture that need no device.
pub(super) fn check(
    layers: &Layers,
    controllers: &BTreeMap<usize, DeviceController<'_>>,
    options: &SkipOptions,
) -> Result<()> {
    let most = sys::W4AXK_MAX_SKIP_GAPS as usize;
    let gaps = layers.gaps().len();
    if !(1..=most).contains(&gaps) {
        return Err(Error::shape("gaps", [gaps.clamp(1, most)], [gaps]));
    }
    if !(0.0..=1.0).contains(&options.threshold) {
        let reason = format!("{}: expected a value in [0, 1]", options.threshold);
        return Err(Error::Config {
            field: "threshold",
            reason,
        });
    }
    let dynamic: Vec<usize> = layers.dynamic_layers().collect();
    if !dynamic.iter().eq(controllers.keys()) {
        let got: Vec<usize> = controllers.keys().copied().collect();
        return Err(Error::Mismatch {
            what: "controllers",
            expected: format!("the controllers of layers {dynamic:?}"),
            got: format!("those of layers {got:?}"),
        });
    }
    for DeviceController { hidden, out, .. } in controllers.values() {
        let (hidden, out) = ([hidden.rows(), hidden.cols()], [out.rows(), out.cols()]);
        let longest = sys::W4AXK_MAX_SKIP_HIDDEN as usize;
        let expected = [1, hidden[1].clamp(1, longest)];
        if hidden != expected {
            return Err(Error::shape("hidden vector", expected, hidden));
        }
        if out != hidden {
            return Err(Error::shape("controller", hidden, out));
        }
    }
    Ok(())
}
