//! The control step: a dispatcher, an engine, and the flag between them.

use std::time::Duration;

use super::words::{Executed, StepFlag};
use crate::dispatch::{Decision, Dispatcher};
use crate::{Error, Result, Width};

/// When the width of a step is decided, and which part of the step it applies to.
///
/// The enum is exhaustive, because a [`StepEngine`] must implement every variant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decide {
    /// Before the step. The width applies to the prefill and the decode. The decision needs only earlier actions
    /// and takes less than a microsecond.
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

/// Runs the steps of a [`StepPipeline`]: on a thread of the host ([`super::HostEngine`]) or on a GPU
/// (`cuda::CudaEngine`).
///
/// `begin` enqueues a step and `finish` waits for it. With [`Decide::BeforeStep`] a step is: load the observation,
/// latch, prefill, decode. With [`Decide::DuringPrefill`] it is: load, prefill, latch, decode. Only the latch reads
/// the flag.
pub trait StepEngine {
    /// The input of a step.
    type Observation: ?Sized;

    /// Returns the options of the engine.
    fn options(&self) -> &StepOptions;

    /// Returns the words that the latch reads and writes.
    fn words(&self) -> &StepFlag;

    /// Enqueues step `sequence` without waiting for it.
    ///
    /// # Errors
    /// If the step cannot be enqueued.
    fn begin(&mut self, sequence: u32, observation: &Self::Observation) -> Result<()>;

    /// Notifies the engine that the flag of the running step has been stored. The default does nothing.
    ///
    /// # Errors
    /// If the step cannot continue.
    fn decided(&mut self, sequence: u32) -> Result<()> {
        let _ = sequence;
        Ok(())
    }

    /// Waits for the end of the step.
    ///
    /// # Errors
    /// If the step failed.
    fn finish(&mut self) -> Result<()>;
}

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// The number of the step.
    pub sequence: u32,
    /// The decision for this step; `None` if none was made before the step finished.
    pub decision: Option<Decision>,
    /// The width of the prefill.
    pub prefill: Width,
    /// The width of the decode and the reason for it, as the latch recorded them.
    pub decode: Executed,
}

impl StepReport {
    /// Returns whether the decode ran at the decided width.
    pub fn as_decided(&self) -> bool {
        self.decision
            .is_some_and(|decision| decision.active == self.decode.width)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum PipelineState {
    /// Between two steps, with the decision for the next step.
    Between(Option<Decision>),
    /// In a step, with its decision.
    Running(Option<Decision>),
}

/// Runs control steps: a dispatcher decides the width, an engine runs the step, and a flag connects them.
///
/// ```
/// use std::time::Duration;
/// use w4ax::dispatch::{DispatchConfig, Dispatcher, MotionScale, Thresholds};
/// use w4ax::step::{Decide, HostEngine, HostStep, PrefillWidth, StepOptions, StepPipeline};
/// use w4ax::{Width, Result};
///
/// /// A policy that only prints its widths.
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
/// // The decode waits up to 100 ms for a late decision, and then runs at BF16.
/// let options = StepOptions::default()
///     .with_decide(Decide::DuringPrefill(PrefillWidth::Fixed(Width::A8)))
///     .with_spin(Duration::from_millis(100));
/// let mut pipeline = StepPipeline::new(HostEngine::new(Policy, options)?, dispatcher);
/// let mut action = [0.3f64, 0.0, -0.1, 0.0, 0.0, 0.0, 1.0];
/// for _ in 0..3 {
///     pipeline.begin(&[0.0; 16])?; // Starts the prefill.
///     pipeline.decide(&[action])?; // Runs while the prefill does.
///     let report = pipeline.finish()?;
///     println!("step {}: {}, {}", report.sequence, report.decode.width, report.decode.outcome);
///     action[0] *= 0.9; // The next action of the robot.
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct StepPipeline<E: StepEngine> {
    engine: E,
    dispatcher: Dispatcher,
    sequence: u32,
    state: PipelineState,
    last: Width,
}

impl<E: StepEngine> StepPipeline<E> {
    /// Creates a pipeline whose first step has the number 0. The engine must not have run a step before.
    pub fn new(engine: E, dispatcher: Dispatcher) -> Self {
        Self {
            engine,
            dispatcher,
            sequence: 0,
            state: PipelineState::Between(None),
            last: Width::Bf16,
        }
    }

    /// Returns the engine.
    pub fn engine(&self) -> &E {
        &self.engine
    }

    /// Returns the engine, for example to read results between steps.
    pub fn engine_mut(&mut self) -> &mut E {
        &mut self.engine
    }

    /// Returns the dispatcher.
    pub fn dispatcher(&self) -> &Dispatcher {
        &self.dispatcher
    }

    /// Returns the number of the running step, or of the next step if none runs.
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Starts an episode: resets the dispatcher and discards a decision for the next step.
    ///
    /// # Errors
    /// [`Error::InvalidState`] if a step runs.
    pub fn reset(&mut self) -> Result<()> {
        self.state = match self.state {
            PipelineState::Between(_) => PipelineState::Between(None),
            PipelineState::Running(_) => return Err(invalid_state("reset", "a step is running")),
        };
        self.dispatcher.reset();
        // The flag may hold a decision of the previous episode.
        self.engine
            .words()
            .requested()
            .store_word(crate::FlagWord::UNWRITTEN);
        Ok(())
    }

    /// Enqueues a step without waiting for it.
    ///
    /// With [`Decide::BeforeStep`] the width is decided first, unless [`StepPipeline::decide`] was called for this
    /// step.
    ///
    /// # Errors
    /// - [`Error::InvalidState`] if a step is running.
    /// - The errors of the engine.
    pub fn begin(&mut self, observation: &E::Observation) -> Result<()> {
        let PipelineState::Between(decision) = self.state else {
            return Err(invalid_state("begin", "the previous step is not finished"));
        };
        let decision = match (decision, self.engine.options().decide) {
            (None, Decide::BeforeStep) => Some(self.store()),
            (decision, _) => decision,
        };
        self.state = PipelineState::Between(decision);
        self.engine.begin(self.sequence, observation)?;
        self.state = PipelineState::Running(decision);
        Ok(())
    }

    /// Observes the robot's actions since the last call, decides the width, and stores it for the running step. If
    /// no step runs, the width is for the next step.
    ///
    /// With [`Decide::BeforeStep`], call it before [`StepPipeline::begin`]. With [`Decide::DuringPrefill`], call it
    /// before [`StepPipeline::finish`]. If the latch has already read the flag, the step runs at BF16 and its
    /// report has another outcome than [`Outcome::OnTime`](super::Outcome::OnTime).
    ///
    /// # Errors
    /// - [`Error::InvalidState`] if the width of the step is already decided.
    /// - As [`Dispatcher::observe`] for an invalid action. The decision is BF16 then, and the step continues.
    pub fn decide<T: Copy + Into<f64>, A: AsRef<[T]>>(
        &mut self,
        actions: &[A],
    ) -> Result<Decision> {
        match (self.state, self.engine.options().decide) {
            (PipelineState::Between(Some(_)) | PipelineState::Running(Some(_)), _) => {
                let reason = "the width of this step is already decided";
                return Err(invalid_state("decide", reason));
            }
            (PipelineState::Running(None), Decide::BeforeStep) => {
                return Err(invalid_state("decide", "the step has begun"));
            }
            _ => {}
        }
        let observed = actions
            .iter()
            .try_for_each(|action| self.dispatcher.observe(action.as_ref()));
        let decision = self.store();
        match &mut self.state {
            PipelineState::Between(decided) => *decided = Some(decision),
            PipelineState::Running(decided) => {
                *decided = Some(decision);
                self.engine.decided(self.sequence)?;
            }
        }
        observed.map(|()| decision)
    }

    fn store(&mut self) -> Decision {
        let decision = self.dispatcher.decide();
        self.engine
            .words()
            .requested()
            .store(self.sequence, decision.active);
        decision
    }

    /// Waits for the end of the step and returns its report. The sequence number advances even if the step failed.
    ///
    /// # Errors
    /// - [`Error::InvalidState`] if no step is running, or the last latched step is not this one.
    /// - The errors of the step.
    pub fn finish(&mut self) -> Result<StepReport> {
        let PipelineState::Running(decision) = self.state else {
            return Err(invalid_state("finish", "no step is running"));
        };
        self.state = PipelineState::Between(None);
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        let ended = self.engine.finish();
        let executed = self.engine.words().executed();
        let last = self.last;
        // A step that failed may have been latched, and the next prefill may run at its width.
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
                            "step {} was latched last: expected step {sequence}",
                            other.sequence
                        ),
                        None => format!("no step was latched: expected step {sequence}"),
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

fn invalid_state(call: &'static str, reason: &str) -> Error {
    Error::InvalidState {
        call,
        reason: reason.into(),
    }
}
