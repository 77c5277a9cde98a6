//! The command line.

use std::path::PathBuf;

use clap::Args;

use w4ax_robot::networks::AdapterWeights;
use w4ax_robot::paths;
use w4ax_robot::setting::{FEW, HALF, Setting, Verification};
use w4ax_robot::skip_episode::run::RunWidth;

/// Where the picture goes if `--plot` does not say.
pub const PICTURE: &str = paths::SKIP_PICTURE;

/// Runs recorded episodes through a policy that skips layers, and through what that is compared with
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The trained policy, safetensors
    #[arg(long, value_name = "FILE", default_value = paths::DEEP_POLICY)]
    pub policy: PathBuf,
    /// Recorded episodes, safetensors
    #[arg(long, value_name = "FILE", default_value = paths::DEEP_ROLLOUTS)]
    pub rollouts: PathBuf,
    /// Run the validation episodes of this dataset instead: what settings are picked on
    #[arg(long, value_name = "FILE", conflicts_with = "rollouts", num_args = 0..=1, default_missing_value = paths::DATASET)]
    pub validation: Option<PathBuf>,
    /// The dispatcher's calibration, JSON [default: calibration.json beside the policy]
    #[arg(long, value_name = "FILE")]
    pub calibration: Option<PathBuf>,
    /// Adapters and controllers, safetensors, as `distill` writes them
    #[arg(long, value_name = "FILE", default_value = paths::SKIP)]
    pub skip: PathBuf,
    /// The same with 10 % of the layers static
    #[arg(long, value_name = "FILE", default_value = paths::SKIP_10)]
    pub skip_10: PathBuf,
    /// The same with 30 % of the layers static
    #[arg(long, value_name = "FILE", default_value = paths::SKIP_30)]
    pub skip_30: PathBuf,
    /// The same with no static layers
    #[arg(long, value_name = "FILE", default_value = paths::SKIP_NO_STATIC)]
    pub skip_no_static: PathBuf,
    /// The same, trained in one stage
    #[arg(long, value_name = "FILE", default_value = paths::SKIP_JOINT)]
    pub skip_joint: PathBuf,
    /// Networks with an early exit
    #[arg(long, value_name = "FILE", default_value = paths::SKIP_EXIT)]
    pub skip_exit: PathBuf,
    /// What the adapters' weights are beside quantized blocks; beside unquantized ones they are BF16
    #[arg(long, value_enum, default_value_t = AdapterWeights::Packed)]
    pub adapters: AdapterWeights,
    /// For half of the layers: eta1 and eta, eta2, and the probability above which a controller skips
    #[arg(long, value_name = "ETA,ETA2,P", default_value_t = HALF)]
    pub half: Setting,
    /// The same for 30 % of them
    #[arg(long, value_name = "ETA,ETA2,P", default_value_t = FEW)]
    pub few: Setting,
    /// When a step of DySL runs again; the rows that are named after a rule have theirs
    #[arg(long, value_enum, default_value_t = Verification::FirstDrop)]
    pub verify: Verification,
    /// Only the methods whose names these are, besides full and DySL
    #[arg(long, value_name = "NAME", num_args = 0..)]
    pub only: Option<Vec<String>>,
    /// Only these widths: bf16 (unquantized), w4a16, w4a8, w4ax
    #[arg(long, value_name = "WIDTH", value_delimiter = ',', value_parser = RunWidth::parse)]
    pub widths: Option<Vec<RunWidth>>,
    /// The first so many episodes only
    #[arg(long, value_name = "N")]
    pub episodes: Option<usize>,
    /// How often each step is timed: the shortest time counts
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub repeats: u32,
    /// Threads that share a layer, 0 for all
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=256))]
    pub threads: u16,
    /// The picture of one episode, SVG [default: target/skip_episode.svg in the crate]
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// The episode in the picture, counted from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub episode: usize,
    /// The results as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Seed of the random skips
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}
