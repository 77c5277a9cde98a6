//! Configuration of skipping.

use super::Weights;
use crate::dispatch::ActionLayout;
use crate::{Error, Result};

/// The rule by which an action makes its step run again with no layer skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verify {
    /// A step never runs again.
    Off,
    /// `delta_t < -eta` and `delta_{t-1} > eta`: the paper's rule. It requires a rise before the
    /// drop, which few gripper flips of an expert have.
    RiseThenDrop,
    /// `delta_t < -eta` and not `delta_{t-1} < -eta`: the first step of a drop.
    #[default]
    FirstDrop,
}

/// The configuration of a [`Guide`](super::Guide) and a [`Skipper`](super::Skipper), which validate
/// it.
///
/// ```
/// use w4ax::skip::{SkipConfig, Verify};
/// let config = SkipConfig::default().with_window(4).with_verify(Verify::Off);
/// assert_eq!(config.window(), 4);
/// assert!(config.with_eta1(0.0).validate().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SkipConfig {
    window: usize,
    /// `[dims]`
    weights: Weights,
    eta1: f64,
    eta2: f64,
    eta: f64,
    pre_skip: bool,
    verify: Verify,
    threshold: f32,
}

impl SkipConfig {
    /// The longest window of the continuity, in steps. It bounds what a step copies.
    pub const MAX_WINDOW: usize = 32;
    /// The default window of the continuity, in steps; the paper's value.
    pub const WINDOW: usize = 5;
    /// The default of `eta1`, `eta2` and `eta`. The paper's code has 1e-3, with which one flip of
    /// the gripper moves an allow-point by 400 layers.
    pub const ETA: f64 = 0.05;
    /// The default threshold of a controller; the paper's value.
    pub const THRESHOLD: f32 = 0.5;

    /// Returns the default configuration, see [`Default`].
    pub const fn new() -> Self {
        Self {
            window: Self::WINDOW,
            weights: Weights::ones(ActionLayout::end_effector().dims()),
            eta1: Self::ETA,
            eta2: Self::ETA,
            eta: Self::ETA,
            pre_skip: true,
            verify: Verify::FirstDrop,
            threshold: Self::THRESHOLD,
        }
    }

    /// Sets k, the number of steps in the continuity, 1 to [`MAX_WINDOW`](Self::MAX_WINDOW).
    #[must_use]
    pub const fn with_window(mut self, window: usize) -> Self {
        self.window = window;
        self
    }

    /// Sets the weight of each number of an action in `|w * (A_j - A_{j-1})|`, `[dims]`. Each is
    /// finite and at least 0, and at least one is above 0. An action has as many numbers as there
    /// are weights. The default is 1 for each number of the default layout.
    #[must_use]
    pub fn with_weights(mut self, weights: impl Into<Weights>) -> Self {
        self.weights = weights.into();
        self
    }

    /// Sets eta1, above 0. A drop of the continuity by more than eta1 moves the allow-points
    /// forward, by one layer per eta1, rounded up.
    #[must_use]
    pub const fn with_eta1(mut self, eta1: f64) -> Self {
        self.eta1 = eta1;
        self
    }

    /// Sets eta2, at least 0. A rise of the continuity by more than eta2 moves the allow-points
    /// back by one layer.
    #[must_use]
    pub const fn with_eta2(mut self, eta2: f64) -> Self {
        self.eta2 = eta2;
        self
    }

    /// Sets eta, at least 0: a drop of the continuity by more than eta is verified.
    #[must_use]
    pub const fn with_eta(mut self, eta: f64) -> Self {
        self.eta = eta;
        self
    }

    /// Sets whether the allow-points move. If not, they stay at the start of their gaps.
    #[must_use]
    pub const fn with_pre_skip(mut self, pre_skip: bool) -> Self {
        self.pre_skip = pre_skip;
        self
    }

    /// Sets the rule by which a step runs again.
    #[must_use]
    pub const fn with_verify(mut self, verify: Verify) -> Self {
        self.verify = verify;
        self
    }

    /// Sets the threshold, in [0, 1]. A layer is skipped if its controller's probability is above
    /// it.
    #[must_use]
    pub const fn with_threshold(mut self, threshold: f32) -> Self {
        self.threshold = threshold;
        self
    }

    /// Returns k, the number of steps in the continuity.
    pub const fn window(&self) -> usize {
        self.window
    }

    /// Returns the weight of each number of an action, `[dims]`.
    pub const fn weights(&self) -> Weights {
        self.weights
    }

    /// Returns the number of values of an action.
    pub const fn dims(&self) -> usize {
        self.weights.dims()
    }

    /// Returns eta1, the drop that moves the allow-points forward.
    pub const fn eta1(&self) -> f64 {
        self.eta1
    }

    /// Returns eta2, the rise that moves the allow-points back.
    pub const fn eta2(&self) -> f64 {
        self.eta2
    }

    /// Returns eta, the drop that is verified.
    pub const fn eta(&self) -> f64 {
        self.eta
    }

    /// Returns whether the allow-points move.
    pub const fn pre_skip(&self) -> bool {
        self.pre_skip
    }

    /// Returns the rule by which a step runs again.
    pub const fn verify(&self) -> Verify {
        self.verify
    }

    /// Returns the threshold of the controllers.
    pub const fn threshold(&self) -> f32 {
        self.threshold
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Config`] with the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        let invalid = |field, reason| Err(Error::Config { field, reason });
        if !(1..=Self::MAX_WINDOW).contains(&self.window) {
            let reason = format!("is {}: expected 1 to {}", self.window, Self::MAX_WINDOW);
            return invalid("window", reason);
        }
        let valid = |weight: &f64| weight.is_finite() && *weight >= 0.0;
        if !self.weights.iter().all(valid) || self.weights.iter().all(|w| *w == 0.0) {
            let reason = format!(
                "is {:?}: expected finite values of at least 0, not all 0",
                self.weights
            );
            return invalid("weights", reason);
        }
        if !(self.eta1.is_finite() && self.eta1 > 0.0) {
            let reason = format!("is {}: expected a finite value above 0", self.eta1);
            return invalid("eta1", reason);
        }
        for (field, eta) in [("eta2", self.eta2), ("eta", self.eta)] {
            if !(eta.is_finite() && eta >= 0.0) {
                let reason = format!("is {eta}: expected a finite value of at least 0");
                return invalid(field, reason);
            }
        }
        if !(0.0..=1.0).contains(&self.threshold) {
            let reason = format!("is {}: expected a value in [0, 1]", self.threshold);
            return invalid("threshold", reason);
        }
        Ok(())
    }
}

impl Default for SkipConfig {
    /// Returns weights of 1, moving allow-points, and verification of first drops.
    fn default() -> Self {
        Self::new()
    }
}
