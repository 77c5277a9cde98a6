//! The weights of the numbers of an action.

use std::fmt::{Debug, Formatter};
use std::ops::{Deref, DerefMut};

use crate::dispatch::{ActionLayout, MAX_ACTION};
use crate::{Error, Result};

/// The weight of each number of an action in the continuity, `[dims]` with at most [`MAX_ACTION`].
///
/// An array converts to weights. So do a [layout](ActionLayout), whose weights are 1 each, and a
/// slice.
///
/// ```
/// use w4ax::dispatch::ActionLayout;
/// use w4ax::skip::{SkipConfig, Weights};
/// let mut weights = Weights::from(ActionLayout::aloha());
/// weights[6] = 0.5; // The first gripper.
/// let config = SkipConfig::default().with_weights(weights);
/// assert_eq!(config.weights().len(), 14);
/// ```
#[derive(Clone, Copy)]
pub struct Weights {
    values: [f64; MAX_ACTION],
    len: usize,
}

impl Weights {
    /// Returns weights of 1. `len` is at most [`MAX_ACTION`].
    pub(super) const fn ones(len: usize) -> Self {
        Self {
            values: [1.0; MAX_ACTION],
            len,
        }
    }

    /// Returns the number of weights.
    pub const fn dims(&self) -> usize {
        self.len
    }
}

impl Deref for Weights {
    type Target = [f64];

    fn deref(&self) -> &[f64] {
        &self.values[..self.len]
    }
}

impl DerefMut for Weights {
    fn deref_mut(&mut self) -> &mut [f64] {
        &mut self.values[..self.len]
    }
}

impl PartialEq for Weights {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Debug for Weights {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        Debug::fmt(&**self, f)
    }
}

impl From<ActionLayout> for Weights {
    fn from(layout: ActionLayout) -> Self {
        Self::ones(layout.dims())
    }
}

impl<const N: usize> From<[f64; N]> for Weights {
    /// Does not compile for an array without elements, or of more than [`MAX_ACTION`].
    fn from(weights: [f64; N]) -> Self {
        const { assert!(1 <= N && N <= MAX_ACTION, "an action has 1 to 64 numbers") }
        let mut all = Self::ones(N);
        all.copy_from_slice(&weights);
        all
    }
}

impl TryFrom<&[f64]> for Weights {
    type Error = Error;

    /// # Errors
    /// [`Error::Config`] with field `weights` if there is no weight, or more than [`MAX_ACTION`].
    fn try_from(weights: &[f64]) -> Result<Self> {
        if !(1..=MAX_ACTION).contains(&weights.len()) {
            let reason = format!("has {} numbers: expected 1 to {MAX_ACTION}", weights.len());
            return Err(Error::Config {
                field: "weights",
                reason,
            });
        }
        let mut all = Self::ones(weights.len());
        all.copy_from_slice(weights);
        Ok(all)
    }
}
