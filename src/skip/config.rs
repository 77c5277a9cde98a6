//! What guides skipping.

use crate::dispatch::ACTION_DIM;
use crate::{Error, Result};

/// The longest window of the continuity, in steps. It bounds what a step copies.
pub const MAX_WINDOW: usize = 32;

/// When an action makes its step run again with nothing skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// Never.
    Off,
    /// `delta_t < -eta` and `delta_{t-1} > eta`: the paper's rule. It needs a rise before the drop, which few of an
    /// expert's gripper flips have.
    RiseThenDrop,
    /// `delta_t < -eta` and not `delta_{t-1} < -eta`: the first step of a drop.
    #[default]
    FirstDrop,
}

/// The configuration of a [`Guide`](super::Guide) and a [`Skipper`](super::Skipper). Checked when one is made from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SkipConfig {
    /// k: steps in the continuity, 1 to [`MAX_WINDOW`].
    pub window: usize,
    /// What each number of an action counts in `|A_j - A_{j-1}|`; finite, at least 0, not all 0.
    pub weights: [f64; ACTION_DIM],
    /// A drop of the continuity that moves the allow-points forward: by a layer for each eta1 in it, rounded up; above 0.
    pub eta1: f64,
    /// A rise of the continuity that moves the allow-points back by one; at least 0.
    pub eta2: f64,
    /// A drop that is verified; at least 0.
    pub eta: f64,
    /// Whether the allow-points move: without, they stay at the start of their gaps.
    pub pre_skip: bool,
    /// When a step runs again.
    pub verify: Verify,
    /// A controller's probability above this skips; in [0, 1].
    pub threshold: f32,
}

impl SkipConfig {
    /// The paper's window.
    pub const WINDOW: usize = 5;
    /// For all three: the paper's code has 1e-3, with which a single flip of the gripper moves an allow-point by 400 layers.
    pub const ETA: f64 = 0.05;
    /// The paper's threshold.
    pub const THRESHOLD: f32 = 0.5;

    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Config`] with the first field that is outside its range.
    pub fn validate(&self) -> Result<()> {
        let refuse = |field, reason| Err(Error::Config { field, reason });
        if !(1..=MAX_WINDOW).contains(&self.window) {
            let reason = format!("is {}, it must be in 1..={MAX_WINDOW}", self.window);
            return refuse("window", reason);
        }
        let good = |weight: &f64| weight.is_finite() && *weight >= 0.0;
        if !self.weights.iter().all(good) || self.weights == [0.0; ACTION_DIM] {
            let reason = format!(
                "are {:?}, they must be finite, at least 0 and not all 0",
                self.weights
            );
            return refuse("weights", reason);
        }
        if !(self.eta1.is_finite() && self.eta1 > 0.0) {
            return refuse("eta1", format!("is {}, it must be above 0", self.eta1));
        }
        for (field, eta) in [("eta2", self.eta2), ("eta", self.eta)] {
            if !(eta.is_finite() && eta >= 0.0) {
                return refuse(field, format!("is {eta}, it must be at least 0"));
            }
        }
        if !(0.0..=1.0).contains(&self.threshold) {
            let reason = format!("is {}, it must be in [0, 1]", self.threshold);
            return refuse("threshold", reason);
        }
        Ok(())
    }
}

impl Default for SkipConfig {
    /// All numbers of an action at weight 1, the points move, first drops are verified.
    fn default() -> Self {
        Self {
            window: Self::WINDOW,
            weights: [1.0; ACTION_DIM],
            eta1: Self::ETA,
            eta2: Self::ETA,
            eta: Self::ETA,
            pre_skip: true,
            verify: Verify::default(),
            threshold: Self::THRESHOLD,
        }
    }
}
