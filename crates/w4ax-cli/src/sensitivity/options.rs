//! The options of `w4ax sensitivity`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use w4ax::Result;
use w4ax_robot::paths;

/// The default of `--plot`.
pub const PICTURE: &str = paths::SENSITIVITY_PICTURE;

/// The default of `--data`.
const DATA: &str = paths::ROBOT;

/// Correlate the effect of one perturbed step with the motion of that step (DyQ-VLA III), and
/// measure the continuity of an expert's actions by phase (DySL-VLA)
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
    /// Source of mu_max and nu_max
    #[arg(long, value_enum, default_value_t = Scale::Calibration)]
    pub scale: Scale,
    /// Draws of episodes for the intervals
    #[arg(
        long,
        value_name = "N",
        default_value_t = 2000,
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    pub draws: u32,
    /// Seed of the draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// The picture, SVG [default: target/sensitivity.svg in the workspace]
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// All rows and figures as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// The source of mu_max and nu_max.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scale {
    /// The calibration file
    Calibration,
    /// The 95th percentiles of each task's undisturbed actions
    Nominal,
}

impl Options {
    /// Returns the requested file, or `name` in the folder.
    ///
    /// # Errors
    /// As [`paths::check`], for a folder that does not exist.
    pub fn file(&self, requested: &Option<PathBuf>, name: &str) -> Result<PathBuf> {
        if let Some(path) = requested {
            return Ok(path.clone());
        }
        paths::check("--data", &self.data)?;
        Ok(self.data.join(name))
    }
}
