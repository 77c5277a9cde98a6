//! The plan of a training. A run that resumes must have the same plan.

use w4ax::Error;
use w4ax::skip::Layers;

use super::batches::Disturb;
use super::losses::Weights;

/// Everything that the trained networks depend on, except for the arithmetic of the machine.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Plan {
    /// The [`fingerprint`] of the policy's and the dataset's files.
    pub inputs: String,
    /// The share of static layers, selected by similarity; `None` for no static layers.
    pub static_ratio: Option<f64>,
    /// The layer of an early exit: one adapter from its input to the head, and no gaps.
    pub exit: Option<usize>,
    /// ha.
    pub adapter_hidden: usize,
    /// hc.
    pub controller_hidden: usize,
    /// The weights of the losses.
    pub weights: Weights,
    /// The disturbance of the rows.
    pub disturb: Disturb,
    /// Steps of stage 1 and stage 2.
    pub steps: [usize; 2],
    /// Rows per step.
    pub batch: usize,
    /// Parts of a batch, one per thread.
    pub parts: usize,
    /// The largest learning rate; it rises linearly over the first steps and falls to 0 along a
    /// cosine.
    pub rate: f64,
    /// The largest norm of the gradients of a step.
    pub clip: f64,
    /// The seed of all random numbers.
    pub seed: u64,
}

/// Steps over which the learning rate rises.
const RISE: usize = 100;

impl Plan {
    /// # Errors
    /// [`Error::Range`] for an invalid number.
    pub fn check(&self) -> w4ax::Result<()> {
        let counts = [
            ("adapter-hidden", self.adapter_hidden),
            ("controller-hidden", self.controller_hidden),
            ("steps of stage 2", self.steps[1]),
            ("parts", self.parts),
        ];
        for (what, value) in counts {
            if value == 0 {
                return Err(range(what, "0", "1 and more"));
            }
        }
        if self.batch == 0 || !self.batch.is_multiple_of(self.parts) {
            let value = format!("{} in {} parts", self.batch, self.parts);
            return Err(range("batch", value, "whole parts of it, not empty"));
        }
        let sizes = [
            ("lambda", self.weights.lambda),
            ("weight of whole skips", self.weights.whole),
            ("weight of the distance", self.weights.distance),
            ("weight of the risk", self.weights.risk),
            ("noise", self.disturb.noise),
        ];
        for (what, value) in sizes {
            if !(value.is_finite() && value >= 0.0) {
                return Err(range(what, value, "0 and more, finite"));
            }
        }
        for (what, value) in [("rate", self.rate), ("clip", self.clip)] {
            if !(value.is_finite() && value > 0.0) {
                return Err(range(what, value, "above 0, finite"));
            }
        }
        match self.disturb.between {
            0.0..=1.0 => Ok(()),
            between => Err(range("share between steps", between, "[0, 1]")),
        }
    }

    /// Selects the layers by these similarities. An exit has no gaps.
    ///
    /// # Errors
    /// As [`Layers::by_similarity`]. [`Error::Range`] for an exit that is not a layer.
    pub fn layers(&self, similarity: &[f64]) -> w4ax::Result<Layers> {
        let n = similarity.len();
        match (self.exit, self.static_ratio) {
            (Some(exit), _) if exit >= n => Err(range("exit", exit, "the stack's layers")),
            (Some(_), _) => Layers::new(n, &(0..n).collect::<Vec<_>>()),
            (None, Some(ratio)) => Layers::by_similarity(similarity, ratio),
            (None, None) => Layers::new(n, &[]),
        }
    }

    /// Returns the learning rate of a step of a stage of `steps`. Steps count from 0.
    pub fn rate_at(&self, step: usize, steps: usize) -> f64 {
        let rise = ((step + 1) as f64 / RISE.min(steps) as f64).min(1.0);
        let fall = (std::f64::consts::PI * step as f64 / steps as f64).cos();
        self.rate * rise * 0.5 * (1.0 + fall)
    }
}

/// Returns a 64-bit FNV-1a hash of each file, to tell files apart.
pub fn fingerprint(files: &[&[u8]]) -> String {
    let hash = |bytes: &[u8]| {
        let step = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
    };
    let hashes = files.iter().map(|bytes| format!("{:016x}", hash(bytes)));
    hashes.collect::<Vec<_>>().join("-")
}

fn range(what: &'static str, value: impl ToString, range: &'static str) -> Error {
    Error::Range {
        what,
        value: value.to_string(),
        range,
    }
}
