//! Allow-points and verification: from which layer on a gap may be skipped, and whether a step runs
//! again.

use super::{Continuity, Gap, Layers, SkipConfig, Verify};
use crate::Result;
use crate::dispatch::{MAX_ACTION, split_rows, widen};

/// The effect of an action, or of a chunk of actions, on the continuity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgment {
    /// C_t after the last action.
    pub continuity: f64,
    /// The delta that moves the allow-points.
    pub delta: f64,
    /// Whether the continuity drops by the rule of [`SkipConfig::verify`].
    pub drops: bool,
}

impl Judgment {
    /// The judgment before any action.
    pub(super) const NONE: Self = Self {
        continuity: 0.0,
        delta: 0.0,
        drops: false,
    };
}

/// A judgment, and the history that includes its actions. [`Guide::commit`] makes it the new
/// history.
#[derive(Clone, Debug)]
pub(super) struct Evaluated {
    pub judgment: Judgment,
    continuity: Continuity,
}

/// Pre-skip prediction and post-skip verification over the actions of one episode.
///
/// See the [module](super) for the formulas and the order of calls.
///
/// ```
/// use w4ax::skip::{Guide, Layers, SkipConfig};
/// # fn main() -> w4ax::Result<()> {
/// // Layers 0 and 4 are static: gaps 1..4 and 5..8.
/// let mut guide = Guide::new(&SkipConfig::default(), &Layers::new(8, &[0, 4])?)?;
/// assert_eq!(guide.allow_points(), [1, 5]);
/// guide.observe(&[0.0; 7])?;
/// // The gripper closes: this action is verified, and no layer may be skipped after it.
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
    /// `[gaps]`: the first layer that may be skipped.
    allow: Vec<usize>,
    /// Set by an invalid action, cleared when the window is full again.
    fault: bool,
}

impl Guide {
    /// Creates a guide at the start of an episode.
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

    /// Returns the configuration.
    pub const fn config(&self) -> &SkipConfig {
        &self.config
    }

    /// Returns the allow-points, `[gaps]` by [`Layers::gaps`]: the first layer of the gap that may
    /// be skipped, or the gap's end if none may.
    pub fn allow_points(&self) -> &[usize] {
        &self.allow
    }

    /// Returns the continuity of the observed actions.
    pub const fn continuity(&self) -> &Continuity {
        &self.continuity
    }

    /// Returns whether an invalid action disables skipping at present.
    pub const fn in_fault(&self) -> bool {
        self.fault
    }

    /// Judges actions, `[n, dims]` row-major, oldest first, without adding them to the history.
    ///
    /// # Errors
    /// As [`Guide::observe`].
    pub fn judge<T: Copy + Into<f64>>(&self, actions: &[T]) -> Result<Judgment> {
        self.evaluate(actions).map(|evaluated| evaluated.judgment)
    }

    pub(super) fn evaluate<T: Copy + Into<f64>>(&self, actions: &[T]) -> Result<Evaluated> {
        let dims = self.config.dims();
        let chunk = split_rows("actions", dims, actions)?;
        let mut buffer = [0.0; MAX_ACTION];
        let mut continuity = self.continuity.clone();
        let (mut drops, mut lowest, mut highest) = (false, f64::INFINITY, f64::NEG_INFINITY);
        for (at, action) in chunk.enumerate() {
            let action = widen(dims, action, &mut buffer)?;
            let before = continuity.delta();
            continuity
                .push(action)
                .map_err(|error| error.in_row(at, dims))?;
            let delta = continuity.delta();
            drops |= self.config.verify().drops(before, delta, self.config.eta());
            (lowest, highest) = (lowest.min(delta), highest.max(delta));
        }
        let delta = if lowest < -self.config.eta1() {
            lowest
        } else {
            highest
        };
        let judgment = Judgment {
            continuity: continuity.value(),
            delta,
            drops,
        };
        Ok(Evaluated {
            judgment,
            continuity,
        })
    }

    /// Adds the actions that a step used, `[n, dims]` row-major, oldest first, and moves the
    /// allow-points.
    ///
    /// # Errors
    /// - [`Error::Shape`] if there is no action, or the numbers are not a multiple of those of an
    ///   action, [`SkipConfig::dims`].
    /// - [`Error::NotFinite`] with the index of the first NaN or infinity.
    /// - [`Error::Range`] if the numbers are finite, but the continuity overflows.
    ///
    /// After an error the history is cleared, and no layer may be skipped until the window holds k
    /// changes of valid actions again. The action that fills the window moves the allow-points from
    /// the start of their gaps.
    ///
    /// [`Error::Shape`]: crate::Error::Shape
    /// [`Error::NotFinite`]: crate::Error::NotFinite
    /// [`Error::Range`]: crate::Error::Range
    pub fn observe<T: Copy + Into<f64>>(&mut self, actions: &[T]) -> Result<Judgment> {
        let evaluated = self.evaluate(actions).inspect_err(|_| self.fail())?;
        let judgment = evaluated.judgment;
        self.commit(evaluated);
        Ok(judgment)
    }

    /// Adds evaluated actions to the history and moves the allow-points.
    pub(super) fn commit(&mut self, evaluated: Evaluated) {
        self.continuity = evaluated.continuity;
        if self.fault && self.continuity.is_full() {
            self.fault = false;
            self.restart_points();
        }
        if !self.fault && self.config.pre_skip() {
            for (point, gap) in self.allow.iter_mut().zip(&self.gaps) {
                *point = moved(*point, *gap, evaluated.judgment.delta, &self.config);
            }
        }
    }

    /// Disables skipping until the window is full again, as an invalid action does.
    pub fn fail(&mut self) {
        self.continuity.clear();
        self.fault = true;
        for (point, gap) in self.allow.iter_mut().zip(&self.gaps) {
            *point = gap.end;
        }
    }

    /// Starts an episode: clears the history and the fault, and resets the allow-points.
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
    /// Returns whether `delta` (delta_t) is a drop after `before` (delta_{t-1}) by this rule.
    pub fn drops(self, before: f64, delta: f64, eta: f64) -> bool {
        match self {
            Self::Off => false,
            Self::RiseThenDrop => delta < -eta && before > eta,
            Self::FirstDrop => delta < -eta && before >= -eta,
        }
    }
}

/// Returns the new allow-point: several layers forward after a drop, one layer back after a rise.
fn moved(point: usize, gap: Gap, delta: f64, config: &SkipConfig) -> usize {
    if delta < -config.eta1() {
        let stride = (-delta / config.eta1()).ceil();
        // The stride may be infinite, so it is compared before the conversion to an integer.
        if stride >= (gap.end - point) as f64 {
            gap.end
        } else {
            point + stride as usize
        }
    } else if delta > config.eta2() {
        point.saturating_sub(1).max(gap.start)
    } else {
        point
    }
}
