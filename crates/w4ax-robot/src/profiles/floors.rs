//! The choice of floors.

use std::str::FromStr;

use w4ax::calibrate::FloorPath;
use w4ax::dispatch::{LayerFloors, StepCosts};
use w4ax::{Error, Result, Width};

use super::run::ProfileRun;
use crate::floors::Floor;
use crate::policy::Policy;
use crate::rollouts::Rollouts;

/// The part of the low width's error that floors of [`FloorsOption::Auto`] leave at most.
const AUTO_PART: f64 = 0.5;

/// Which layers have a floor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum FloorsOption {
    /// Block 0, at the high width.
    #[default]
    First,
    /// None.
    None,
    /// The fewest layers at the high width that halve the error of the low width, in the order of
    /// a greedy search.
    Auto,
    /// These layers, at these widths.
    Given(Vec<Floor>),
}

impl FloorsOption {
    /// Returns the floors of a policy's layers, and the path of the greedy search if it ran.
    ///
    /// # Errors
    /// As [`Floor::of_policy`], [`FloorPath::search`] and [`ProfileRun::measure`].
    pub fn resolve(
        &self,
        policy: &mut Policy,
        rollouts: &Rollouts,
        (low, high): (Width, Width),
        costs: &StepCosts,
    ) -> Result<(LayerFloors, Option<FloorPath>)> {
        let layers = policy.floors().len();
        Ok(match self {
            Self::First => (first_block(layers, high), None),
            Self::None => (LayerFloors::none(layers), None),
            Self::Auto => {
                let path = search(policy, rollouts, (low, high), costs)?;
                let error_low = path.lowerings.last().map_or(0.0, |last| last.error);
                let floors = path.floors(path.within(AUTO_PART * error_low));
                (floors, Some(path))
            }
            Self::Given(given) => (Floor::of_policy(given, layers - 1)?, None),
        })
    }
}

impl FromStr for FloorsOption {
    type Err = Error;

    /// Parses `first`, `none`, `auto`, or layers with widths such as `0=a4,head=a8`.
    ///
    /// # Errors
    /// As [`Floor`] for another text.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "first" => Ok(Self::First),
            "none" => Ok(Self::None),
            "auto" => Ok(Self::Auto),
            _ => {
                let given: Result<_> = text.split(',').map(str::parse).collect();
                given.map(Self::Given)
            }
        }
    }
}

/// Returns floors that keep block 0 at a width.
pub fn first_block(layers: usize, width: Width) -> LayerFloors {
    let mut floors = LayerFloors::none(layers);
    floors.set(0, width);
    floors
}

/// Finds the order in which layers lose the high width. A layer saves its share of the products
/// times the difference of the costs.
fn search(
    policy: &mut Policy,
    rollouts: &Rollouts,
    (low, high): (Width, Width),
    costs: &StepCosts,
) -> Result<FloorPath> {
    let difference = costs.of(high) - costs.of(low);
    let shares = policy.layer_shares();
    let savings: Vec<f64> = shares.iter().map(|share| share * difference).collect();
    FloorPath::search(high, &savings, |floors| {
        Ok(ProfileRun::measure(policy, rollouts, low, floors)?.mean_error(rollouts))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_each_form_and_rejects_others() {
        let parse = |text: &str| text.parse::<FloorsOption>();
        assert_eq!(parse("first").unwrap(), FloorsOption::First);
        assert_eq!(parse("none").unwrap(), FloorsOption::None);
        assert_eq!(parse("auto").unwrap(), FloorsOption::Auto);
        assert_eq!(
            parse("0=a4,head=bf16").unwrap(),
            FloorsOption::Given(vec!["0=a4".parse().unwrap(), "head=bf16".parse().unwrap()])
        );
        for bad in ["", "0", "0=a3", "0=a4,", "Auto"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
