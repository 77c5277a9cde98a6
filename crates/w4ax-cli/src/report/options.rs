//! Options that several reports share.

use std::path::PathBuf;

use w4ax::dispatch::StepCosts;
use w4ax::{Error, Result};
use w4ax_robot::paths;
use w4ax_robot::rollouts::{RECORDED, Rollouts};
use w4ax_robot::setup::{Robot, Setup};
use w4ax_robot::shapes::INPUT;

use crate::costs::CostSource;

/// The policy and its recorded steps.
#[derive(clap::Args, Clone, Debug)]
pub struct Recorded {
    #[command(flatten)]
    pub setup: Setup,
    /// Recorded episodes, safetensors
    #[arg(long, value_name = "FILE", default_value = RECORDED)]
    pub rollouts: PathBuf,
}

impl Recorded {
    /// Loads the recorded steps.
    ///
    /// # Errors
    /// As [`paths::check`] and [`Rollouts::load`].
    pub fn rollouts(&self) -> Result<Rollouts> {
        paths::check("--rollouts", &self.rollouts)?;
        Rollouts::load(&self.rollouts)
    }

    /// Loads the recorded steps and the robot.
    ///
    /// # Errors
    /// As [`Recorded::rollouts`] and [`Setup::load`].
    pub fn load(&self) -> Result<(Rollouts, Robot)> {
        Ok((self.rollouts()?, self.setup.load()?))
    }
}

/// The cost of a step at each width.
#[derive(clap::Args, Clone, Debug)]
pub struct Costs {
    /// The cost of a step at each width: `bits` in proportion to the bits, `measured` on this
    /// machine, or a JSON file {"a2": x, "a4": y, "a8": z, "bf16": w} in any unit. A width that is
    /// not at least 3 % cheaper than a more precise one is not chosen
    #[arg(long, value_name = "bits|measured|FILE", default_value = "bits")]
    costs: CostSource,
}

impl Costs {
    /// Returns the costs and what they are, and adds them to the dispatchers of a robot. `input` is
    /// that of any step.
    ///
    /// # Errors
    /// As [`CostSource::load`].
    pub fn load(&self, robot: &mut Robot, input: &[f32; INPUT]) -> Result<(StepCosts, String)> {
        let costs = self.costs.load(&mut robot.policy, input)?;
        let name = match &self.costs {
            CostSource::Bits => "bits".into(),
            CostSource::Measured => "measured here, us".into(),
            CostSource::File(path) => {
                let name = path.file_name().unwrap_or(path.as_os_str());
                name.to_string_lossy().into_owned()
            }
        };
        robot.set_costs(costs)?;
        Ok((costs, name))
    }
}

/// Returns the requested files of an option, or its default: a file of the recorded data.
///
/// # Errors
/// As [`paths::check`], for a default that does not exist.
pub fn files(option: &'static str, requested: &[PathBuf], default: &str) -> Result<Vec<PathBuf>> {
    if !requested.is_empty() {
        return Ok(requested.to_vec());
    }
    let default = PathBuf::from(paths::ROBOT).join(default);
    paths::check(option, &default)?;
    Ok(vec![default])
}

/// Returns an [`Error::Range`] of an option.
pub fn refused(what: &'static str, value: String, range: &'static str) -> Error {
    Error::Range { what, value, range }
}
