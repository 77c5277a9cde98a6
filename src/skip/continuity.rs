//! The continuity of a trajectory, C_t, and its change.

use super::{SkipConfig, Weights};
use crate::dispatch::{MAX_ACTION, MotionWindow, check_finite, norm};
use crate::{Error, Result};

/// The continuity of the recent actions of one episode.
///
/// ```
/// use w4ax::skip::{Continuity, SkipConfig};
/// # fn main() -> w4ax::Result<()> {
/// let mut continuity = Continuity::new(&SkipConfig::default())?;
/// continuity.push(&[0.0; 7])?;
/// assert_eq!(continuity.value(), 0.0); // One action has no change yet.
/// continuity.push(&[0.3, 0.4, 0.0, 0.0, 0.0, 0.0, 0.0])?;
/// assert_eq!((continuity.value(), continuity.delta()), (-0.5, -0.5));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Continuity {
    weights: Weights,
    /// `|w * (A_j - A_{j-1})|` of the last steps.
    changes: MotionWindow<{ SkipConfig::MAX_WINDOW }>,
    /// `[dims]`: the last action, if `started`.
    last: [f64; MAX_ACTION],
    started: bool,
    value: f64,
    delta: f64,
}

impl Continuity {
    /// Creates an empty history.
    ///
    /// # Errors
    /// As [`SkipConfig::validate`].
    pub fn new(config: &SkipConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            weights: config.weights(),
            changes: MotionWindow::new(config.window()),
            last: [0.0; MAX_ACTION],
            started: false,
            value: 0.0,
            delta: 0.0,
        })
    }

    /// Adds the action of one step, `[dims]` by the weights.
    ///
    /// # Errors
    /// The history is unchanged after an error.
    /// - [`Error::Shape`] if there is another number of elements than of weights.
    /// - [`Error::NotFinite`] if an element is NaN or infinite.
    /// - [`Error::Range`] if the elements are finite, but the continuity overflows.
    pub fn push(&mut self, action: &[f64]) -> Result<()> {
        let dims = self.weights.len();
        if action.len() != dims {
            return Err(Error::shape("action", [dims], [action.len()]));
        }
        check_finite(action)?;
        if !self.started {
            self.last[..dims].copy_from_slice(action);
            self.started = true;
            return Ok(());
        }
        let pairs = action.iter().zip(&self.last).zip(self.weights.iter());
        let change = norm(pairs.map(|((now, last), weight)| weight * (now - last)));
        let mut changes = self.changes.clone();
        changes.push(change);
        // Subtracting from 0 avoids -0.
        let value = 0.0 - changes.mean();
        if !value.is_finite() {
            return Err(Error::Range {
                what: "action",
                value: format!("{action:?}"),
                range: "an action of finite continuity",
            });
        }
        (self.delta, self.value) = (value - self.value, value);
        self.changes = changes;
        self.last[..dims].copy_from_slice(action);
        Ok(())
    }

    /// Returns C_t, at most 0. It is 0 with fewer than two actions.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// Returns delta_t. It is 0 with fewer than two actions.
    pub fn delta(&self) -> f64 {
        self.delta
    }

    /// Returns whether the window holds k changes.
    pub fn is_full(&self) -> bool {
        self.changes.len() == self.changes.size()
    }

    /// Clears the history.
    pub fn clear(&mut self) {
        self.changes.clear();
        (self.started, self.value, self.delta) = (false, 0.0, 0.0);
    }
}
