//! The continuity of a trajectory, C_t, and its change.

use super::SkipConfig;
use crate::dispatch::{ACTION_DIM, Action, MotionWindow, check_finite, norm};
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
    weights: [f64; ACTION_DIM],
    /// `|w * (A_j - A_{j-1})|` of the last steps.
    changes: MotionWindow<{ SkipConfig::MAX_WINDOW }>,
    last: Option<Action>,
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
            last: None,
            value: 0.0,
            delta: 0.0,
        })
    }

    /// Adds the action of one step.
    ///
    /// # Errors
    /// The history is unchanged after an error.
    /// - [`Error::NotFinite`] if an element is NaN or infinite.
    /// - [`Error::Range`] if the elements are finite, but the continuity overflows.
    pub fn push(&mut self, action: &Action) -> Result<()> {
        check_finite(action)?;
        let Some(last) = &self.last else {
            self.last = Some(*action);
            return Ok(());
        };
        let change = norm::<ACTION_DIM>(std::array::from_fn(|i| {
            self.weights[i] * (action[i] - last[i])
        }));
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
        (self.changes, self.last) = (changes, Some(*action));
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
        (self.last, self.value, self.delta) = (None, 0.0, 0.0);
    }
}
