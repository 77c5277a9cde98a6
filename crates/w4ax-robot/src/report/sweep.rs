//! The boundary of BF16, theta_fp, swept from 0 to 1 on the recorded steps (DyQ-VLA, Fig. 7).
//!
//! theta_24 and theta_48 are those of the calibration, or theta_fp if that is lower, because the
//! boundaries ascend. So below theta_24 there is one boundary between A2 and BF16, and above the
//! calibration's theta_fp the band of A8 grows.

use comfy_table::Table;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use w4ax::dispatch::{DispatchConfig, StepCosts, Thresholds};
use w4ax::{Result, Width};

use super::ByWidth;
use super::fixed::{FixedWidths, mean_cost, shares};
use crate::episode::shuffle::shuffle_within_tasks;
pub use crate::episode::summary::SHUFFLES;
use crate::episode::summary::over_draws;
use crate::rollouts::Rollouts;
use crate::table::table;

pub use super::sweep_plot::Picture;

/// The number of values of theta_fp: 0, .05, ... 1.
pub const POINTS: usize = 21;

/// The rule of DyQ-VLA at one theta_fp.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SweepPoint {
    /// The boundary of BF16.
    pub theta_fp: f64,
    /// The mean action error, in action units.
    pub mean_action_error: f64,
    /// The mean cost of a step.
    pub cost: f64,
    /// The share of steps at each width.
    pub share: ByWidth,
    /// The mean error of random widths at the same shares in each task.
    pub random: f64,
    /// The standard deviation of that error over the shuffles.
    pub random_std: f64,
}

/// The results of the sweep.
#[derive(Clone, Debug, Serialize)]
pub struct Sweep {
    /// The number of steps.
    pub steps: usize,
    /// The theta_fp of the calibration.
    pub calibrated: f64,
    /// By theta_fp, ascending.
    pub points: Vec<SweepPoint>,
    /// The mean error of each fixed width.
    pub r#static: ByWidth,
    /// The cost of a step at each width.
    pub costs: StepCosts,
}

impl Sweep {
    /// Sweeps theta_fp. `configs` has one entry per task; all have the same thresholds.
    ///
    /// # Errors
    /// As [`FixedWidths::dyq`].
    pub fn run(
        fixed: &FixedWidths,
        rollouts: &Rollouts,
        configs: &[DispatchConfig],
        costs: &StepCosts,
        seed: u64,
    ) -> Result<Self> {
        let point = |at: usize| {
            let theta_fp = at as f64 / (POINTS - 1) as f64;
            let configs: Vec<DispatchConfig> = configs
                .iter()
                .map(|config| config.with_thresholds(limited(config.thresholds(), theta_fp)))
                .collect();
            let widths = fixed.dyq(rollouts, &configs)?;
            let [random, random_std] = control(fixed, rollouts, &widths, seed);
            Ok(SweepPoint {
                theta_fp,
                mean_action_error: fixed.mean_error(&widths),
                cost: mean_cost(&widths, costs),
                share: shares(&widths),
                random,
                random_std,
            })
        };
        Ok(Self {
            steps: fixed.len(),
            calibrated: configs
                .first()
                .map_or(f64::NAN, |config| config.thresholds().theta_fp),
            points: (0..POINTS).map(point).collect::<Result<_>>()?,
            r#static: fixed.mean_errors(),
            costs: *costs,
        })
    }

    /// Returns the points as a table.
    pub fn table(&self) -> Table {
        let header = [
            "theta_fp", "error", "random", "+-", "cost", "a2", "a4", "a8", "bf16",
        ];
        let row = |point: &SweepPoint| {
            let shares = point.share.values();
            let figures = [
                format!("{:.2}", point.theta_fp),
                format!("{:.4}", point.mean_action_error),
                format!("{:.4}", point.random),
                format!("{:.4}", point.random_std),
                format!("{:.3}", point.cost),
            ];
            let shares = shares.map(|share| format!("{:.1} %", 100.0 * share));
            [&figures[..], &shares[..]].concat()
        };
        table(&header, self.points.iter().map(row))
    }

    /// Returns the points whose error is at least two standard deviations below that of random
    /// widths.
    pub fn better_than_random(&self) -> impl Iterator<Item = &SweepPoint> {
        let better = |p: &&SweepPoint| {
            p.random_std > 0.0 && p.mean_action_error < p.random - 2.0 * p.random_std
        };
        self.points.iter().filter(better)
    }

    /// Returns the points without a fixed width that costs and errs at most as much.
    pub fn better_than_static(&self) -> impl Iterator<Item = &SweepPoint> {
        let dominated = |p: &SweepPoint| {
            Width::ALL.into_iter().any(|width| {
                self.r#static.values()[width.index()] <= p.mean_action_error
                    && self.costs.of(width) <= p.cost
            })
        };
        self.points.iter().filter(move |point| !dominated(point))
    }
}

/// Returns the thresholds with another theta_fp, which the others do not exceed.
fn limited(thresholds: Thresholds, theta_fp: f64) -> Thresholds {
    Thresholds {
        theta_24: thresholds.theta_24.min(theta_fp),
        theta_48: thresholds.theta_48.min(theta_fp),
        theta_fp,
    }
}

/// Returns mean and standard deviation of the error of random widths at the shares of `widths` in
/// each task.
pub fn control(fixed: &FixedWidths, rollouts: &Rollouts, widths: &[Width], seed: u64) -> [f64; 2] {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let draw = || fixed.mean_error(&shuffle_within_tasks(widths, &rollouts.task, &mut rng));
    over_draws(draw).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_boundaries_do_not_exceed_theta_fp() {
        let thresholds = Thresholds {
            theta_24: 0.2,
            theta_48: 0.4,
            theta_fp: 0.5,
        };
        let all = |t: Thresholds| [t.theta_24, t.theta_48, t.theta_fp];
        assert_eq!(all(limited(thresholds, 0.1)), [0.1, 0.1, 0.1]);
        assert_eq!(all(limited(thresholds, 0.3)), [0.2, 0.3, 0.3]);
        assert_eq!(all(limited(thresholds, 0.9)), [0.2, 0.4, 0.9]);
    }
}
