//! Which layers of the policy a step runs.

use w4ax::Result;
use w4ax::skip::Verdict;
use w4ax::step::RunOrder;
use w4ax_robot::early_exit::EarlyExit;
use w4ax_robot::networks::Networks;
use w4ax_robot::policy::Policy;
use w4ax_robot::shapes::{INPUT, Tokens};
use w4ax_robot::skipping::Skipping;
use w4ax_robot::steps::{AllLayers, RunLayers};

use super::reply::Skipped;

/// Which layers of the policy a step runs.
pub enum ServedLayers {
    /// All layers.
    All,
    /// Those that the guide and the controllers, or chance, leave.
    Skip(Box<Skipping>),
    /// Those before the exit.
    Exit(Box<EarlyExit>),
}

impl ServedLayers {
    /// Starts an episode.
    pub fn reset(&mut self) {
        if let Self::Skip(skipping) = self {
            skipping.skipper.reset();
        }
    }

    /// Returns the layers that the last step ran, unless all steps run all.
    pub fn skipped(&self) -> Option<Skipped> {
        match self {
            Self::All => None,
            Self::Skip(skipping) => {
                let report = skipping.skipper.report();
                Some(Skipped {
                    layers: report.layers_run,
                    reran: report.verdict == Verdict::RanAgain,
                })
            }
            Self::Exit(exit) => Some(Skipped {
                layers: exit.layers(),
                reran: false,
            }),
        }
    }

    /// Returns the layer of the early exit, if there is one.
    pub fn exit(&self) -> Option<usize> {
        match self {
            Self::Exit(exit) => Some(exit.layers()),
            _ => None,
        }
    }

    /// Returns the networks, if layers are skipped.
    pub fn networks(&mut self) -> Option<&mut Networks> {
        match self {
            Self::All => None,
            Self::Skip(skipping) => Some(&mut skipping.networks),
            Self::Exit(exit) => Some(exit.networks_mut()),
        }
    }
}

impl RunLayers for ServedLayers {
    fn run_layers(&mut self, policy: &mut Policy, input: &[f32; INPUT]) -> Result<Tokens> {
        match self {
            Self::All => AllLayers.run_layers(policy, input),
            Self::Skip(skipping) => skipping.run_layers(policy, input),
            Self::Exit(exit) => exit.run_layers(policy, input),
        }
    }

    fn prepare(&mut self, run: RunOrder) {
        if let Self::Skip(skipping) = self {
            skipping.prepare(run);
        }
    }

    fn demands_second_run(&self) -> bool {
        matches!(self, Self::Skip(skipping) if skipping.demands_second_run())
    }
}
