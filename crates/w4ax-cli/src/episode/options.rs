//! The options of `w4ax episode`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::costs::CostSource;
use w4ax_robot::compute::Routing;
use w4ax_robot::dataset;
use w4ax_robot::episode::rule::Rule;
use w4ax_robot::rollouts::RECORDED;
use w4ax_robot::setup::Setup;

/// The default of `--plot`.
pub const PICTURE: &str = w4ax_robot::paths::EPISODE_PICTURE;

/// Replay recorded robot episodes through the quantized policy, its width decided by the robot's
/// motion
#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    pub setup: Setup,
    /// Recorded episodes, safetensors
    #[arg(long, value_name = "FILE", default_value = RECORDED)]
    pub rollouts: PathBuf,
    /// The validation episodes of this dataset instead, which the policy was not trained on
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "rollouts",
        num_args = 0..=1,
        default_missing_value = dataset::RECORDED
    )]
    pub validation: Option<PathBuf>,
    /// What decides the width of a step in the dynamic run
    #[arg(long, value_enum, default_value_t = Rule::Dyq)]
    pub rule: Rule,
    /// The cost of a step at each width: `bits` in proportion to the bits, `measured` on this
    /// machine, or a JSON file {"a2": x, "a4": y, "a8": z, "bf16": w} in any unit. A width that is
    /// not at least 3 % cheaper than a more precise one is not chosen. [default: the costs of the
    /// calibration, or measured here; `dyq` leaves out no width then]
    #[arg(long, value_name = "bits|measured|FILE")]
    pub costs: Option<CostSource>,
    /// Keep percentiles online, over all episodes of a task: the scale of the motion of `dyq`, and
    /// the distribution of the uncertainty of `consistency` if the calibration has none
    #[arg(long)]
    pub online: bool,
    /// Closed-loop steps (CSV) whose decisions are repeated
    #[arg(long, value_name = "FILE")]
    pub replay: Option<PathBuf>,
    /// The parameters with which these steps ran [default: closed_loop_calibration.json in the
    /// folder of the steps if it exists, or the calibration in use]
    #[arg(long, value_name = "FILE", requires = "replay")]
    pub replay_calibration: Option<PathBuf>,
    /// The picture of one episode, SVG [default: target/episode.svg in the workspace]
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// The episode in the picture, counted from 0 [default: the one whose width changes most often]
    #[arg(long, value_name = "N")]
    pub episode: Option<usize>,
    /// The results as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Backend of the layers
    #[arg(long, value_enum, default_value_t = Backend::Cpu)]
    pub backend: Backend,
    /// What selects the kernel of a step's width on a GPU [default: kernel]
    #[arg(long, value_enum)]
    pub routing: Option<Routing>,
    /// Seed of the random widths
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// The backend of the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The CPU, with its best instruction set or the one that W4AX_CPU names
    Cpu,
    /// The first GPU, in builds with feature `cuda`
    Cuda,
}
