//! The costs of a step by width, as an option and as a table.

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

use comfy_table::Table;
use w4ax::dispatch::StepCosts;
use w4ax::{Result, Width};
use w4ax_robot::episode::rule::measured_costs;
use w4ax_robot::policy::Policy;
use w4ax_robot::shapes::INPUT;
use w4ax_robot::table::table;

/// Where the costs come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CostSource {
    /// In proportion to the bits of an activation: the same on every machine.
    Bits,
    /// Measured on this machine.
    Measured,
    /// A JSON file, see [`StepCosts::from_json`].
    File(PathBuf),
}

impl FromStr for CostSource {
    type Err = Infallible;

    fn from_str(text: &str) -> std::result::Result<Self, Infallible> {
        Ok(match text {
            "bits" => Self::Bits,
            "measured" => Self::Measured,
            _ => Self::File(text.into()),
        })
    }
}

impl CostSource {
    /// Returns the costs of a policy's steps. `input` is that of any step.
    ///
    /// # Errors
    /// As [`StepCosts::load`] and [`measured_costs`].
    pub fn load(&self, policy: &mut Policy, input: &[f32; INPUT]) -> Result<StepCosts> {
        match self {
            Self::Bits => Ok(StepCosts::BITS),
            Self::Measured => measured_costs(policy, input),
            Self::File(path) => StepCosts::load(path),
        }
    }
}

/// Returns the table of the costs, with the widths that save nothing.
pub fn cost_table(costs: &StepCosts) -> Table {
    let rows = Width::ALL.map(|width| {
        let verdict = match costs.dominated_by(width) {
            Some(by) => {
                let saved = 100.0 * (1.0 - costs.of(width) / costs.of(by));
                format!("dominated by {by}: saves {saved:.1} %")
            }
            None => "useful".into(),
        };
        vec![
            width.to_string(),
            format!("{:.4}", costs.of(width)),
            verdict,
        ]
    });
    table(&["width", "cost", ""], rows)
}
