//! How continuous a trajectory is: C_t and its change.

use super::{MAX_WINDOW, SkipConfig};
use crate::dispatch::{ACTION_DIM, Action, Window, check_finite, norm};
use crate::{Error, Result};

/// The continuity of the actions of an episode so far.
///
/// ```
/// use w4ax::skip::{Continuity, SkipConfig};
/// # fn main() -> w4ax::Result<()> {
/// let mut continuity = Continuity::new(&SkipConfig::default())?;
/// continuity.push(&[0.0; 7])?;
/// assert_eq!(continuity.value(), 0.0); // One action: nothing has changed yet.
/// continuity.push(&[0.3, 0.4, 0.0, 0.0, 0.0, 0.0, 0.0])?;
/// assert_eq!((continuity.value(), continuity.delta()), (-0.5, -0.5));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Continuity {
    weights: [f64; ACTION_DIM],
    /// `|w * (A_j - A_{j-1})|` of the last steps.
    changes: Window<MAX_WINDOW>,
    last: Option<Action>,
    value: f64,
    delta: f64,
}

impl Continuity {
    /// No history yet.
    ///
    /// # Errors
    /// As [`SkipConfig::validate`].
    pub fn new(config: &SkipConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            weights: config.weights,
            changes: Window::new(config.window),
            last: None,
            value: 0.0,
            delta: 0.0,
        })
    }

    /// Takes in the action of one step.
    ///
    /// # Errors
    /// The history stays as it was after
    /// - [`Error::NotFinite`]: an element is NaN or infinite;
    /// - [`Error::Range`]: the elements are finite, but so large that the continuity is not.
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
        // Not -0.
        let value = 0.0 - changes.mean();
        if !value.is_finite() {
            return Err(Error::Range {
                what: "action",
                value: format!("{action:?}"),
                range: "what has a finite continuity",
            });
        }
        (self.delta, self.value) = (value - self.value, value);
        (self.changes, self.last) = (changes, Some(*action));
        Ok(())
    }

    /// C_t, at most 0: 0 below two actions.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// delta_t: 0 below two actions.
    pub fn delta(&self) -> f64 {
        self.delta
    }

    /// Whether the mean is over k steps, not over fewer for want of history.
    pub fn is_full(&self) -> bool {
        self.changes.len() == self.changes.size()
    }

    /// Forgets all actions.
    pub fn clear(&mut self) {
        self.changes.clear();
        (self.last, self.value, self.delta) = (None, 0.0, 0.0);
    }
}
