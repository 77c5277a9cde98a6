//! The unquantized policy, for steps at the width `plain`.

use w4ax::Result;
use w4ax_robot::networks::Networks;
use w4ax_robot::policy::Policy;
use w4ax_robot::shapes::{INPUT, Tokens};
use w4ax_robot::steps::RunLayers;
use w4ax_robot::uncertainty;

use super::layers::ServedLayers;

/// The unquantized policy.
pub struct Plain {
    policy: Policy,
    /// Its adapters and controllers, in BF16.
    networks: Option<Networks>,
}

impl Plain {
    /// Uses these networks for skipped layers.
    pub fn new(policy: Policy, networks: Option<Networks>) -> Self {
        Self { policy, networks }
    }

    /// Runs a step. The guide of `layers` decides and observes as in a step of the quantized
    /// policy.
    ///
    /// # Errors
    /// As [`RunLayers::run_layers`].
    pub fn run(&mut self, input: &[f32; INPUT], layers: &mut ServedLayers) -> Result<Tokens> {
        self.exchange(layers);
        let tokens = layers.run_layers(&mut self.policy, input);
        self.exchange(layers);
        tokens
    }

    /// Returns the standard deviation of the last step's tokens.
    pub fn token_std(&self) -> f64 {
        uncertainty::token_std(self.policy.logits())
    }

    /// Returns the margin of the last step's tokens.
    pub fn margin(&self) -> f64 {
        uncertainty::margin(self.policy.logits())
    }

    /// Exchanges the networks.
    fn exchange(&mut self, layers: &mut ServedLayers) {
        if let (Some(of_layers), Some(networks)) = (layers.networks(), &mut self.networks) {
            std::mem::swap(of_layers, networks);
        }
    }
}
