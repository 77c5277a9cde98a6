//! The command line.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Where the picture goes if `--plot` does not say.
pub const PICTURE: &str = w4ax_robot::paths::SENSITIVITY_PICTURE;

/// The data that comes with the repository.
const DATA: &str = w4ax_robot::paths::ROBOT;

/// How sensitive an episode's end is to one step's error, against the motion of that step (DyQ-VLA III); how continuous an
/// expert's actions are, by phase (DySL-VLA)
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// A folder with the four files below
    #[arg(long, value_name = "DIR", default_value = DATA)]
    pub data: PathBuf,
    /// Perturbed steps [default: perturb.csv in DIR]
    #[arg(long, value_name = "FILE")]
    pub perturb: Option<PathBuf>,
    /// The undisturbed actions [default: nominal_actions.csv in DIR]
    #[arg(long, value_name = "FILE")]
    pub nominal: Option<PathBuf>,
    /// The scripted expert's episodes [default: trajectories_expert.csv in DIR]
    #[arg(long, value_name = "FILE")]
    pub expert: Option<PathBuf>,
    /// The windows, mu_max and nu_max [default: calibration.json in DIR]
    #[arg(long, value_name = "FILE")]
    pub calibration: Option<PathBuf>,
    /// Where mu_max and nu_max come from
    #[arg(long, value_enum, default_value_t = Scale::Calibration)]
    pub scale: Scale,
    /// Draws of episodes that the intervals are of
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub draws: u32,
    /// Seed of the draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// The picture, SVG [default: target/sensitivity.svg in the crate]
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// All rows and figures as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Where mu_max and nu_max come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scale {
    /// The calibration file
    Calibration,
    /// The 95th percentiles of each task's undisturbed actions
    Nominal,
}

impl Options {
    /// A file: the one that was asked for, else `name` in the folder.
    pub fn file(&self, asked: &Option<PathBuf>, name: &str) -> PathBuf {
        asked.clone().unwrap_or_else(|| self.data.join(name))
    }
}
