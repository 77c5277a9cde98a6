//! The scale of a task's motion, and its estimate from the actions themselves.

use super::config::invalid;
use super::layout::{ActionLayout, MAX_ACTION, widen};
use super::motion::MotionTracker;
use super::sketch::PercentileSketch;
use crate::{Error, Result};

/// The percentile that normalizes motion.
pub const PERCENTILE: f64 = 95.0;

/// The scale that normalizes a task's motion: 95th percentiles of its calibration data.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct MotionScale {
    /// The percentile of the speed, `|a_xyz|` of the default layout, in action units. Finite and
    /// above 0.
    pub mu_max: f64,
    /// The percentile of the change of the rotation per step, `|a_rot(t) - a_rot(t-1)|` of the
    /// default layout, in action units per step. Finite and above 0.
    pub nu_max: f64,
}

impl MotionScale {
    /// Checks that both scales are finite and above 0.
    ///
    /// # Errors
    /// [`Error::Config`] with the first scale that is not.
    pub fn validate(&self) -> Result<()> {
        for (field, value) in [("mu_max", self.mu_max), ("nu_max", self.nu_max)] {
            if !(value.is_finite() && value > 0.0) {
                return invalid(
                    field,
                    format!("is {value}: expected a finite value above 0"),
                );
            }
        }
        Ok(())
    }
}

/// Estimates the scale of a task's motion from its actions, by sketches of fixed size.
///
/// The percentiles are those of a [calibration](crate::calibrate) over the same actions, with the
/// relative error of a [`PercentileSketch`]. Of two arms, each step adds the larger speed and the
/// larger change.
///
/// ```
/// use w4ax::dispatch::{ActionLayout, MotionScaleEstimator};
/// # fn main() -> w4ax::Result<()> {
/// let mut estimator = MotionScaleEstimator::new(&ActionLayout::default());
/// for t in 0..400_u32 {
///     let x = f64::from(t) * 0.1;
///     estimator.observe(&[x.sin(), 0.0, 0.0, 0.1 * x.cos(), 0.0, 0.0, 1.0])?;
/// }
/// let scale = estimator.scale().expect("400 actions are enough");
/// assert!((scale.mu_max - 0.997).abs() < 0.01);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct MotionScaleEstimator {
    tracker: MotionTracker,
    speeds: PercentileSketch,
    turns: PercentileSketch,
}

impl MotionScaleEstimator {
    /// The number of changes of rotation from which on there is an estimate: 10 of them are above
    /// the percentile.
    pub const MIN_SAMPLES: u64 = 200;

    /// Creates an estimator without actions.
    pub fn new(layout: &ActionLayout) -> Self {
        Self {
            tracker: MotionTracker::new(layout),
            speeds: PercentileSketch::new(),
            turns: PercentileSketch::new(),
        }
    }

    /// Adds an action, f32 or f64.
    ///
    /// # Errors
    /// The estimator is unchanged after an error.
    /// - [`Error::Shape`] if the action does not have the numbers of the layout.
    /// - [`Error::NotFinite`] with the index of the first NaN or infinity.
    /// - [`Error::Range`] if a rotation is none, or the motion overflows.
    pub fn observe<T: Copy + Into<f64>>(&mut self, action: &[T]) -> Result<()> {
        let dims = self.tracker.layout().dims();
        let mut buffer = [0.0; MAX_ACTION];
        let action = widen(dims, action, &mut buffer)?;
        if let Some(motion) = self.tracker.measure(action)? {
            let (speed, turn) = (motion.speed(), motion.turn());
            // Both are checked before either is added.
            if !(speed.is_finite() && turn.is_finite()) {
                return Err(overflow(action));
            }
            self.speeds.add(speed)?;
            if motion.turned {
                self.turns.add(turn)?;
            }
        }
        self.tracker.commit(action);
        Ok(())
    }

    /// Returns the scale. `None` with fewer than [`MIN_SAMPLES`](Self::MIN_SAMPLES) changes of
    /// rotation, or if a percentile is 0.
    pub fn scale(&self) -> Option<MotionScale> {
        if self.samples() < Self::MIN_SAMPLES {
            return None;
        }
        let scale = MotionScale {
            mu_max: self.speeds.percentile(PERCENTILE)?,
            nu_max: self.turns.percentile(PERCENTILE)?,
        };
        scale.validate().is_ok().then_some(scale)
    }

    /// Returns the number of changes of rotation.
    pub const fn samples(&self) -> u64 {
        self.turns.len()
    }

    /// Adds all motion of another estimator, such as one of another robot at the same task.
    pub fn merge(&mut self, other: &Self) {
        self.speeds.merge(&other.speeds);
        self.turns.merge(&other.turns);
    }

    /// Starts an episode: the next action has no change to the last one. The percentiles stay.
    pub fn reset(&mut self) {
        self.tracker.clear();
    }
}

/// The error of an action whose motion overflows.
pub(super) fn overflow(action: &[f64]) -> Error {
    Error::Range {
        what: "action",
        value: format!("{action:?}"),
        range: "an action of finite motion",
    }
}
