//! The control step as a user writes it.

use std::time::Duration;

use super::words::{Executed, StepFlag};
use crate::dispatch::{Decision, Dispatcher};
use crate::{Error, Result, Width};

/// When a step's width is decided, and so what the decision routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decide {
    /// Before the step: the decision needs the actions up to the step before only, and costs under a microsecond. It routes
    /// the prefill and the decode.
    #[default]
    BeforeStep,
    /// While the prefill runs, as in DyQ-VLA's section V-B: it routes the decode.
    DuringPrefill(PrefillWidth),
}

/// The width of a prefill that runs before the step's width is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefillWidth {
    /// Always this one.
    Fixed(Width),
    /// That of the step before; BF16 in the first.
    LastLatched,
}

/// How an engine runs its steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepOptions {
    /// When the decision is taken.
    pub decide: Decide,
    /// How long the latch waits for the step's own word before it takes BF16; zero: it looks once. At most a second.
    pub spin: Duration,
}

impl StepOptions {
    /// The longest that a latch waits.
    pub const MAX_SPIN: Duration = Duration::from_secs(1);

    /// # Errors
    /// [`Error::Config`] for a spin of more than a second.
    pub fn validate(&self) -> Result<()> {
        if self.spin > Self::MAX_SPIN {
            return Err(Error::Config {
                field: "spin",
                reason: format!("must be at most {:?}, not {:?}", Self::MAX_SPIN, self.spin),
            });
        }
        Ok(())
    }
}

/// Who runs the steps: a thread of the host ([`super::HostEngine`]) or a GPU (`cuda::CudaEngine`).
///
/// A step is what follows, in one order, enqueued by `begin` and finished by `finish`. With [`Decide::BeforeStep`]: load the
/// observation, latch, prefill, decode. With [`Decide::DuringPrefill`]: load, prefill, latch, decode. Nobody but the latch
/// reads the flag.
pub trait StepEngine {
    /// What a step begins with.
    type Observation: ?Sized;

    /// How it runs its steps.
    fn options(&self) -> &StepOptions;

    /// The words that its latch reads and writes.
    fn words(&self) -> &StepFlag;

    /// Enqueues step `sequence`, and does not wait for it.
    ///
    /// # Errors
    /// Whatever keeps it from being enqueued.
    fn begin(&mut self, sequence: u32, observation: &Self::Observation) -> Result<()>;

    /// The flag of the step that was begun has been stored. For engines whose host must act on it; others need nothing.
    ///
    /// # Errors
    /// Whatever keeps the step from going on.
    fn decided(&mut self, sequence: u32) -> Result<()> {
        let _ = sequence;
        Ok(())
    }

    /// Waits for the end of the step.
    ///
    /// # Errors
    /// Whatever failed in the step.
    fn finish(&mut self) -> Result<()>;
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Its number.
    pub sequence: u32,
    /// What the dispatcher decided for it; `None` if it was not asked in time, or at all.
    pub decision: Option<Decision>,
    /// The width that its prefill ran at.
    pub prefill: Width,
    /// The width that its decode ran at, as its latch wrote it, and why.
    pub decode: Executed,
}

impl StepReport {
    /// Whether the decode ran at what the dispatcher decided.
    pub fn as_decided(&self) -> bool {
        self.decision
            .is_some_and(|decision| decision.active == self.decode.width)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// Between two steps; what was decided for the next one.
    Between(Option<Decision>),
    /// In a step.
    Running(Option<Decision>),
}

/// Control steps: a dispatcher that decides, an engine that runs, and the flag between them.
///
/// ```
/// use std::time::Duration;
/// use w4ax::dispatch::{DispatchConfig, Dispatcher, MotionScale, Thresholds};
/// use w4ax::step::{Decide, HostEngine, HostStep, PrefillWidth, StepOptions, StepPipeline};
/// use w4ax::{Width, Result};
///
/// /// A policy on the CPU: here one that only says what it was run at.
/// struct Policy;
/// impl HostStep for Policy {
///     type Observation = [f32];
///     type Loaded = Vec<f32>;
///     fn load(loaded: &mut Vec<f32>, observation: &[f32]) {
///         loaded.clear();
///         loaded.extend_from_slice(observation);
///     }
///     fn prefill(&mut self, _: &Vec<f32>, width: Width) -> Result<()> {
///         println!("290 tokens at {width}");
///         Ok(())
///     }
///     fn decode(&mut self, _: &Vec<f32>, width: Width) -> Result<()> {
///         println!("7 action tokens at {width}");
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let motion = MotionScale { mu_max: 0.9, nu_max: 0.2 };
/// let thresholds = Thresholds { theta_24: 0.275, theta_48: 0.4, theta_fp: 0.5 };
/// let dispatcher = Dispatcher::new(&DispatchConfig::new(motion, thresholds))?;
///
/// let options = StepOptions {
///     decide: Decide::DuringPrefill(PrefillWidth::Fixed(Width::A8)),
///     // A decision that is late makes the decode wait for it so long, and then run at BF16.
///     spin: Duration::from_millis(100),
/// };
/// let mut pipeline = StepPipeline::new(HostEngine::new(Policy, options)?, dispatcher);
/// let mut action = [0.3f64, 0.0, -0.1, 0.0, 0.0, 0.0, 1.0];
/// for _ in 0..3 {
///     pipeline.begin(&[0.0; 16])?; // The prefill runs from here on,
///     pipeline.decide(&[action])?; // this beside it.
///     let report = pipeline.finish()?;
///     println!("step {}: {} as {}", report.sequence, report.decode.width, report.decode.outcome);
///     action[0] *= 0.9; // What the robot did then.
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct StepPipeline<E: StepEngine> {
    engine: E,
    dispatcher: Dispatcher,
    sequence: u32,
    state: State,
    last: Width,
}

impl<E: StepEngine> StepPipeline<E> {
    /// Steps from 0 on: the engine must not have run any.
    pub fn new(engine: E, dispatcher: Dispatcher) -> Self {
        Self {
            engine,
            dispatcher,
            sequence: 0,
            state: State::Between(None),
            last: Width::Bf16,
        }
    }

    /// The engine.
    pub fn engine(&self) -> &E {
        &self.engine
    }

    /// The engine, to read results from between steps.
    pub fn engine_mut(&mut self) -> &mut E {
        &mut self.engine
    }

    /// The dispatcher, as it stands.
    pub fn dispatcher(&self) -> &Dispatcher {
        &self.dispatcher
    }

    /// The number of the step that runs, or of the next one.
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Forgets the motion so far: a new episode begins. Between two steps.
    ///
    /// # Errors
    /// [`Error::InvalidState`] in a step.
    pub fn reset(&mut self) -> Result<()> {
        self.state = match self.state {
            State::Between(_) => State::Between(None),
            State::Running(_) => return Err(order("reset", "a step runs")),
        };
        self.dispatcher.reset();
        // A decision that was stored for the next step must not outlive the episode it was taken for.
        self.engine
            .words()
            .requested()
            .store_word(crate::FlagWord::UNWRITTEN);
        Ok(())
    }

    /// Begins a step: enqueues all of it, and does not wait.
    ///
    /// With [`Decide::BeforeStep`] the width is decided and stored first, unless [`StepPipeline::decide`] has done that.
    ///
    /// # Errors
    /// [`Error::InvalidState`] if a step runs already; whatever the engine answers.
    pub fn begin(&mut self, observation: &E::Observation) -> Result<()> {
        let State::Between(decision) = self.state else {
            return Err(order("begin", "the step before has not been finished"));
        };
        let decision = match (decision, self.engine.options().decide) {
            (None, Decide::BeforeStep) => Some(self.store()),
            (decision, _) => decision,
        };
        self.state = State::Between(decision);
        self.engine.begin(self.sequence, observation)?;
        self.state = State::Running(decision);
        Ok(())
    }

    /// Observes the actions that the robot has taken since the last call, decides the width, and stores it for the step that
    /// runs, or else for the next one: nothing else passes between the decision and the step.
    ///
    /// With [`Decide::BeforeStep`] it belongs before [`StepPipeline::begin`], with [`Decide::DuringPrefill`] between that and
    /// [`StepPipeline::finish`] (or before as well). If it comes after the step's latch has read, the step runs at BF16, and
    /// its report says so.
    ///
    /// # Errors
    /// [`Error::InvalidState`] if the step's width is decided already. What [`Dispatcher::observe`] answers for an action that it
    /// refuses: then BF16 is what was decided and stored, and the step goes on.
    pub fn decide<T: Copy + Into<f64>, A: AsRef<[T]>>(
        &mut self,
        actions: &[A],
    ) -> Result<Decision> {
        match (self.state, self.engine.options().decide) {
            (State::Between(Some(_)) | State::Running(Some(_)), _) => {
                return Err(order("decide", "the width of this step is decided"));
            }
            (State::Running(None), Decide::BeforeStep) => {
                return Err(order("decide", "the step has begun"));
            }
            _ => {}
        }
        let refused = actions
            .iter()
            .try_for_each(|action| self.dispatcher.observe(action.as_ref()));
        let decision = self.store();
        match &mut self.state {
            State::Between(decided) => *decided = Some(decision),
            State::Running(decided) => {
                *decided = Some(decision);
                self.engine.decided(self.sequence)?;
            }
        }
        refused.map(|()| decision)
    }

    fn store(&mut self) -> Decision {
        let decision = self.dispatcher.decide();
        self.engine
            .words()
            .requested()
            .store(self.sequence, decision.active);
        decision
    }

    /// Waits for the end of the step, and says what ran. The number of the next step is one more, whether this one failed or
    /// not.
    ///
    /// # Errors
    /// [`Error::InvalidState`] if no step runs, or if another one than this one was latched last; whatever failed in the step.
    pub fn finish(&mut self) -> Result<StepReport> {
        let State::Running(decision) = self.state else {
            return Err(order("finish", "no step runs"));
        };
        self.state = State::Between(None);
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        let ended = self.engine.finish();
        let executed = self.engine.words().executed();
        let last = self.last;
        // A step that failed was latched all the same: what comes next may run at its width.
        if let Some(executed) = executed {
            self.last = executed.width;
        }
        ended?;
        let decode = match executed {
            Some(executed) if executed.sequence == sequence => executed,
            other => {
                return Err(Error::InvalidState {
                    call: "finish",
                    reason: match other {
                        Some(other) => format!(
                            "step {sequence} ended, and {} was latched last",
                            other.sequence
                        ),
                        None => format!("step {sequence} ended, and none was latched"),
                    },
                });
            }
        };
        let prefill = match self.engine.options().decide {
            Decide::BeforeStep => decode.width,
            Decide::DuringPrefill(PrefillWidth::Fixed(width)) => width,
            Decide::DuringPrefill(PrefillWidth::LastLatched) => last,
        };
        Ok(StepReport {
            sequence,
            decision,
            prefill,
            decode,
        })
    }
}

fn order(call: &'static str, reason: &str) -> Error {
    Error::InvalidState {
        call,
        reason: reason.into(),
    }
}
