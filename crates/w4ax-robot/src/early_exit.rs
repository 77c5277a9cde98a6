//! An early exit: the layers from one on never run, and an adapter computes the input of the head.

use std::path::Path;

use w4ax::{Error, Result};

use super::compute::StepWidth;
use super::networks::{AdapterWeights, Networks};
use super::policy::Policy;
use super::shapes::{INPUT, Tokens};
use super::steps::RunLayers;

/// Runs the layers before the exit, then the exit's adapter and the head. A step does not allocate.
pub struct EarlyExit {
    /// The networks, with an exit.
    networks: Networks,
    layers: usize,
}

impl EarlyExit {
    /// Leaves the stack at the exit of these networks. `name` is their file's name in errors.
    ///
    /// # Errors
    /// [`Error::Format`] for networks without an exit.
    pub fn new(networks: Networks, name: &str) -> Result<Self> {
        let Some(layers) = networks.exit() else {
            return Err(Error::Format {
                file: name.into(),
                reason: "it has no early exit: expected `exit` in its configuration".into(),
            });
        };
        Ok(Self { networks, layers })
    }

    /// Loads the networks of a policy from a file.
    ///
    /// # Errors
    /// As [`Networks::load`] and [`EarlyExit::new`].
    pub fn load(path: &Path, policy: &Policy, weights: AdapterWeights) -> Result<Self> {
        let networks = Networks::load(path, policy, weights)?;
        Self::new(networks, &path.display().to_string())
    }

    /// Returns the networks, whose exit may only be replaced by one at the same layer.
    pub fn networks_mut(&mut self) -> &mut Networks {
        &mut self.networks
    }

    /// Returns the number of layers that run.
    pub fn layers(&self) -> usize {
        self.layers
    }
}

impl RunLayers for EarlyExit {
    fn run_layers(&mut self, policy: &mut Policy, input: &[f32; INPUT]) -> Result<Tokens> {
        policy.embed(std::slice::from_ref(input))?;
        for layer in 0..self.layers {
            policy.run_block(layer, StepWidth::Latched)?;
        }
        let (engine, x) = policy.engine_and_hidden();
        self.networks.leave(engine, x, StepWidth::Latched)?;
        policy.head_tokens(StepWidth::Latched)
    }
}
