//! Options of a step engine.

use crate::{Error, Result, Width};
use std::time::Duration;

/// When the width of a step is decided, and which part of the step it applies to.
///
/// The enum is exhaustive, because a [`StepEngine`](super::StepEngine) must implement every
/// variant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decide {
    /// Before the step. The width applies to the prefill and the decode. The decision needs only
    /// earlier actions and takes less than a microsecond.
    #[default]
    BeforeStep,
    /// While the prefill runs, as in DyQ-VLA, section V-B. The width applies to the decode.
    DuringPrefill(PrefillWidth),
}

/// The width of a prefill that runs before the width of the step is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefillWidth {
    /// The same width in every step.
    Fixed(Width),
    /// The width of the previous step, and BF16 in the first step.
    LastLatched,
}

/// Options of a step engine.
///
/// ```
/// use std::time::Duration;
/// use w4ax::step::{Decide, StepOptions};
/// let options = StepOptions::default().with_spin(Duration::from_millis(5));
/// assert_eq!(options.decide(), Decide::BeforeStep);
/// assert!(options.with_spin(Duration::from_secs(2)).validate().is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepOptions {
    decide: Decide,
    spin: Duration,
}

impl StepOptions {
    /// The longest time that a latch may wait.
    pub const MAX_SPIN: Duration = Duration::from_secs(1);

    /// Sets when the width is decided. The default is [`Decide::BeforeStep`].
    #[must_use]
    pub const fn with_decide(mut self, decide: Decide) -> Self {
        self.decide = decide;
        self
    }

    /// Sets how long the latch waits for the word of its step before it selects BF16, at most
    /// [`MAX_SPIN`](Self::MAX_SPIN). With zero, the default, it reads the flag once.
    #[must_use]
    pub const fn with_spin(mut self, spin: Duration) -> Self {
        self.spin = spin;
        self
    }

    /// Returns when the width is decided.
    pub const fn decide(&self) -> Decide {
        self.decide
    }

    /// Returns how long the latch waits for the word of its step.
    pub const fn spin(&self) -> Duration {
        self.spin
    }

    /// Checks the options.
    ///
    /// # Errors
    /// [`Error::Config`] if the spin is longer than [`MAX_SPIN`](Self::MAX_SPIN).
    pub fn validate(&self) -> Result<()> {
        if self.spin > Self::MAX_SPIN {
            return Err(Error::Config {
                field: "spin",
                reason: format!("is {:?}: expected at most {:?}", self.spin, Self::MAX_SPIN),
            });
        }
        Ok(())
    }
}
