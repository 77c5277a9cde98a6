//! Options that several commands share, and the robot that they load.

use std::path::{Path, PathBuf};

use w4ax::calibrate::Calibration;
use w4ax::cpu::Cpu;
use w4ax::dispatch::{Dispatcher, StepCosts};
use w4ax::{Error, Grouping, Quantize, Result};

use super::checkpoint::Checkpoint;
use super::compute::Compute;
use super::embedded;
use super::policy::Policy;
use super::weight_options::WeightOptions;

/// The default quantization of the policy's weights: groups of 64, symmetric, BF16 scales.
pub const QUANTIZE: Quantize = Quantize::new(Grouping::G64);

/// The policy, its calibration, and the number of threads.
#[derive(clap::Args, Clone, Debug)]
pub struct Setup {
    /// The trained policy, safetensors [default: a policy of 4 blocks in this program]
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// The dispatcher's calibration, JSON [default: calibration.json in the folder of the policy,
    /// or that of the policy in this program]
    #[arg(long, value_name = "FILE")]
    pub calibration: Option<PathBuf>,
    /// Threads that share a layer, 0 for all
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(0..=256)
    )]
    pub threads: u16,
    /// The quantization of the policy's weights.
    #[command(flatten)]
    pub weights: WeightOptions,
}

/// A policy, and a dispatcher for each of its tasks.
pub struct Robot {
    /// The quantized policy.
    pub policy: Policy,
    /// The bytes of the quantized layers in BF16.
    pub bf16_bytes: usize,
    /// The calibration of the dispatchers.
    pub calibration: Calibration,
    /// By task, each at the start of an episode.
    pub dispatchers: Vec<Dispatcher>,
}

impl Robot {
    /// Sets the cost of a step at each width for all dispatchers.
    ///
    /// # Errors
    /// As [`Dispatcher::set_costs`].
    pub fn set_costs(&mut self, costs: StepCosts) -> Result<()> {
        let mut dispatchers = self.dispatchers.iter_mut();
        dispatchers.try_for_each(|dispatcher| dispatcher.set_costs(Some(costs)))
    }
}

impl Setup {
    /// Runs a job in a pool of `threads` threads, see [`in_pool`].
    ///
    /// # Errors
    /// As [`in_pool`].
    pub fn in_pool<T: Send>(&self, job: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        in_pool(self.threads, job)
    }

    /// Loads the robot for single steps on the CPU, in the current pool.
    ///
    /// # Errors
    /// As [`Setup::load_on`] and [`Cpu::new`].
    pub fn load(&self) -> Result<Robot> {
        self.load_on(Cpu::new()?)
    }

    /// Loads the robot for single steps.
    ///
    /// # Errors
    /// As [`Setup::checkpoint`] and [`Setup::robot`].
    pub fn load_on(&self, compute: impl Into<Compute>) -> Result<Robot> {
        self.robot(&self.checkpoint()?, compute)
    }

    /// Loads the trained policy.
    ///
    /// # Errors
    /// As [`checkpoint`].
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        checkpoint(self.policy.as_deref())
    }

    /// Returns the name of the policy: that of its file, without the extension.
    pub fn policy_name(&self) -> String {
        match &self.policy {
            Some(path) => path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into(),
            None => embedded::NAME.into(),
        }
    }

    /// Makes the robot of [`Setup::checkpoint`] for single steps.
    ///
    /// # Errors
    /// As [`dispatchers`] and [`Policy::new`].
    pub fn robot(&self, checkpoint: &Checkpoint, compute: impl Into<Compute>) -> Result<Robot> {
        let (calibration, dispatchers) = dispatchers(
            self.calibration.as_deref(),
            self.policy.as_deref(),
            &checkpoint.tasks,
        )?;
        Ok(Robot {
            policy: Policy::new(checkpoint, self.weights.quantize(), compute, 1)?,
            bf16_bytes: checkpoint.bf16_bytes(),
            dispatchers,
            calibration,
        })
    }
}

/// Runs a job in a pool of `threads` threads, or of one per core for 0. GEMMs of the job use that
/// pool.
///
/// # Errors
/// [`Error::Unavailable`] if the threads cannot be started. Those of the job.
pub fn in_pool<T: Send>(threads: u16, job: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.into())
        .build()
        .map_err(|error| Error::Unavailable {
            requested: format!("{threads} threads"),
            reason: w4ax::Unavailable::NoThreads {
                reason: error.to_string(),
            },
        })?;
    pool.install(job)
}

/// Returns the default calibration of a policy: `calibration.json` in its folder.
pub fn default_calibration(policy: impl AsRef<Path>) -> PathBuf {
    policy.as_ref().with_file_name("calibration.json")
}

/// Loads a trained policy. The default is [`embedded::checkpoint`].
///
/// # Errors
/// As [`Checkpoint::load`].
pub fn checkpoint(policy: Option<&Path>) -> Result<Checkpoint> {
    match policy {
        Some(path) => Checkpoint::load(path),
        None => embedded::checkpoint(),
    }
}

/// Loads a calibration, and makes a dispatcher for each task at the start of an episode. The
/// default is [`default_calibration`], or [`embedded::calibration`] for the embedded policy.
///
/// # Errors
/// As [`Calibration::load`]. [`Error::Format`] for a calibration without one of the tasks.
pub fn dispatchers(
    requested: Option<&Path>,
    policy: Option<&Path>,
    tasks: &[String],
) -> Result<(Calibration, Vec<Dispatcher>)> {
    let file = requested
        .map(Path::to_owned)
        .or(policy.map(default_calibration));
    let (calibration, file) = match &file {
        Some(file) => (Calibration::load(file)?, file.display().to_string()),
        None => (embedded::calibration()?, embedded::CALIBRATION_FILE.into()),
    };
    let dispatcher = |task: &String| {
        let config = calibration
            .dispatch_config(task)
            .map_err(|error| Error::Format {
                file: file.clone(),
                reason: error.to_string(),
            })?;
        Dispatcher::new(&config)
    };
    let dispatchers = tasks.iter().map(dispatcher).collect::<Result<_>>()?;
    Ok((calibration, dispatchers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, Command, FromArgMatches};

    /// The program runs where the source folder does not exist.
    #[test]
    fn default_policy_is_in_the_program() {
        let command = Setup::augment_args(Command::new("w4ax"));
        let matches = command.get_matches_from(["w4ax"]);
        let setup = Setup::from_arg_matches(&matches).unwrap();
        assert_eq!((&setup.policy, &setup.calibration), (&None, &None));
        assert_eq!(setup.weights, WeightOptions::default());
        let robot = setup.load().unwrap();
        let named = Setup {
            policy: Some(crate::paths::POLICY.into()),
            ..setup
        };
        let of_file = named.load().unwrap();
        assert_eq!(robot.policy.tasks(), of_file.policy.tasks());
        assert_eq!(robot.policy.packed_bytes(), of_file.policy.packed_bytes());
        assert_eq!(robot.calibration, of_file.calibration);
        assert_eq!(named.policy_name(), embedded::NAME);
    }
}
