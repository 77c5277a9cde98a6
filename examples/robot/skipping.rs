//! The policy as a stack of layers that a [`Skipper`](w4ax::skip::Skipper) runs.

use w4ax::dispatch::ACTION_DIM;
use w4ax::skip::LayerStack;
use w4ax::{Error, Result};

use super::compute::StepWidth;
use super::networks::Networks;
use super::policy::{Policy, tokens_of};
use super::rollouts::{INPUT, Tokens, action};

/// What stands for skipped layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Substitute {
    /// The trained adapters.
    #[default]
    Adapter,
    /// Nothing: the residual stream goes on as it is.
    Identity,
}

/// One control step of the policy, with networks beside its blocks.
pub struct PolicyStack<'a> {
    /// What runs.
    pub policy: &'a mut Policy,
    /// What stands beside it.
    pub networks: &'a mut Networks,
    /// What stands for skipped layers.
    pub substitute: Substitute,
    /// The step's input.
    pub input: &'a [f32; INPUT],
    /// What runs, runs at this.
    pub width: StepWidth,
    /// What came out last.
    pub tokens: Tokens,
}

impl LayerStack for PolicyStack<'_> {
    type Error = Error;

    fn layers(&self) -> usize {
        self.policy.blocks()
    }

    fn embed(&mut self) -> Result<()> {
        self.policy.embed(std::slice::from_ref(self.input))
    }

    fn run(&mut self, layer: usize) -> Result<()> {
        self.policy.run_block(layer, self.width)
    }

    fn skip_probability(&mut self, layer: usize) -> Result<f32> {
        let (_, x) = self.policy.engine_and_hidden();
        self.networks.skip_probability(layer, x)
    }

    fn adapt(&mut self, from: usize, _to: usize) -> Result<()> {
        match self.substitute {
            Substitute::Identity => Ok(()),
            Substitute::Adapter => {
                let (engine, x) = self.policy.engine_and_hidden();
                self.networks.adapt(from, engine, x, self.width)
            }
        }
    }

    fn actions(&mut self, actions: &mut [f64]) -> Result<()> {
        if actions.len() != ACTION_DIM {
            return Err(Error::Shape {
                what: "actions",
                expected: format!("[1, {ACTION_DIM}]: the policy gives one action a step"),
                got: format!("{} numbers", actions.len()),
            });
        }
        let logits = self.policy.head(self.width)?;
        tokens_of(logits, std::slice::from_mut(&mut self.tokens))?;
        actions.copy_from_slice(&action(&self.tokens));
        Ok(())
    }
}
