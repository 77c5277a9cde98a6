//! A policy's control steps, for [`StepPipeline`](w4ax::step::StepPipeline).
//!
//! The pipeline stores a step's width in the flag. [`PolicyEngine`] latches the flag, runs the
//! policy's layers at the latched width, on the thread of the caller, and holds the action tokens
//! and the logits until the next step.

use std::borrow::BorrowMut;

use half::bf16;
use w4ax::Result;
use w4ax::dispatch::Action;
use w4ax::step::{ConsistentEngine, RunOrder, StepEngine, StepFlag, StepOptions};

use super::compute::StepWidth;
use super::policy::Policy;
use super::rollouts::action;
use super::shapes::{INPUT, Tokens};
use super::uncertainty;

/// Which layers of a policy a step runs.
pub trait RunLayers {
    /// Runs a step at the latched width, and returns its action tokens.
    ///
    /// # Errors
    /// Those of the layers; [`w4ax::Error::NotFinite`] if a logit is not finite.
    fn run_layers(&mut self, policy: &mut Policy, input: &[f32; INPUT]) -> Result<Tokens>;

    /// Prepares a run of a step that the caller runs again by itself, see
    /// [`ConsistentEngine::prepare`].
    fn prepare(&mut self, run: RunOrder) {
        let _ = run;
    }

    /// Returns whether the last run must be repeated with all layers.
    fn demands_second_run(&self) -> bool {
        false
    }
}

/// Runs all layers.
#[derive(Clone, Copy, Debug)]
pub struct AllLayers;

impl RunLayers for AllLayers {
    fn run_layers(&mut self, policy: &mut Policy, input: &[f32; INPUT]) -> Result<Tokens> {
        policy.forward(input, StepWidth::Latched)
    }
}

impl<L: RunLayers> RunLayers for &mut L {
    fn run_layers(&mut self, policy: &mut Policy, input: &[f32; INPUT]) -> Result<Tokens> {
        (**self).run_layers(policy, input)
    }

    fn prepare(&mut self, run: RunOrder) {
        (**self).prepare(run);
    }

    fn demands_second_run(&self) -> bool {
        (**self).demands_second_run()
    }
}

/// Runs the steps of a policy, owned or borrowed, on the thread of the caller. Nothing is allocated
/// in a step.
pub struct PolicyEngine<P, L> {
    /// The policy.
    pub policy: P,
    /// Which of its layers run.
    pub layers: L,
    options: StepOptions,
    result: Result<Tokens>,
    /// Whether the policy's logits are those of a step that succeeded.
    ran: bool,
}

impl<P: BorrowMut<Policy>, L: RunLayers> PolicyEngine<P, L> {
    /// An engine that decides before the step.
    pub fn new(policy: P, layers: L) -> Self {
        Self {
            policy,
            layers,
            options: StepOptions::default(),
            result: Ok(Tokens::default()),
            ran: false,
        }
    }

    /// The action tokens of the last step that succeeded.
    pub fn tokens(&self) -> Tokens {
        self.result.as_ref().copied().unwrap_or_default()
    }

    /// Returns the standard deviation of the last step's tokens, see [`uncertainty::token_std`].
    /// After a second pass it is that of the second pass. `None` before the first step, and after
    /// one that failed.
    ///
    /// Each call computes it, so a step without a call costs nothing. A pass of the policy outside
    /// of this engine overwrites the logits.
    pub fn token_std(&self) -> Option<f64> {
        self.logits().map(uncertainty::token_std)
    }

    /// Returns the margin of the last step's tokens, see [`uncertainty::margin`]. As
    /// [`token_std`](Self::token_std).
    pub fn margin(&self) -> Option<f64> {
        self.logits().map(uncertainty::margin)
    }

    /// Returns the logits of the last step, `[7, 256]`.
    fn logits(&self) -> Option<&[bf16]> {
        self.ran.then(|| self.policy.borrow().logits())
    }
}

impl<P: BorrowMut<Policy>, L: RunLayers> StepEngine for PolicyEngine<P, L> {
    type Observation = [f32; INPUT];

    fn options(&self) -> &StepOptions {
        &self.options
    }

    fn words(&self) -> &StepFlag {
        self.policy.borrow().words()
    }

    fn begin(&mut self, _sequence: u32, input: &[f32; INPUT]) -> Result<()> {
        let policy = self.policy.borrow_mut();
        self.ran = false;
        policy.latch()?;
        self.result = self.layers.run_layers(policy, input);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let ended = std::mem::replace(&mut self.result, Ok(Tokens::default()));
        self.result = Ok(ended?);
        self.ran = true;
        Ok(())
    }
}

impl<P: BorrowMut<Policy>, L: RunLayers> ConsistentEngine for PolicyEngine<P, L> {
    type Actions = Action;

    fn prepare(&mut self, run: RunOrder) {
        self.layers.prepare(run);
    }

    fn actions(&mut self) -> Result<Action> {
        Ok(action(&self.tokens()))
    }

    fn demands_second_run(&self) -> bool {
        self.layers.demands_second_run()
    }

    /// Returns [`token_std`](Self::token_std).
    fn uncertainty(&mut self) -> Option<f64> {
        self.token_std()
    }
}
