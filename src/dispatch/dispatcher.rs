//! The dispatcher: observes actions and decides widths.

use super::config::{Algorithm, DispatchConfig};
use super::cost::StepCosts;
use super::counter::SaturatingCounter;
use super::kinematics::Kinematics;
use super::layout::{MAX_ACTION, widen};
use super::scale::{MotionScale, MotionScaleEstimator};
use super::window::TargetWindow;
use crate::{Result, Width};

/// The width of one step, and the reason for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// S, at least 0. It is 1 without history ([`Reason::Start`], [`Reason::Fault`]). It is NaN or
    /// infinite only if the motion overflows f64; the target is BF16 then.
    pub sensitivity: f64,
    /// The target width, Phi(S). With [costs](DispatchConfig::with_costs) it is never dominated.
    pub target: Width,
    /// The width to run at, never below `target`.
    pub active: Width,
    /// The reason for `active`.
    pub reason: Reason,
}

/// The reason for an active width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// No action was observed yet. The width is BF16.
    Start,
    /// An invalid action was observed. The width is BF16.
    Fault,
    /// The target equals the previous active width.
    Steady,
    /// The target is above the previous active width, and is active at once.
    Rose,
    /// The target is below the active width, but for fewer than K steps.
    Held {
        /// Steps that count towards K so far.
        count: u32,
        /// The width that becomes active when `count` reaches K.
        pending: Width,
    },
    /// The last K targets were at most this width, so the width went down.
    SteppedDown,
}

impl Reason {
    /// Returns the name in reports: `start`, `fault`, `steady`, `rose`, `held` or `stepped-down`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Fault => "fault",
            Self::Steady => "steady",
            Self::Rose => "rose",
            Self::Held { .. } => "held",
            Self::SteppedDown => "stepped-down",
        }
    }
}

/// Maps target widths to active widths.
#[derive(Clone, Copy, Debug)]
enum Hysteresis {
    Counter(SaturatingCounter),
    Window(TargetWindow),
}

impl Hysteresis {
    fn active(&self) -> Width {
        match self {
            Self::Counter(counter) => counter.active(),
            Self::Window(window) => window.active(),
        }
    }

    fn step(&mut self, target: Width) -> (Width, Reason) {
        let before = self.active();
        let (active, held) = match self {
            Self::Counter(c) => (c.step(target), (c.count(), c.pending())),
            Self::Window(w) => (w.step(target), (w.streak(target), target)),
        };
        let reason = if target > before {
            Reason::Rose
        } else if target == before {
            Reason::Steady
        } else if active < before {
            Reason::SteppedDown
        } else {
            Reason::Held {
                count: held.0,
                pending: held.1,
            }
        };
        (active, reason)
    }

    fn reset(&mut self) {
        match self {
            Self::Counter(counter) => counter.reset(),
            Self::Window(window) => window.reset(),
        }
    }
}

/// Whether the observations were valid.
#[derive(Clone, Copy, Debug)]
enum Health {
    Good,
    /// An invalid action was observed. `reported` is set once a decision has returned the fault.
    Fault {
        reported: bool,
    },
}

/// Decides the activation width of each control step from the preceding motion.
///
/// See the [module](super) for the order of calls and the formulas.
///
/// ```
/// use w4ax::Width;
/// use w4ax::dispatch::{DispatchConfig, Dispatcher, MotionScale, Thresholds};
/// # fn main() -> w4ax::Result<()> {
/// let motion = MotionScale { mu_max: 0.9, nu_max: 0.2 };
/// let thresholds = Thresholds { theta_24: 0.275, theta_48: 0.4, theta_fp: 0.5 };
/// let mut dispatcher = Dispatcher::new(&DispatchConfig::new(motion, thresholds))?;
/// assert_eq!(dispatcher.decide().active, Width::Bf16); // No action was observed yet.
/// for _ in 0..8 {
///     dispatcher.observe(&[0.8f64, 0.3, 0.0, 0.0, 0.0, 0.0, 1.0])?; // A fast, straight motion.
///     dispatcher.decide();
/// }
/// assert_eq!(dispatcher.decide().active, Width::A2); // It lasted at least K steps.
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Dispatcher {
    kinematics: Kinematics,
    hysteresis: Hysteresis,
    config: DispatchConfig,
    health: Health,
    online: Option<Box<MotionScaleEstimator>>,
}

impl Dispatcher {
    /// With an online scale, the number of changes of rotation between two updates of the scale.
    pub const SCALE_PERIOD: u64 = 64;

    /// Creates a dispatcher at the start of an episode.
    ///
    /// # Errors
    /// As [`DispatchConfig::validate`].
    pub fn new(config: &DispatchConfig) -> Result<Self> {
        Ok(Self {
            kinematics: Kinematics::new(config)?,
            hysteresis: match config.algorithm() {
                Algorithm::SaturatingCounter => {
                    Hysteresis::Counter(SaturatingCounter::new(config.k()))
                }
                Algorithm::Window => Hysteresis::Window(TargetWindow::new(config.k())),
            },
            config: *config,
            health: Health::Good,
            online: None,
        })
    }

    /// Keeps the scale of the motion online: from [`MotionScaleEstimator::MIN_SAMPLES`] changes of
    /// rotation on, and then every [`SCALE_PERIOD`](Self::SCALE_PERIOD) of them, the percentiles of
    /// all observed actions replace the scale. Until then the scale is that of the configuration.
    ///
    /// Actions in the windows keep the scale of their time. The percentiles outlast
    /// [`reset`](Self::reset) and faults, because they belong to the task. The sketches take about
    /// 20 KB, which this call allocates.
    #[must_use]
    pub fn with_online_scale(mut self) -> Self {
        let estimator = MotionScaleEstimator::new(self.config.layout());
        self.online = Some(Box::new(estimator));
        self
    }

    /// Sets the cost of a step at each width, such as one that was measured at the start, or
    /// removes it. From the next decision on no dominated width is the target, see
    /// [`DispatchConfig::with_costs`]. The history stays.
    ///
    /// # Errors
    /// As [`StepCosts::validate`]. The costs are unchanged then.
    pub fn set_costs(&mut self, costs: Option<StepCosts>) -> Result<()> {
        if let Some(costs) = &costs {
            costs.validate()?;
        }
        self.config.set_costs(costs);
        Ok(())
    }

    /// Returns the scale of the motion at present. Without an online scale, it is that of the
    /// configuration.
    pub const fn motion(&self) -> MotionScale {
        self.kinematics.motion()
    }

    /// Returns the configuration.
    pub const fn config(&self) -> &DispatchConfig {
        &self.config
    }

    /// Returns the width of the last decision. BF16 before the first decision and after an
    /// observation that failed.
    pub fn active(&self) -> Width {
        self.hysteresis.active()
    }

    /// Adds the action that this step commanded, `[dims]` by the layout, f32 or f64.
    ///
    /// # Errors
    /// - [`Error::Shape`] if the action does not have the numbers of the layout.
    /// - [`Error::NotFinite`] with the index of the first NaN or infinity.
    /// - [`Error::Range`] if the numbers are finite, but the motion overflows, or the numbers of a
    ///   rotation are no rotation, such as a quaternion of 0.
    ///
    /// After an error the dispatcher is in fault:
    /// - The history is cleared, because a change of rotation over a gap in time is not a jerk. The
    ///   hysteresis is reset to (16, 0, 16).
    /// - [`active`](Self::active) is BF16 at once. The next decision is BF16 with
    ///   [`Reason::Fault`], even if valid actions are observed before it.
    /// - Every further decision is BF16 until a valid action is observed, which starts a new
    ///   history.
    ///
    /// [`reset`](Self::reset) also ends a fault.
    ///
    /// [`Error::Shape`]: crate::Error::Shape
    /// [`Error::NotFinite`]: crate::Error::NotFinite
    /// [`Error::Range`]: crate::Error::Range
    pub fn observe<T: Copy + Into<f64>>(&mut self, action: &[T]) -> Result<()> {
        self.push(action).inspect_err(|_| self.fail())
    }

    /// Adds a chunk of actions, row-major `[n, dims]` with n at least 1, oldest first.
    ///
    /// # Errors
    /// As [`observe`](Self::observe), for the first invalid action. [`Error::NotFinite`] gives the
    /// index in the chunk. The remaining actions are not added, and the dispatcher is in fault.
    ///
    /// [`Error::NotFinite`]: crate::Error::NotFinite
    pub fn observe_chunk<T: Copy + Into<f64>>(&mut self, actions: &[T]) -> Result<()> {
        self.push_chunk(actions).inspect_err(|_| self.fail())
    }

    /// Returns the width of the next step from the actions observed so far.
    ///
    /// Call it once per step or chunk: each call is one step of the hysteresis.
    pub fn decide(&mut self) -> Decision {
        let no_history = self.kinematics.is_empty();
        let (forced, reason) = match &mut self.health {
            Health::Good => (no_history, Reason::Start),
            Health::Fault { reported } => (
                !std::mem::replace(reported, true) || no_history,
                Reason::Fault,
            ),
        };
        if forced {
            let target = Width::Bf16;
            let (active, _) = self.hysteresis.step(target);
            return Decision {
                sensitivity: 1.0,
                target,
                active,
                reason,
            };
        }
        let sensitivity = self.kinematics.sensitivity();
        let target = self.config.target(sensitivity);
        let (active, reason) = self.hysteresis.step(target);
        Decision {
            sensitivity,
            target,
            active,
            reason,
        }
    }

    /// Starts an episode: clears the history and the fault, and sets the active width to BF16.
    pub fn reset(&mut self) {
        self.kinematics.clear();
        self.hysteresis.reset();
        self.health = Health::Good;
        if let Some(online) = &mut self.online {
            online.reset();
        }
    }

    fn fail(&mut self) {
        self.reset();
        self.health = Health::Fault { reported: false };
    }

    fn push<T: Copy + Into<f64>>(&mut self, action: &[T]) -> Result<()> {
        let dims = self.config.layout().dims();
        let mut buffer = [0.0; MAX_ACTION];
        let action = widen(dims, action, &mut buffer)?;
        self.kinematics.push(action)?;
        if let Some(online) = &mut self.online {
            let before = online.samples();
            online.observe(action)?;
            let enough = online
                .samples()
                .checked_sub(MotionScaleEstimator::MIN_SAMPLES);
            let due = online.samples() > before
                && enough.is_some_and(|more| more.is_multiple_of(Self::SCALE_PERIOD));
            if let Some(scale) = due.then(|| online.scale()).flatten() {
                self.kinematics.set_motion(scale);
            }
        }
        Ok(())
    }

    fn push_chunk<T: Copy + Into<f64>>(&mut self, actions: &[T]) -> Result<()> {
        let layout = *self.config.layout();
        for (row, action) in layout.rows("action", actions)?.enumerate() {
            self.push(action)
                .map_err(|error| error.in_row(row, layout.dims()))?;
        }
        Ok(())
    }
}
