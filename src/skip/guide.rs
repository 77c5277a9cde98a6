//! The trajectory's say: from where on a layer may be skipped, and whether an action is run again.

use super::{Continuity, Gap, Layers, SkipConfig, Verify};
use crate::dispatch::{ACTION_DIM, Action};
use crate::{Error, Result};

/// What an action, or a chunk of them, does to the continuity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgment {
    /// C_t after the last action.
    pub continuity: f64,
    /// The delta that moves the allow-points: the action's, or that of a chunk.
    pub delta: f64,
    /// Whether it makes a first drop, by [`SkipConfig::verify`].
    pub drops: bool,
}

impl Judgment {
    /// Of no action.
    pub(super) const NONE: Self = Self {
        continuity: 0.0,
        delta: 0.0,
        drops: false,
    };
}

/// A judgment, and the history with its actions: to take or to leave.
pub(super) struct Followed {
    pub judgment: Judgment,
    continuity: Continuity,
}

/// Pre-skip prediction and post-skip verification over the actions of one episode. See the [module](super) for the formulas and
/// the order of calls.
///
/// ```
/// use w4ax::skip::{Guide, Layers, SkipConfig};
/// # fn main() -> w4ax::Result<()> {
/// // Layers 0 and 4 are static: gaps 1..4 and 5..8.
/// let mut guide = Guide::new(&SkipConfig::default(), &Layers::new(8, &[0, 4])?)?;
/// assert_eq!(guide.allow_points(), [1, 5]);
/// guide.observe(&[0.0; 7])?;
/// // The gripper closes: that action is verified, and nothing is skipped behind it.
/// let closing = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0];
/// assert!(guide.judge(&closing)?.drops);
/// guide.observe(&closing)?;
/// assert_eq!(guide.allow_points(), [4, 8]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Guide {
    config: SkipConfig,
    gaps: Vec<Gap>,
    continuity: Continuity,
    /// By gap; where [`Guide::observe`] has moved them.
    allow: Vec<usize>,
    /// After a bad action, until the window is full again.
    fault: bool,
}

impl Guide {
    /// At the start of an episode.
    ///
    /// # Errors
    /// As [`SkipConfig::validate`].
    pub fn new(config: &SkipConfig, layers: &Layers) -> Result<Self> {
        Ok(Self {
            config: *config,
            gaps: layers.gaps().to_vec(),
            continuity: Continuity::new(config)?,
            allow: layers.gaps().iter().map(|gap| gap.start).collect(),
            fault: false,
        })
    }

    /// What it was made with.
    pub const fn config(&self) -> &SkipConfig {
        &self.config
    }

    /// The allow-point of each gap of [`Layers::gaps`]: the first layer that may be skipped, the gap's end for none.
    pub fn allow_points(&self) -> &[usize] {
        &self.allow
    }

    /// C and delta of what was observed.
    pub const fn continuity(&self) -> &Continuity {
        &self.continuity
    }

    /// Whether nothing is skipped because of a bad action.
    pub const fn in_fault(&self) -> bool {
        self.fault
    }

    /// What these actions would do, `[n, 7]` row-major, oldest first; nothing changes.
    ///
    /// # Errors
    /// As [`Guide::observe`].
    pub fn judge<T: Copy + Into<f64>>(&self, actions: &[T]) -> Result<Judgment> {
        self.follow(actions).map(|followed| followed.judgment)
    }

    pub(super) fn follow<T: Copy + Into<f64>>(&self, actions: &[T]) -> Result<Followed> {
        let chunk = check_chunk(actions)?;
        let mut continuity = self.continuity.clone();
        let (mut drops, mut lowest, mut highest) = (false, f64::INFINITY, f64::NEG_INFINITY);
        for (at, action) in chunk.iter().enumerate() {
            let action: Action = action.map(Into::into);
            let before = continuity.delta();
            continuity.push(&action).map_err(|error| match error {
                Error::NotFinite { what, index, value } => Error::NotFinite {
                    what,
                    index: at * ACTION_DIM + index,
                    value,
                },
                other => other,
            })?;
            let delta = continuity.delta();
            drops |= self.config.verify.drops(before, delta, self.config.eta);
            (lowest, highest) = (lowest.min(delta), highest.max(delta));
        }
        let delta = if lowest < -self.config.eta1 {
            lowest
        } else {
            highest
        };
        let judgment = Judgment {
            continuity: continuity.value(),
            delta,
            drops,
        };
        Ok(Followed {
            judgment,
            continuity,
        })
    }

    /// Takes in the actions that were used in a step, `[n, 7]` row-major, oldest first, and moves the allow-points.
    ///
    /// # Errors
    /// - [`Error::Shape`]: no actions, or no whole number of them;
    /// - [`Error::NotFinite`]: NaN or an infinity, with its position;
    /// - [`Error::Range`]: finite, but so large that the continuity is not.
    ///
    /// After an error the history is forgotten, and nothing is skipped until k changes of good actions are known, k the window. The action that
    /// ends this moves the points, as any does, from the start of their gaps.
    pub fn observe<T: Copy + Into<f64>>(&mut self, actions: &[T]) -> Result<Judgment> {
        let followed = self.follow(actions).inspect_err(|_| self.fail())?;
        let judgment = followed.judgment;
        self.take(followed);
        Ok(judgment)
    }

    /// Those actions were used.
    pub(super) fn take(&mut self, followed: Followed) {
        self.continuity = followed.continuity;
        if self.fault && self.continuity.is_full() {
            self.fault = false;
            self.restart_points();
        }
        if !self.fault && self.config.pre_skip {
            for (point, gap) in self.allow.iter_mut().zip(&self.gaps) {
                *point = moved(*point, *gap, followed.judgment.delta, &self.config);
            }
        }
    }

    /// Puts it in fault, as a bad action does: nothing is skipped until the window is full again.
    pub fn fail(&mut self) {
        self.continuity.clear();
        self.fault = true;
        for (point, gap) in self.allow.iter_mut().zip(&self.gaps) {
            *point = gap.end;
        }
    }

    /// The start of an episode.
    pub fn reset(&mut self) {
        self.continuity.clear();
        self.fault = false;
        self.restart_points();
    }

    fn restart_points(&mut self) {
        for (point, gap) in self.allow.iter_mut().zip(&self.gaps) {
            *point = gap.start;
        }
    }
}

impl Verify {
    /// Whether delta_t makes a first drop after delta_{t-1}, `before`.
    pub fn drops(self, before: f64, delta: f64, eta: f64) -> bool {
        match self {
            Self::Off => false,
            Self::RiseThenDrop => delta < -eta && before > eta,
            Self::FirstDrop => delta < -eta && before >= -eta,
        }
    }
}

/// The actions of a step: at least one, and no part of one.
pub(super) fn check_chunk<T>(actions: &[T]) -> Result<&[[T; ACTION_DIM]]> {
    match actions.as_chunks() {
        (chunk @ [_, ..], []) => Ok(chunk),
        _ => Err(Error::Shape {
            what: "actions",
            expected: format!("[n, {ACTION_DIM}], n at least 1"),
            got: format!("{} numbers", actions.len()),
        }),
    }
}

/// Fast towards caution, slow back.
fn moved(point: usize, gap: Gap, delta: f64, config: &SkipConfig) -> usize {
    if delta < -config.eta1 {
        let stride = (-delta / config.eta1).ceil();
        // Of any size, infinite too: compared before it is an integer.
        if stride >= (gap.end - point) as f64 {
            gap.end
        } else {
            point + stride as usize
        }
    } else if delta > config.eta2 {
        point.saturating_sub(1).max(gap.start)
    } else {
        point
    }
}
