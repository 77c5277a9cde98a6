//! The parts of the system, one after the other (DyQ-VLA, Table 3): what each adds to the error,
//! the widths and the time of a step.
//!
//! | rung | widths | decided |
//! | --- | --- | --- |
//! | static A4 | A4 | never |
//! | dispatch | A4 up to theta_fp, BF16 above | before the step |
//! | mixed precision | all four, by the calibration | before the step |
//! | asynchronous | as before; the prefill runs at the last width | during the prefill |
//! | floors | mixed precision, block 0 at A4 or wider; not in the paper | before the step |
//!
//! The recorded policy has no prefill. For the error of the asynchronous rung the first half of
//! its blocks stands for it: these blocks run at the width of the last step.

use serde::Serialize;
use w4ax::calibrate::distance;
use w4ax::dispatch::{Action, DispatchConfig, Dispatcher, LayerFloors, StepCosts, Thresholds};
use w4ax::{Result, Width};

use super::ByWidth;
use super::fixed::{FixedWidths, mean_cost, shares};
use crate::compute::StepWidth;
use crate::policy::{Policy, tokens_of};
use crate::rollouts::{Rollouts, action};
use crate::shapes::Tokens;

/// A rung of the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// A4 in every step.
    StaticA4,
    /// Two widths, decided before the step.
    TwoWidths,
    /// All widths, decided before the step.
    MixedPrecision,
    /// All widths, decided during the prefill.
    Asynchronous,
    /// All widths, decided before the step, with a floor.
    Floors,
}

impl Rung {
    /// All, in the order of the table.
    pub const ALL: [Self; 5] = [
        Self::StaticA4,
        Self::TwoWidths,
        Self::MixedPrecision,
        Self::Asynchronous,
        Self::Floors,
    ];

    /// Returns the name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::StaticA4 => "static A4",
            Self::TwoWidths => "+ dispatch, A4 and BF16",
            Self::MixedPrecision => "+ mixed precision",
            Self::Asynchronous => "+ asynchronous decision",
            Self::Floors => "mixed precision, floors",
        }
    }

    /// Returns the configuration of the dispatcher on this rung.
    pub fn config(self, config: &DispatchConfig) -> DispatchConfig {
        match self {
            Self::TwoWidths => two_widths(config),
            _ => *config,
        }
    }
}

/// A rung on the recorded steps.
#[derive(Clone, Debug, Serialize)]
pub struct RungScore {
    /// The rung.
    pub rung: Rung,
    /// The mean action error, in action units.
    pub mean_action_error: f64,
    /// The share of steps at each decided width.
    pub share: ByWidth,
    /// The mean cost of a step.
    pub cost: f64,
}

/// Returns a configuration with the widths A4 and BF16: A4 up to theta_fp.
fn two_widths(config: &DispatchConfig) -> DispatchConfig {
    let theta_fp = config.thresholds().theta_fp;
    // S = 0 has the target A2. With these costs A2 is dominated by A4, and A8 by BF16.
    let costs = StepCosts::new([1.0, 1.0, 2.0, 2.0]).expect("the costs are above 0");
    let thresholds = Thresholds {
        theta_24: 0.0,
        theta_48: theta_fp,
        theta_fp,
    };
    config.with_thresholds(thresholds).with_costs(costs)
}

/// Returns the floors of a rung with floors: layer 0 at A4 or wider.
pub fn floors(layers: usize) -> LayerFloors {
    let mut floors = LayerFloors::none(layers);
    floors.set(0, Width::A4);
    floors
}

/// Scores all rungs, in the order of [`Rung::ALL`]. `configs` has one entry per task. The policy
/// has no floors before and after.
///
/// # Errors
/// As [`FixedWidths::run`] and [`FixedWidths::dyq`].
pub fn scores(
    policy: &mut Policy,
    rollouts: &Rollouts,
    fixed: &FixedWidths,
    configs: &[DispatchConfig],
    costs: &StepCosts,
) -> Result<Vec<RungScore>> {
    let layer_shares = policy.layer_shares();
    let score = |rung, widths: &[Width], error, cost| RungScore {
        rung,
        mean_action_error: error,
        share: shares(widths),
        cost,
    };
    let mut scores = Vec::new();
    for rung in Rung::ALL {
        let configs: Vec<_> = configs.iter().map(|config| rung.config(config)).collect();
        let one = match rung {
            Rung::StaticA4 => {
                let widths = vec![Width::A4; fixed.len()];
                score(
                    rung,
                    &widths,
                    fixed.mean_error(&widths),
                    costs.of(Width::A4),
                )
            }
            Rung::TwoWidths | Rung::MixedPrecision => {
                let widths = fixed.dyq(rollouts, &configs)?;
                let cost = mean_cost(&widths, costs);
                score(rung, &widths, fixed.mean_error(&widths), cost)
            }
            Rung::Asynchronous => {
                let (widths, error, cost) = asynchronous(policy, rollouts, &configs, costs)?;
                score(rung, &widths, error, cost)
            }
            Rung::Floors => {
                let floors = floors(layer_shares.len());
                policy.set_floors(&floors)?;
                let fixed = FixedWidths::run(policy, rollouts)?;
                policy.set_floors(&LayerFloors::none(layer_shares.len()))?;
                let widths = fixed.dyq(rollouts, &configs)?;
                let cost = |&width: &Width| costs.with_floors(width, &floors, &layer_shares);
                let cost = widths.iter().map(cost).sum::<f64>() / widths.len() as f64;
                score(rung, &widths, fixed.mean_error(&widths), cost)
            }
        };
        scores.push(one);
    }
    Ok(scores)
}

/// Runs the recorded steps with a decision during the prefill, for which the first half of the
/// blocks stands. Returns the decided widths, the mean error and the mean cost.
fn asynchronous(
    policy: &mut Policy,
    rollouts: &Rollouts,
    configs: &[DispatchConfig],
    costs: &StepCosts,
) -> Result<(Vec<Width>, f64, f64)> {
    let (blocks, half) = (policy.blocks(), policy.blocks() / 2);
    let prefill: f64 = policy.layer_shares()[..half].iter().sum();
    let (mut widths, mut error, mut cost) = (Vec::new(), 0.0, 0.0);
    for episode in rollouts.episodes() {
        let mut dispatcher = Dispatcher::new(&configs[rollouts.task[episode.start]])?;
        let mut last = Width::Bf16;
        for row in episode.clone() {
            let width = dispatcher.decide().active;
            policy.embed(std::slice::from_ref(&rollouts.input[row]))?;
            for block in 0..blocks {
                let at = if block < half { last } else { width };
                policy.run_block(block, StepWidth::Fixed(at))?;
            }
            let mut tokens = [Tokens::default()];
            tokens_of(policy.head(StepWidth::Fixed(width))?, &mut tokens)?;
            let ran: Action = action(&tokens[0]);
            dispatcher.observe(&ran)?;
            error += distance(&ran, &action(&rollouts.bf16[row]));
            cost += prefill * costs.of(last) + (1.0 - prefill) * costs.of(width);
            widths.push(width);
            last = width;
        }
    }
    let steps = widths.len() as f64;
    Ok((widths, error / steps, cost / steps))
}

#[cfg(test)]
mod tests {
    use super::*;
    use w4ax::dispatch::MotionScale;

    #[test]
    fn two_widths_are_a4_and_bf16_at_every_sensitivity() {
        let motion = MotionScale {
            mu_max: 1.0,
            nu_max: 1.0,
        };
        let thresholds = Thresholds {
            theta_24: 0.2,
            theta_48: 0.3,
            theta_fp: 0.5,
        };
        let config = two_widths(&DispatchConfig::new(motion, thresholds).with_lambda(1.0));
        let mut dispatcher = Dispatcher::new(&config.with_window_macro(1)).unwrap();
        // S = M = 1 - speed.
        for (speed, expected) in [
            (1.0, Width::A4),
            (0.75, Width::A4),
            (0.5, Width::A4),
            (0.4, Width::Bf16),
            (0.0, Width::Bf16),
        ] {
            dispatcher
                .observe(&[speed, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
                .unwrap();
            assert_eq!(dispatcher.decide().target, expected, "{speed}");
        }
    }
}
