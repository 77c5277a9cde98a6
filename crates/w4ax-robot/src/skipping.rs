//! The policy as a stack of layers that a [`Skipper`] runs.

use std::path::Path;

use w4ax::dispatch::ACTION_DIM;
use w4ax::skip::{LayerStack, SkipConfig, Skipper, Verdict};
use w4ax::step::RunOrder;
use w4ax::{Error, Result};

use super::compute::StepWidth;
use super::networks::{AdapterWeights, Networks};
use super::policy::Policy;
use super::random_skips::RandomSkips;
use super::rollouts::action;
use super::shapes::{INPUT, Tokens};
use super::steps::RunLayers;

/// The replacement of skipped layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Substitute {
    /// The trained adapters.
    #[default]
    Adapter,
    /// The identity: the residual stream does not change.
    Identity,
}

/// Decides which blocks of a policy run, and replaces the others.
pub struct Skipping {
    /// The guide and the steps.
    pub skipper: Skipper,
    /// The adapters and controllers.
    pub networks: Networks,
    /// The replacement of skipped layers.
    pub substitute: Substitute,
    /// Skips by chance, in place of the controllers.
    random: Option<RandomSkips>,
    /// The next run.
    order: RunOrder,
}

impl Skipping {
    /// Starts an episode.
    ///
    /// # Errors
    /// As [`SkipConfig::validate`].
    pub fn new(config: &SkipConfig, networks: Networks, substitute: Substitute) -> Result<Self> {
        Ok(Self {
            skipper: Skipper::new(config, networks.layers().clone())?,
            networks,
            substitute,
            random: None,
            order: RunOrder::Only,
        })
    }

    /// Loads the networks of a policy from a file.
    ///
    /// # Errors
    /// As [`Networks::load`] and [`SkipConfig::validate`].
    pub fn load(
        path: &Path,
        policy: &Policy,
        weights: AdapterWeights,
        config: &SkipConfig,
    ) -> Result<Self> {
        let networks = Networks::load(path, policy, weights)?;
        Self::new(config, networks, Substitute::Adapter)
    }
}

impl Skipping {
    /// Skips layers by chance, in place of the controllers. The configuration should be
    /// [`RandomSkips::config`], so that there is no guide either.
    ///
    /// # Errors
    /// As [`RandomSkips::new`].
    pub fn with_random_skips(mut self, probability: f64, seed: u64) -> Result<Self> {
        self.random = Some(RandomSkips::new(probability, seed, self.networks.layers())?);
        Ok(self)
    }
}

impl RunLayers for Skipping {
    fn run_layers(&mut self, policy: &mut Policy, input: &[f32; INPUT]) -> Result<Tokens> {
        // A second pass skips nothing.
        if self.order != RunOrder::Second {
            self.random.iter_mut().for_each(RandomSkips::draw);
        }
        let mut stack = PolicyStack {
            policy,
            networks: &mut self.networks,
            substitute: self.substitute,
            random: self.random.as_ref(),
            input,
            width: StepWidth::Latched,
            tokens: Tokens::default(),
        };
        let actions = &mut [0.0; ACTION_DIM];
        match self.order {
            RunOrder::Only => self.skipper.step(&mut stack, actions)?,
            RunOrder::First => self.skipper.try_step(&mut stack, actions)?,
            RunOrder::Second => self.skipper.run_again(&mut stack, actions)?,
        };
        Ok(stack.tokens)
    }

    fn prepare(&mut self, run: RunOrder) {
        // The last run of the step before was executed.
        if run != RunOrder::Second {
            self.skipper.accept();
        }
        self.order = run;
    }

    fn demands_second_run(&self) -> bool {
        self.skipper.report().verdict == Verdict::MustRunAgain
    }
}

/// One control step of the policy with its networks.
pub struct PolicyStack<'a> {
    /// The policy.
    pub policy: &'a mut Policy,
    /// Its adapters and controllers.
    pub networks: &'a mut Networks,
    /// The replacement of skipped layers.
    pub substitute: Substitute,
    /// Skips by chance, in place of the controllers.
    pub random: Option<&'a RandomSkips>,
    /// The input of the step.
    pub input: &'a [f32; INPUT],
    /// The width of the layers that run.
    pub width: StepWidth,
    /// The tokens of the last pass.
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
        if let Some(random) = self.random {
            return Ok(random.probability(layer));
        }
        let (engine, x) = self.policy.engine_and_hidden();
        self.networks.skip_probability(layer, engine, x)
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
                expected: [1, ACTION_DIM].into(),
                got: [actions.len()].into(),
            });
        }
        self.tokens = self.policy.head_tokens(self.width)?;
        actions.copy_from_slice(&action(&self.tokens));
        Ok(())
    }
}
