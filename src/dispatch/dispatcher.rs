//! The dispatcher itself: actions in, decisions out.

use super::config::{Algorithm, DispatchConfig};
use super::counter::SaturatingCounter;
use super::kinematics::{ACTION_DIM, Action, Kinematics};
use super::window::TargetWindow;
use crate::{Error, Result, Width};

/// The width of one step, and why it is that one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// S, at least 0; 1 where there is no history to take it from ([`Reason::Start`], [`Reason::Fault`]). NaN or
    /// infinite only for motion that overflows f64, which has the target BF16.
    pub sensitivity: f64,
    /// The width that S asks for, Phi(S).
    pub target: Width,
    /// The width to run at, never below `target`.
    pub active: Width,
    /// Why `active` is what it is.
    pub reason: Reason,
}

/// Why the active width is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No action was observed yet: BF16.
    Start,
    /// A bad action: BF16.
    Fault,
    /// The target is the width of the step before.
    Steady,
    /// The target is above the width of the step before: up at once.
    Rose,
    /// The target is below the active width, and has not been for long enough.
    Held {
        /// Steps that count towards K so far.
        count: u32,
        /// The width that `count` is about: where the active width goes when `count` reaches K.
        pending: Width,
    },
    /// K steps asked for no more than this width: down.
    SteppedDown,
}

/// Turns targets into active widths.
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
            Self::Window(w) => (w.step(target), (w.run(target), target)),
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

/// Whether the last observations were good.
#[derive(Clone, Copy, Debug)]
enum Health {
    Good,
    /// A bad action was observed; `reported` once a decision has said so.
    Fault {
        reported: bool,
    },
}

/// Decides the activation width of every control step from the motion before it. See the [module](super) for the
/// order of calls and the formulas.
///
/// ```
/// use w4ax::Width;
/// use w4ax::dispatch::{DispatchConfig, Dispatcher, MotionScale, Thresholds};
/// # fn main() -> w4ax::Result<()> {
/// let motion = MotionScale { mu_max: 0.9, nu_max: 0.2 };
/// let thresholds = Thresholds { theta_24: 0.275, theta_48: 0.4, theta_fp: 0.5 };
/// let mut dispatcher = Dispatcher::new(&DispatchConfig::new(motion, thresholds))?;
/// assert_eq!(dispatcher.decide().active, Width::Bf16); // Nothing is known yet.
/// for _ in 0..8 {
///     dispatcher.observe(&[0.8f64, 0.3, 0.0, 0.0, 0.0, 0.0, 1.0])?; // A fast, straight swing,
///     dispatcher.decide();
/// }
/// assert_eq!(dispatcher.decide().active, Width::A2); // for long enough.
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Dispatcher {
    kinematics: Kinematics,
    hysteresis: Hysteresis,
    config: DispatchConfig,
    health: Health,
}

impl Dispatcher {
    /// At the start of an episode.
    ///
    /// # Errors
    /// [`Error::Config`] as [`DispatchConfig::validate`] gives it.
    pub fn new(config: &DispatchConfig) -> Result<Self> {
        Ok(Self {
            kinematics: Kinematics::new(config)?,
            hysteresis: match config.algorithm {
                Algorithm::SaturatingCounter => {
                    Hysteresis::Counter(SaturatingCounter::new(config.k))
                }
                Algorithm::Window => Hysteresis::Window(TargetWindow::new(config.k)),
            },
            config: *config,
            health: Health::Good,
        })
    }

    /// What it was made with.
    pub const fn config(&self) -> &DispatchConfig {
        &self.config
    }

    /// The width of the last decision; BF16 before the first one and from the moment that an observation failed.
    pub fn active(&self) -> Width {
        self.hysteresis.active()
    }

    /// Takes in the action that this step commanded, f32 or f64, 7 numbers.
    ///
    /// # Errors
    /// - [`Error::Shape`]: not 7 numbers;
    /// - [`Error::NotFinite`]: NaN or an infinity, with its position;
    /// - [`Error::Range`]: finite, but so large that the motion is not.
    ///
    /// After an error the dispatcher is in fault:
    /// - the motion before it is forgotten (what follows a hole in time is no jerk), and the state of the
    ///   hysteresis is that of an episode's start, (16, 0, 16);
    /// - [`active`](Self::active) is BF16 at once, and the next decision is BF16 with [`Reason::Fault`], even if
    ///   good actions were observed in between;
    /// - so is every decision until a good action was observed. That action is the first of a new history.
    ///   [`reset`](Self::reset) ends a fault too.
    pub fn observe<T: Copy + Into<f64>>(&mut self, action: &[T]) -> Result<()> {
        let taken = self.take(action);
        if taken.is_err() {
            self.fail();
        }
        taken
    }

    /// Takes in a chunk of actions, row-major `[n, 7]` with n at least 1, oldest first.
    ///
    /// # Errors
    /// As [`observe`](Self::observe), for the first bad action; the position that [`Error::NotFinite`] gives is the
    /// one in the chunk. The rest of the chunk is not taken in, and the dispatcher is in fault.
    pub fn observe_chunk<T: Copy + Into<f64>>(&mut self, actions: &[T]) -> Result<()> {
        let taken = self.take_chunk(actions);
        if taken.is_err() {
            self.fail();
        }
        taken
    }

    /// The width of the step that comes now, from what was observed up to now. Call it once a step or chunk: each
    /// call is a step of the hysteresis.
    pub fn decide(&mut self) -> Decision {
        let no_history = self.kinematics.is_empty();
        let (unjudged, reason) = match &mut self.health {
            Health::Good => (no_history, Reason::Start),
            Health::Fault { reported } => (
                !std::mem::replace(reported, true) || no_history,
                Reason::Fault,
            ),
        };
        if unjudged {
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
        let target = self.config.thresholds.target(sensitivity);
        let (active, reason) = self.hysteresis.step(target);
        Decision {
            sensitivity,
            target,
            active,
            reason,
        }
    }

    /// Starts an episode: no history, active width 16, no fault.
    pub fn reset(&mut self) {
        self.kinematics.clear();
        self.hysteresis.reset();
        self.health = Health::Good;
    }

    fn fail(&mut self) {
        self.reset();
        self.health = Health::Fault { reported: false };
    }

    fn take<T: Copy + Into<f64>>(&mut self, action: &[T]) -> Result<()> {
        let Ok(action) = <&[T; ACTION_DIM]>::try_from(action) else {
            return Err(shape("7 numbers", action.len()));
        };
        let action: Action = action.map(Into::into);
        self.kinematics.push(&action)
    }

    fn take_chunk<T: Copy + Into<f64>>(&mut self, actions: &[T]) -> Result<()> {
        let (rows, rest) = actions.as_chunks::<ACTION_DIM>();
        if rows.is_empty() || !rest.is_empty() {
            return Err(shape(
                "7 numbers an action, at least one action",
                actions.len(),
            ));
        }
        for (row, action) in rows.iter().enumerate() {
            self.take(action).map_err(|error| match error {
                Error::NotFinite { what, index, value } => Error::NotFinite {
                    what,
                    index: row * ACTION_DIM + index,
                    value,
                },
                other => other,
            })?;
        }
        Ok(())
    }
}

fn shape(expected: &str, got: usize) -> Error {
    Error::Shape {
        what: "action",
        expected: expected.into(),
        got: format!("{got} numbers"),
    }
}
