//! The control step: a dispatcher, an engine, and the flag between them.

use super::engine::StepEngine;
use super::options::{Decide, PrefillWidth};
use super::words::Executed;
use crate::dispatch::{Decision, Dispatcher};
use crate::{Error, Result, Width};

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// The number of the step.
    pub sequence: u32,
    /// The decision for this step; `None` if none was made before the step finished, or the width
    /// was requested.
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
    /// Between two steps, with the source of the next step's width if that is stored.
    Between(Option<WidthOrigin>),
    /// In a step, with the source of its width.
    Running(Option<WidthOrigin>),
}

/// The source of a width that is stored in the flag.
#[derive(Clone, Copy, Debug, PartialEq)]
enum WidthOrigin {
    /// The dispatcher.
    Decided(Decision),
    /// The caller.
    Requested,
}

/// Runs control steps: a dispatcher decides the width, an engine runs the step, and a flag connects
/// them.
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
    dispatcher: Option<Dispatcher>,
    sequence: u32,
    state: PipelineState,
    last: Width,
}

impl<E: StepEngine> StepPipeline<E> {
    /// Creates a pipeline. Its first step is 0, or the one after the last step that the engine
    /// latched.
    ///
    /// Without a dispatcher the caller chooses each width ([`StepPipeline::request`]).
    pub fn new(engine: E, dispatcher: impl Into<Option<Dispatcher>>) -> Self {
        let last = engine.words().executed();
        Self {
            engine,
            dispatcher: dispatcher.into(),
            sequence: last.map_or(0, |ran| ran.sequence.wrapping_add(1)),
            state: PipelineState::Between(None),
            last: last.map_or(Width::Bf16, |ran| ran.width),
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

    /// Ends the pipeline and returns the engine.
    pub fn into_engine(self) -> E {
        self.engine
    }

    /// Returns the dispatcher, if there is one.
    pub fn dispatcher(&self) -> Option<&Dispatcher> {
        self.dispatcher.as_ref()
    }

    /// Replaces the dispatcher, for example for an episode of another task. Discards a width for
    /// the next step.
    ///
    /// # Errors
    /// [`Error::InvalidState`] if a step runs.
    pub fn set_dispatcher(&mut self, dispatcher: impl Into<Option<Dispatcher>>) -> Result<()> {
        self.discard_width("set_dispatcher")?;
        self.dispatcher = dispatcher.into();
        Ok(())
    }

    /// Returns the number of the running step, or of the next step if none runs.
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Starts an episode: resets the dispatcher and discards a width for the next step.
    ///
    /// # Errors
    /// [`Error::InvalidState`] if a step runs.
    pub fn reset(&mut self) -> Result<()> {
        self.discard_width("reset")?;
        if let Some(dispatcher) = &mut self.dispatcher {
            dispatcher.reset();
        }
        Ok(())
    }

    fn discard_width(&mut self, call: &'static str) -> Result<()> {
        self.state = match self.state {
            PipelineState::Between(_) => PipelineState::Between(None),
            PipelineState::Running(_) => return Err(invalid_state(call, "a step is running")),
        };
        // The flag may hold a decision of the previous episode.
        self.engine
            .words()
            .requested()
            .store_word(crate::FlagWord::UNWRITTEN);
        Ok(())
    }

    /// Enqueues a step without waiting for it.
    ///
    /// With [`Decide::BeforeStep`] the width is decided first, unless [`StepPipeline::decide`] or
    /// [`StepPipeline::request`] was called for this step.
    ///
    /// # Errors
    /// - [`Error::InvalidState`] if a step is running, or a width is needed and there is no
    ///   dispatcher.
    /// - The errors of the engine.
    pub fn begin(&mut self, observation: &E::Observation) -> Result<()> {
        let PipelineState::Between(stored) = self.state else {
            return Err(invalid_state("begin", "the previous step is not finished"));
        };
        let stored = match (stored, self.engine.options().decide()) {
            (None, Decide::BeforeStep) => Some(WidthOrigin::Decided(self.store_decision("begin")?)),
            (stored, _) => stored,
        };
        self.state = PipelineState::Between(stored);
        self.engine.begin(self.sequence, observation)?;
        self.state = PipelineState::Running(stored);
        Ok(())
    }

    /// Runs a step: begins it and waits for its end.
    ///
    /// # Errors
    /// As [`StepPipeline::begin`] and [`StepPipeline::finish`].
    pub fn run(&mut self, observation: &E::Observation) -> Result<StepReport> {
        self.begin(observation)?;
        self.finish()
    }

    /// Observes the robot's actions since the last call, decides the width, and stores it for the
    /// running step. If no step runs, the width is for the next step.
    ///
    /// With [`Decide::BeforeStep`], call it before [`StepPipeline::begin`]. With
    /// [`Decide::DuringPrefill`], call it before [`StepPipeline::finish`]. If the latch has already
    /// read the flag, the step runs at BF16 and its report has another outcome than
    /// [`Outcome::OnTime`](super::Outcome::OnTime).
    ///
    /// # Errors
    /// - [`Error::InvalidState`] if the width of the step is already stored, or there is no
    ///   dispatcher.
    /// - As [`Dispatcher::observe`] for an invalid action. The decision is BF16 then, and the step
    ///   continues.
    pub fn decide<T: Copy + Into<f64>, A: AsRef<[T]>>(
        &mut self,
        actions: &[A],
    ) -> Result<Decision> {
        self.check_undecided("decide")?;
        let Some(dispatcher) = &mut self.dispatcher else {
            return Err(invalid_state("decide", NO_DISPATCHER));
        };
        let observed = actions
            .iter()
            .try_for_each(|action| dispatcher.observe(action.as_ref()));
        let decision = self.store_decision("decide")?;
        self.set_stored(WidthOrigin::Decided(decision))?;
        observed.map(|()| decision)
    }

    /// Stores a width that the caller chose, for the same step as [`StepPipeline::decide`] would.
    /// The dispatcher does not change.
    ///
    /// # Errors
    /// [`Error::InvalidState`] if the width of the step is already stored.
    pub fn request(&mut self, width: Width) -> Result<()> {
        self.check_undecided("request")?;
        self.store(width);
        self.set_stored(WidthOrigin::Requested)
    }

    fn check_undecided(&self, call: &'static str) -> Result<()> {
        match (self.state, self.engine.options().decide()) {
            (PipelineState::Between(Some(_)) | PipelineState::Running(Some(_)), _) => {
                let reason = "the width of this step is already decided";
                Err(invalid_state(call, reason))
            }
            (PipelineState::Running(None), Decide::BeforeStep) => {
                Err(invalid_state(call, "the step has begun"))
            }
            _ => Ok(()),
        }
    }

    /// Records that the flag holds the width of the step.
    fn set_stored(&mut self, source: WidthOrigin) -> Result<()> {
        match &mut self.state {
            PipelineState::Between(stored) => *stored = Some(source),
            PipelineState::Running(stored) => {
                *stored = Some(source);
                self.engine.decided(self.sequence)?;
            }
        }
        Ok(())
    }

    fn store_decision(&mut self, call: &'static str) -> Result<Decision> {
        let Some(dispatcher) = &mut self.dispatcher else {
            return Err(invalid_state(call, NO_DISPATCHER));
        };
        let decision = dispatcher.decide();
        self.store(decision.active);
        Ok(decision)
    }

    fn store(&self, width: Width) {
        let words = self.engine.words();
        words.requested().store(self.sequence, width);
    }

    /// Waits for the end of the step and returns its report. The sequence number advances even if
    /// the step failed.
    ///
    /// # Errors
    /// - [`Error::InvalidState`] if no step is running, or the last latched step is not this one.
    /// - The errors of the step.
    pub fn finish(&mut self) -> Result<StepReport> {
        let PipelineState::Running(stored) = self.state else {
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
        let prefill = match self.engine.options().decide() {
            Decide::BeforeStep => decode.width,
            Decide::DuringPrefill(PrefillWidth::Fixed(width)) => width,
            Decide::DuringPrefill(PrefillWidth::LastLatched) => last,
        };
        Ok(StepReport {
            sequence,
            decision: match stored {
                Some(WidthOrigin::Decided(decision)) => Some(decision),
                Some(WidthOrigin::Requested) | None => None,
            },
            prefill,
            decode,
        })
    }
}

const NO_DISPATCHER: &str = "no dispatcher: expected a requested width";

fn invalid_state(call: &'static str, reason: &str) -> Error {
    Error::InvalidState {
        call,
        reason: reason.into(),
    }
}
