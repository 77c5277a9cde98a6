//! The candidates of a search: a replay for each point of a grid.

use w4ax::calibrate::{
    Calibration, CalibrationSettings, Episode, ErrorProfile, ProfileEpisode, RuleReplay,
    replay_consistency, replay_dyq,
};
use w4ax::dispatch::{StepCosts, Thresholds, Tolerance};
use w4ax::{Error, Result, Width};

/// A point of the grid, and what the rule does there.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// D_acc, in action units.
    pub d_acc: f64,
    /// The thresholds of the rule of DyQ-VLA.
    pub thresholds: Option<Thresholds>,
    /// The replay.
    pub replay: RuleReplay,
}

/// The values that a search tries.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// Of D_acc, ascending.
    pub d_acc: Vec<f64>,
    /// Of theta_fp.
    pub theta_fp: Vec<f64>,
}

impl Default for Grid {
    /// D_acc from .005 to 1.28 in steps of the sixth root of 2, rounded to four decimals; theta_fp
    /// from .1 to 1 in steps of .1.
    fn default() -> Self {
        let d_acc = |i| (0.005 * (f64::from(i) / 6.0).exp2() * 1e4).round() / 1e4;
        Self {
            d_acc: (0..=48).map(d_acc).collect(),
            theta_fp: (1..=10).map(|i| f64::from(i) / 10.0).collect(),
        }
    }
}

/// Replays the rule of DyQ-VLA at each point. Points of one theta_fp with equal thresholds are one
/// candidate. No dominated width runs.
///
/// # Errors
/// As [`ErrorProfile::measure`] and [`replay_dyq`].
pub fn dyq_candidates<A: AsRef<[f64]>>(
    calibration: &Calibration,
    episodes: &[Episode<A>],
    settings: &CalibrationSettings,
    grid: &Grid,
    costs: &StepCosts,
) -> Result<Vec<Candidate>> {
    let mut candidates: Vec<Candidate> = Vec::new();
    for &theta_fp in &grid.theta_fp {
        let settings = settings.with_theta_fp(theta_fp);
        let profile = match ErrorProfile::measure(&calibration.tasks, episodes, &settings) {
            // So small a theta_fp has no bin with enough steps.
            Err(Error::Config {
                field: "episodes", ..
            }) => continue,
            profile => profile?,
        };
        for &d_acc in &grid.d_acc {
            let thresholds = profile.thresholds(d_acc, settings.eta());
            if candidates
                .last()
                .is_some_and(|last| last.thresholds == Some(thresholds))
            {
                continue;
            }
            let tried = Calibration {
                thresholds,
                ..calibration.clone()
            };
            let config = |task: &w4ax::calibrate::TaskScale| {
                Ok(tried.dispatch_config(&task.name)?.with_costs(*costs))
            };
            let configs: Vec<_> = tried.tasks.iter().map(config).collect::<Result<_>>()?;
            candidates.push(Candidate {
                d_acc,
                thresholds: Some(thresholds),
                replay: replay_dyq(&configs, episodes, costs)?,
            });
        }
    }
    Ok(candidates)
}

/// Replays the consistency rule of a calibration between two widths at each D_acc. `costs` holds
/// those of the low and of the high profile.
///
/// # Errors
/// [`Error::Config`] for a rule with a constant tolerance. As [`replay_consistency`].
pub fn consistency_candidates<A: AsRef<[f64]>>(
    calibration: &Calibration,
    (low, high): (Width, Width),
    episodes: &[ProfileEpisode<A>],
    grid: &Grid,
    costs: [f64; 2],
) -> Result<Vec<Candidate>> {
    let rule = calibration.consistency.clone().unwrap_or_default();
    let Tolerance::Motion { eta, tau_max, .. } = rule.tolerance else {
        return Err(Error::Config {
            field: "tau",
            reason: "is constant: expected a tolerance with d_acc".into(),
        });
    };
    let candidate = |&d_acc: &f64| {
        let mut tried = calibration.clone();
        tried.consistency = Some(w4ax::calibrate::ConsistencyCalibration {
            tolerance: Tolerance::Motion {
                d_acc,
                eta,
                tau_max,
            },
            ..rule.clone()
        });
        let config =
            |task: &w4ax::calibrate::TaskScale| tried.consistency_config(&task.name, low, high);
        let configs: Vec<_> = calibration
            .tasks
            .iter()
            .map(config)
            .collect::<Result<_>>()?;
        Ok(Candidate {
            d_acc,
            thresholds: None,
            replay: replay_consistency(&configs, episodes, costs)?,
        })
    };
    grid.d_acc.iter().map(candidate).collect()
}
