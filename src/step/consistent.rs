//! Steps under the consistency rule: a cheap run, its verification, and at most one second run.

use super::engine::StepEngine;
use super::pipeline::{StepPipeline, StepReport};
use crate::Result;
use crate::dispatch::{ConsistencyCheck, ConsistencyDecision, ConsistencyRule, Profile};

/// Which run of a control step an engine executes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunOrder {
    /// The first run. It may skip layers, but must not repeat them by itself:
    /// [`ConsistentEngine::demands_second_run`] reports that its verification failed.
    First,
    /// The second run of the same observation, whose result is final. It skips no layers.
    Second,
    /// A run of a step that is not verified by the caller. If it skips layers, it repeats them by
    /// itself.
    #[default]
    Only,
}

/// An engine whose steps have actions that can be verified.
pub trait ConsistentEngine: StepEngine {
    /// The actions of a run, `[n, dims]` row-major.
    type Actions: AsRef<[f64]>;

    /// Prepares the next run. Without a call it is [`RunOrder::Only`].
    fn prepare(&mut self, run: RunOrder);

    /// Returns the actions of the finished run.
    ///
    /// # Errors
    /// If the run has no valid actions.
    fn actions(&mut self) -> Result<Self::Actions>;

    /// Returns whether another check of the finished run failed, such as that of skipped layers.
    /// The default has no such check.
    fn demands_second_run(&self) -> bool {
        false
    }

    /// Returns the uncertainty of the finished run in action units, or `None` if it is not known,
    /// as by default.
    fn uncertainty(&mut self) -> Option<f64> {
        None
    }
}

/// A control step under the consistency rule.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsistentStep<A> {
    /// The actions of the last run.
    pub actions: A,
    /// The profile of the last run.
    pub profile: Profile,
    /// The uncertainty of the last run in action units, if the rule uses it and it is known.
    pub uncertainty: Option<f64>,
    /// The decision for the first run.
    pub decision: ConsistencyDecision,
    /// The check of the first run.
    pub check: ConsistencyCheck,
    /// The first run.
    pub first: StepReport,
    /// The second run, if there was one.
    pub second: Option<StepReport>,
}

impl<A> ConsistentStep<A> {
    /// Returns the report of the last run.
    pub fn report(&self) -> &StepReport {
        self.second.as_ref().unwrap_or(&self.first)
    }

    /// Returns the number of runs: 1 or 2.
    pub const fn runs(&self) -> usize {
        1 + self.second.is_some() as usize
    }
}

impl<E: ConsistentEngine> StepPipeline<E> {
    /// Runs a control step: decides the profile, runs it, verifies its actions and, if they are not
    /// accepted, runs the observation once more at the high profile.
    ///
    /// A failed verification of skipped layers also leads to a second run at the high profile, in
    /// which no layer is skipped. There are at most two runs. Each is a step of its own for the
    /// flag and the latch. The dispatcher of the pipeline is not used.
    ///
    /// The caller limits the actions with [`ConsistencyRule::command`], executes them, and adds
    /// what was executed with [`ConsistencyRule::observe`].
    ///
    /// # Errors
    /// As [`StepPipeline::request`] and [`StepPipeline::run`], and the errors of the engine. The
    /// rule has observed nothing.
    pub fn run_consistent(
        &mut self,
        rule: &mut ConsistencyRule,
        observation: &E::Observation,
    ) -> Result<ConsistentStep<E::Actions>> {
        let step = self.runs_of_step(rule, observation);
        self.engine_mut().prepare(RunOrder::Only);
        step
    }

    fn runs_of_step(
        &mut self,
        rule: &mut ConsistencyRule,
        observation: &E::Observation,
    ) -> Result<ConsistentStep<E::Actions>> {
        let decision = rule.decide();
        self.engine_mut().prepare(RunOrder::First);
        self.request(decision.width)?;
        let first = self.run(observation)?;
        let mut actions = self.engine_mut().actions()?;
        let check = rule.verify(actions.as_ref());
        let mut profile = decision.profile;
        let mut second = None;
        if !check.accepted || self.engine().demands_second_run() {
            profile = Profile::High;
            self.engine_mut().prepare(RunOrder::Second);
            self.request(rule.width(profile))?;
            second = Some(self.run(observation)?);
            actions = self.engine_mut().actions()?;
        }
        let uncertainty = match rule.uses_uncertainty() {
            true => self.engine_mut().uncertainty(),
            false => None,
        };
        Ok(ConsistentStep {
            actions,
            profile,
            uncertainty,
            decision,
            check,
            first,
            second,
        })
    }
}
