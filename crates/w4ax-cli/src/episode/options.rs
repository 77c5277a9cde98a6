//! The options of `w4ax episode`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use w4ax_robot::compute::Routing;
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
    /// What decides the width of a step in the dynamic run
    #[arg(long, value_enum, default_value_t = Rule::Dyq)]
    pub rule: Rule,
    /// The cost of a step at each width, JSON: {"a2": x, "a4": y, "a8": z, "bf16": w} in any unit.
    /// A width that is not at least 3 % cheaper than a more precise one is not chosen. [default:
    /// the costs of the calibration, or measured here; `dyq` leaves out no width then]
    #[arg(long, value_name = "FILE")]
    pub costs: Option<PathBuf>,
    /// Closed-loop steps (CSV) whose decisions are repeated
    #[arg(long, value_name = "FILE")]
    pub replay: Option<PathBuf>,
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
