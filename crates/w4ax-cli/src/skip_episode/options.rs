//! The options of `w4ax skip-episode`.

use std::path::PathBuf;

use clap::Args;
use w4ax::Result;

use w4ax_robot::networks::AdapterWeights;
use w4ax_robot::paths;
use w4ax_robot::setting::{FEW, HALF, Setting, Verification};
use w4ax_robot::skip_episode::run::RunWidth;

/// The default of `--plot`.
pub const PICTURE: &str = paths::SKIP_PICTURE;

/// Compare ways to skip a policy's layers on recorded episodes (DySL-VLA)
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The trained policy, safetensors
    #[arg(long, value_name = "FILE", default_value = paths::DEEP_POLICY)]
    pub policy: PathBuf,
    /// Recorded episodes, safetensors
    #[arg(long, value_name = "FILE", default_value = paths::DEEP_ROLLOUTS)]
    pub rollouts: PathBuf,
    /// Run the validation episodes of this dataset instead, on which settings are chosen
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "rollouts",
        num_args = 0..=1,
        default_missing_value = paths::DATASET
    )]
    pub validation: Option<PathBuf>,
    /// The dispatcher's calibration, JSON [default: calibration.json in the folder of the policy]
    #[arg(long, value_name = "FILE")]
    pub calibration: Option<PathBuf>,
    /// Adapters and controllers, safetensors, as `distill` writes them
    #[arg(long, value_name = "FILE", default_value = paths::SKIP)]
    pub skip: PathBuf,
    /// Networks with 10 % of the layers static
    #[arg(long, value_name = "FILE", default_value = paths::SKIP_10)]
    pub skip_10: PathBuf,
    /// Networks with 30 % of the layers static
    #[arg(long, value_name = "FILE", default_value = paths::SKIP_30)]
    pub skip_30: PathBuf,
    /// Networks with no static layers
    #[arg(long, value_name = "FILE", default_value = paths::SKIP_NO_STATIC)]
    pub skip_no_static: PathBuf,
    /// Networks that were trained in one stage
    #[arg(long, value_name = "FILE", default_value = paths::SKIP_JOINT)]
    pub skip_joint: PathBuf,
    /// Networks with an early exit
    #[arg(long, value_name = "FILE", default_value = paths::SKIP_EXIT)]
    pub skip_exit: PathBuf,
    /// Type of the adapters' weights for the quantized policy; the unquantized policy has BF16
    /// adapters
    #[arg(long, value_enum, default_value_t = AdapterWeights::Packed)]
    pub adapters: AdapterWeights,
    /// Setting for half of the layers: eta1 and eta, eta2, and the probability above which a
    /// controller skips
    #[arg(long, value_name = "ETA,ETA2,P", default_value_t = HALF)]
    pub half: Setting,
    /// Setting for 30 % of the layers
    #[arg(long, value_name = "ETA,ETA2,P", default_value_t = FEW)]
    pub few: Setting,
    /// When a step of DySL runs again; rows that name a rule use that rule
    #[arg(long, value_enum, default_value_t = Verification::FirstDrop)]
    pub verify: Verification,
    /// Run only these methods, besides full and DySL
    #[arg(long, value_name = "NAME", num_args = 0..)]
    pub only: Option<Vec<String>>,
    /// Run only these widths: bf16 (unquantized), w4a16, w4a8, w4ax
    #[arg(long, value_name = "WIDTH", value_delimiter = ',', value_parser = RunWidth::parse)]
    pub widths: Option<Vec<RunWidth>>,
    /// Run only the first N episodes
    #[arg(long, value_name = "N")]
    pub episodes: Option<usize>,
    /// Repetitions of each step; the shortest time counts
    #[arg(
        long,
        value_name = "N",
        default_value_t = 3,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub repeats: u32,
    /// Threads that share a layer, 0 for all
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(0..=256)
    )]
    pub threads: u16,
    /// The picture of one episode, SVG [default: target/skip_episode.svg in the workspace]
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

impl Options {
    /// Checks that the files exist whose defaults are in the workspace.
    ///
    /// # Errors
    /// As [`paths::check`].
    pub fn check_paths(&self) -> Result<()> {
        let recording = match &self.validation {
            Some(path) => ("--validation", path),
            None => ("--rollouts", &self.rollouts),
        };
        let files = [
            ("--policy", &self.policy),
            recording,
            ("--skip", &self.skip),
            ("--skip-10", &self.skip_10),
            ("--skip-30", &self.skip_30),
            ("--skip-no-static", &self.skip_no_static),
            ("--skip-joint", &self.skip_joint),
            ("--skip-exit", &self.skip_exit),
        ];
        (files.into_iter()).try_for_each(|(option, path)| paths::check(option, path))
    }
}
