//! Runs control steps of a model.

use super::work::{Input, Shared, StepPart, Work, lock};
use crate::model::{LayerTimes, Observation, Vla};
use crate::{Result, VlaError};
use std::collections::BTreeMap;
use std::time::Duration;
use w4ax::Width;
use w4ax::dispatch::{
    ConsistencyCheck, ConsistencyDecision, ConsistencyRule, Decision, Dispatcher, Profile,
};
use w4ax::skip::{Guide, SkipConfig, SkipReport, Verdict};
use w4ax::step::{HostEngine, RunOrder, StepOptions, StepPipeline, StepReport};

/// The result of a step.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VlaStep {
    /// `[n, dims]`: the actions as the policy outputs them, in [-1, 1]. The dispatcher observes
    /// these.
    pub normalized: Vec<f64>,
    /// `[n, dims]`: the actions in the units of the data set.
    pub actions: Vec<f64>,
    /// Numbers of an action.
    pub dims: usize,
    /// The tokens of the actions; empty with an action head.
    pub tokens: Vec<u32>,
    /// The uncertainty of the tokens, see [`Decoded::token_std`](crate::model::Decoded).
    pub token_std: Option<f64>,
    /// The decision, and the widths of prefill and decode.
    pub report: StepReport,
    /// The time of each part that ran.
    pub times: BTreeMap<StepPart, Duration>,
    /// The time of the prefill's layers by part.
    pub layer_times: LayerTimes,
    /// What was skipped, if the runner skips layers.
    pub skip: Option<SkipReport>,
}

/// A step under the consistency rule.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConsistentVlaStep {
    /// The last run, whose actions count.
    pub step: VlaStep,
    /// Its profile.
    pub profile: Profile,
    /// The decision for the first run.
    pub decision: ConsistencyDecision,
    /// The check of the first run.
    pub check: ConsistencyCheck,
    /// The first run, if there was a second.
    pub first: Option<VlaStep>,
}

/// Runs control steps of a model on a thread of their own.
#[derive(Debug)]
pub struct VlaRunner {
    pipeline: StepPipeline<HostEngine<Work>>,
    shared: Shared,
    /// Starts an episode with the next step.
    reset: bool,
}

impl VlaRunner {
    /// Creates a runner. Without a dispatcher the caller chooses each width
    /// ([`request`](Self::request)).
    ///
    /// # Errors
    /// As [`HostEngine::new`].
    pub fn new(
        vla: Vla,
        dispatcher: impl Into<Option<Dispatcher>>,
        options: StepOptions,
    ) -> Result<Self> {
        Self::build(vla, None, dispatcher.into(), options)
    }

    /// As [`new`](Self::new); the networks of the model skip layers by `config`.
    ///
    /// # Errors
    /// - As [`new`](Self::new) and [`Guide::new`].
    /// - [`VlaError::InvalidState`] if the model has no networks.
    pub fn skipping(
        vla: Vla,
        config: &SkipConfig,
        dispatcher: impl Into<Option<Dispatcher>>,
        options: StepOptions,
    ) -> Result<Self> {
        let Some(networks) = vla.skip_networks() else {
            return Err(VlaError::InvalidState {
                call: "skipping",
                reason: "the model has no networks: expected `Vla::with_skip_networks`".into(),
            });
        };
        let guide = Guide::new(config, networks.layers())?;
        Self::build(vla, Some(guide), dispatcher.into(), options)
    }

    fn build(
        vla: Vla,
        guide: Option<Guide>,
        dispatcher: Option<Dispatcher>,
        options: StepOptions,
    ) -> Result<Self> {
        let shared = Shared::default();
        let work = Work::new(vla, guide, shared.clone());
        let engine = HostEngine::new(work, options)?;
        Ok(Self {
            pipeline: StepPipeline::new(engine, dispatcher),
            shared,
            reset: false,
        })
    }

    /// Returns the pipeline, with its dispatcher and the number of the step.
    pub fn pipeline(&self) -> &StepPipeline<impl w4ax::step::StepEngine> {
        &self.pipeline
    }

    /// Observes actions `[n, dims]`, as the policy output them, and decides the width, see
    /// [`StepPipeline::decide`].
    ///
    /// # Errors
    /// As [`StepPipeline::decide`].
    pub fn decide(&mut self, actions: &[f64], dims: usize) -> Result<Decision> {
        let rows: Vec<&[f64]> = actions.chunks(dims.max(1)).collect();
        Ok(self.pipeline.decide(&rows)?)
    }

    /// Chooses the width of the step, see [`StepPipeline::request`].
    ///
    /// # Errors
    /// As [`StepPipeline::request`].
    pub fn request(&mut self, width: Width) -> Result<()> {
        Ok(self.pipeline.request(width)?)
    }

    /// Replaces the dispatcher, see [`StepPipeline::set_dispatcher`].
    ///
    /// # Errors
    /// As [`StepPipeline::set_dispatcher`].
    pub fn set_dispatcher(&mut self, dispatcher: impl Into<Option<Dispatcher>>) -> Result<()> {
        Ok(self.pipeline.set_dispatcher(dispatcher)?)
    }

    /// Starts an episode: forgets the actions of the previous one.
    ///
    /// # Errors
    /// As [`StepPipeline::reset`].
    pub fn reset(&mut self) -> Result<()> {
        self.pipeline.reset()?;
        self.reset = true;
        Ok(())
    }

    /// Starts a step without waiting for it, see [`StepPipeline::begin`].
    ///
    /// # Errors
    /// As [`StepPipeline::begin`].
    pub fn begin(&mut self, observation: &Observation) -> Result<()> {
        self.begin_run(observation, RunOrder::Only)
    }

    fn begin_run(&mut self, observation: &Observation, run: RunOrder) -> Result<()> {
        let input = Input {
            observation: observation.clone(),
            reset: self.reset,
            run,
        };
        self.pipeline.begin(&input)?;
        self.reset = false;
        Ok(())
    }

    /// Waits for the end of the step.
    ///
    /// # Errors
    /// - As [`StepPipeline::finish`].
    /// - The errors of the model, see [`Vla::prepare`] and [`Vla::sequence`].
    pub fn finish(&mut self) -> Result<VlaStep> {
        let finished = self.pipeline.finish();
        let outcome = std::mem::take(&mut *lock(&self.shared));
        if let Some(error) = outcome.error {
            return Err(error);
        }
        let report = finished?;
        let Some(actions) = outcome.actions else {
            return Err(VlaError::InvalidState {
                call: "finish",
                reason: "the step left no actions".into(),
            });
        };
        Ok(VlaStep {
            normalized: actions.decoded.normalized,
            actions: actions.scaled,
            dims: actions.dims,
            tokens: actions.decoded.tokens,
            token_std: actions.decoded.token_std,
            report,
            times: outcome.times,
            layer_times: outcome.layers,
            skip: outcome.skip,
        })
    }

    /// Runs a step: [`begin`](Self::begin), then [`finish`](Self::finish).
    ///
    /// # Errors
    /// As these.
    pub fn step(&mut self, observation: &Observation) -> Result<VlaStep> {
        self.begin(observation)?;
        self.finish()
    }

    /// Runs a step under a consistency rule: at its low profile and, if the actions are not
    /// accepted or the verification of skipped layers fails, once more at the high profile with all
    /// layers. The second run reuses the features of the images. The widths are step widths; floors
    /// of the layers are those of [`Vla::set_floors`].
    ///
    /// The rule compares and observes normalized actions, `[n, dims]`. The caller executes some of
    /// them and then calls [`ConsistencyRule::observe_chunk`] with [`VlaStep::normalized`].
    ///
    /// # Errors
    /// As [`request`](Self::request), [`begin`](Self::begin) and [`finish`](Self::finish).
    pub fn step_consistent(
        &mut self,
        rule: &mut ConsistencyRule,
        observation: &Observation,
    ) -> Result<ConsistentVlaStep> {
        let decision = rule.decide();
        self.request(decision.width)?;
        self.begin_run(observation, RunOrder::First)?;
        let step = self.finish()?;
        let check = rule.verify(&step.normalized);
        let skip_failed = |skip: &SkipReport| skip.verdict == Verdict::MustRunAgain;
        if check.accepted && !step.skip.as_ref().is_some_and(skip_failed) {
            return Ok(ConsistentVlaStep {
                step,
                profile: decision.profile,
                decision,
                check,
                first: None,
            });
        }
        self.request(rule.width(Profile::High))?;
        self.begin_run(observation, RunOrder::Second)?;
        Ok(ConsistentVlaStep {
            first: Some(step),
            step: self.finish()?,
            profile: Profile::High,
            decision,
            check,
        })
    }

    /// Ends the thread and returns the model.
    ///
    /// # Panics
    /// If a step panicked, with its panic.
    pub fn into_model(self) -> Vla {
        self.pipeline.into_engine().into_step().vla
    }
}
