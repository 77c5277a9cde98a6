//! The options of `w4ax distill`.

use std::path::PathBuf;

use w4ax::skip::Layers;

use w4ax_robot::paths;
use w4ax_robot::training::batches::Disturb;
use w4ax_robot::training::losses::Weights;
use w4ax_robot::training::plan::Plan;

/// Options that an early exit does not use.
const WITHOUT_GAPS: [&str; 7] = [
    "static_ratio",
    "no_static",
    "joint",
    "lambda",
    "risk",
    "whole",
    "controller_hidden",
];

/// Train adapters and controllers that skip a policy's layers (DySL-VLA)
#[derive(clap::Args)]
pub struct Args {
    /// The trained networks, written whole or not at all; the checkpoint is FILE.training
    #[arg(long)]
    pub out: PathBuf,
    /// The policy, which does not change
    #[arg(long, default_value = paths::DEEP_POLICY)]
    pub policy: PathBuf,
    /// Rows that the policy was trained on
    #[arg(long, default_value = paths::DATASET)]
    pub dataset: PathBuf,
    /// Share of layers that always run: those of the lowest similarity
    #[arg(long, default_value_t = Layers::STATIC_RATIO, conflicts_with = "no_static")]
    pub static_ratio: f64,
    /// No layer always runs
    #[arg(long)]
    pub no_static: bool,
    /// Begin with stage 2, for the steps of both stages
    #[arg(long)]
    pub joint: bool,
    /// One adapter from this layer's input to the head instead: a fixed early exit
    #[arg(long, value_name = "LAYER", conflicts_with_all = WITHOUT_GAPS)]
    pub exit: Option<usize>,
    /// Cost of a layer that runs in the loss of stage 2
    #[arg(long, default_value_t = 0.01)]
    pub lambda: f64,
    /// Weight of the risk of a skip; 0 as in the paper
    #[arg(long, default_value_t = 0.03)]
    pub risk: f64,
    /// Weight of the task's loss with the drawn skips taken completely; 0 as in the paper
    #[arg(long, default_value_t = 1.0)]
    pub whole: f64,
    /// Weight of stage 1's distance in stage 2; 0 as in the paper
    #[arg(long, default_value_t = 0.3)]
    pub distance: f64,
    /// Inner width of an adapter
    #[arg(long, default_value_t = 128)]
    pub adapter_hidden: usize,
    /// Inner width of a controller
    #[arg(long, default_value_t = 32)]
    pub controller_hidden: usize,
    /// Noise on the rows, in standard deviations of an observation
    #[arg(long, default_value_t = 0.1)]
    pub noise: f64,
    /// Share of rows that are moved towards the next step of their episode
    #[arg(long, default_value_t = 0.5)]
    pub between: f64,
    /// Steps of stage 1
    #[arg(long, default_value_t = 400)]
    pub steps_1: usize,
    /// Steps of stage 2
    #[arg(long, default_value_t = 1200)]
    pub steps_2: usize,
    /// Rows per step
    #[arg(long, default_value_t = 256)]
    pub batch: usize,
    /// The largest learning rate
    #[arg(long, default_value_t = 4e-3)]
    pub rate: f64,
    /// Seed of all random numbers
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Threads; the result does not depend on their number
    #[arg(long, default_value_t = 2)]
    pub threads: usize,
    /// Steps from one checkpoint to the next
    #[arg(long, default_value_t = 100)]
    pub checkpoint_every: usize,
}

impl Args {
    /// Returns the plan, with the fingerprint of its files.
    pub fn plan(&self, inputs: String) -> Plan {
        let steps = match self.joint {
            true => [0, self.steps_1 + self.steps_2],
            false => [self.steps_1, self.steps_2],
        };
        Plan {
            inputs,
            static_ratio: (!self.no_static && self.exit.is_none()).then_some(self.static_ratio),
            exit: self.exit,
            adapter_hidden: self.adapter_hidden,
            controller_hidden: self.controller_hidden,
            weights: Weights {
                lambda: self.lambda,
                whole: self.whole,
                distance: self.distance,
                risk: self.risk,
            },
            disturb: Disturb {
                noise: self.noise,
                between: self.between,
            },
            steps,
            batch: self.batch,
            parts: 2,
            rate: self.rate,
            clip: 1.0,
            seed: self.seed,
        }
    }
}
