//! Methods side by side (DyQ-VLA, Table 1): action error on the recorded steps, success in closed
//! loop, time and cost of a step, and bytes of the weights.

use std::time::Instant;

use comfy_table::Table;
use serde::Serialize;
use w4ax::calibrate::distance;
use w4ax::dispatch::{StepCosts, WidthChoice};
use w4ax::{Result, Width};

use super::ByWidth;
use super::fixed::{mean_cost, shares};
use super::success::{ArmPair, ArmSuccess, ClosedLoopSuccess};
use crate::episode::control::RandomEqualCost;
use crate::episode::rule::{Rule, RuleOptions};
use crate::episode::run::{self, Runs, Step};
use crate::episode::summary::{control_spread, median_micros};
use crate::policy::Policy;
use crate::rollouts::{Rollouts, action};
use crate::setup::Robot;
use crate::table::table;

/// The pairs of arms that the report prints, if a summary has them.
const PAIRS: [(&str, &str); 4] = [
    ("dyq", "random"),
    ("a4", "dyq"),
    ("consistency", "random-consistency"),
    ("a4", "consistency"),
];

/// One method.
#[derive(Clone, Debug, Serialize)]
pub struct MethodScore {
    /// The name of the method.
    pub method: &'static str,
    /// The mean action error on the recorded steps, in action units.
    pub mean_action_error: f64,
    /// The standard deviation of that error over random widths.
    pub std: Option<f64>,
    /// The share of steps whose last run had each width; `None` without quantized layers.
    pub share: Option<ByWidth>,
    /// The median time of a step in microseconds, second runs included; `None` if not run.
    pub median_micros: Option<f64>,
    /// The mean cost of a step, second runs included; `None` without quantized layers.
    pub cost: Option<f64>,
    /// The bytes of the quantized layers' weights, scales included.
    pub weight_bytes: usize,
    /// Success in closed loop, if a summary has it.
    pub success: Option<ArmSuccess>,
}

/// All methods.
#[derive(Clone, Debug, Serialize)]
pub struct MethodTable {
    /// The number of recorded steps.
    pub steps: usize,
    /// The cost of a step at each width.
    pub costs: StepCosts,
    /// The widths of the consistency rule in bits; one if its choice is static.
    pub consistency_widths: Vec<u32>,
    /// The share of steps that the consistency rule ran twice.
    pub reruns: f64,
    /// The methods.
    pub methods: Vec<MethodScore>,
    /// Pairs of arms in closed loop.
    pub pairs: Vec<ArmPair>,
}

/// The runs of all methods. The timed runs take turns, so that a slow phase of the machine meets
/// all of them.
struct MethodRuns {
    dyq: Runs,
    consistency: Runs,
    /// The runs of the unquantized policy.
    plain: Vec<Step>,
    /// Further runs for the times: fixed widths, dyq, consistency.
    fixed_times: [Vec<Step>; 4],
    dyq_times: Vec<Step>,
    consistency_times: Vec<Step>,
}

impl MethodTable {
    /// Runs all methods `rounds` times, at least once.
    ///
    /// # Errors
    /// As [`run::run`] and [`Policy::forward`].
    pub fn run(
        robot: &mut Robot,
        plain: &mut Policy,
        rollouts: &Rollouts,
        (costs, rounds, seed): (&StepCosts, usize, u64),
        success: &ClosedLoopSuccess,
    ) -> Result<Self> {
        let runs = MethodRuns::run(robot, plain, rollouts, costs, rounds, seed)?;
        let bytes = [robot.bf16_bytes, robot.policy.packed_bytes()];
        let mut table = Self {
            steps: rollouts.len(),
            costs: *costs,
            consistency_widths: match runs.consistency.dynamic.choice {
                WidthChoice::Static(width) => vec![width.bits()],
                WidthChoice::Dynamic { low, high } => vec![low.bits(), high.bits()],
            },
            reruns: runs.consistency.dynamic.rerun_share(),
            methods: runs.scores(rollouts, costs, bytes, seed),
            pairs: Vec::new(),
        };
        for score in &mut table.methods {
            score.success = arm_of(score.method).and_then(|arm| success.arm(arm).cloned());
        }
        let shown = |pair: &&ArmPair| PAIRS.contains(&(pair.first.as_str(), pair.second.as_str()));
        table.pairs = success.pairs.iter().filter(shown).cloned().collect();
        Ok(table)
    }

    /// Returns the methods as a table.
    pub fn table(&self) -> Table {
        let header = [
            "method",
            "error",
            "success, 95 %",
            "us a step",
            "bytes",
            "cost",
            "widths 2/4/8/16",
        ];
        let row = |score: &MethodScore| {
            let error = match score.std {
                Some(std) => format!("{:.4} +- {std:.4}", score.mean_action_error),
                None => format!("{:.4}", score.mean_action_error),
            };
            let success = score.success.as_ref().map_or("-".into(), |arm| {
                let [low, high] = arm.interval.map(|end| 100.0 * end);
                let share = 100.0 * arm.succeeded as f64 / arm.episodes as f64;
                format!(
                    "{}/{} = {share:.1} % [{low:.1}, {high:.1}]",
                    arm.succeeded, arm.episodes
                )
            });
            let shares = score.share.map_or("-".into(), |share| {
                let parts = share.values().map(|part| format!("{:.0}", 100.0 * part));
                parts.join("/") + " %"
            });
            let figure = |value: Option<f64>, digits: usize| {
                value.map_or("-".into(), |value| format!("{value:.digits$}"))
            };
            vec![
                score.method.into(),
                error,
                success,
                figure(score.median_micros, 0),
                score.weight_bytes.to_string(),
                figure(score.cost, 3),
                shares,
            ]
        };
        table(&header, self.methods.iter().map(row))
    }

    /// Returns the methods that have an arm in closed loop, but none in the summaries.
    pub fn without_success(&self) -> impl Iterator<Item = &'static str> {
        let missing =
            |score: &&MethodScore| score.success.is_none() && arm_of(score.method).is_some();
        self.methods
            .iter()
            .filter(missing)
            .map(|score| score.method)
    }
}

/// Returns the arm of `scripts/closed-loop` that runs a method.
fn arm_of(method: &str) -> Option<&'static str> {
    [
        (PLAIN, "plain"),
        (FIXED[3], "bf16"),
        (FIXED[2], "a8"),
        (FIXED[1], "a4"),
        (FIXED[0], "a2"),
        (DYQ, "dyq"),
        (RANDOM_DYQ, "random"),
        (CONSISTENCY, "consistency"),
        (RANDOM_CONSISTENCY, "random-consistency"),
    ]
    .into_iter()
    .find_map(|(name, arm)| (name == method).then_some(arm))
}

const PLAIN: &str = "unquantized";
const FIXED: [&str; 4] = ["W4A2", "W4A4", "W4A8", "W4A16"];
const DYQ: &str = "dyq";
const RANDOM_DYQ: &str = "random, shares of dyq";
const CONSISTENCY: &str = "consistency";
const RANDOM_CONSISTENCY: &str = "random, shares of consistency";
const RANDOM_COST: &str = "random widths, cost of consistency";
const RANDOM_PROFILES: &str = "random profiles, cost of consistency";

impl MethodRuns {
    fn run(
        robot: &mut Robot,
        plain: &mut Policy,
        rollouts: &Rollouts,
        costs: &StepCosts,
        rounds: usize,
        seed: u64,
    ) -> Result<Self> {
        let mut round = || -> Result<(Runs, Runs, Vec<Step>)> {
            let options = |rule| RuleOptions {
                rule,
                costs,
                online: false,
            };
            let dyq = run::run(robot, rollouts, options(Rule::Dyq), seed, &|| ())?;
            let rule = options(Rule::Consistency);
            let consistency = run::run(robot, rollouts, rule, seed, &|| ())?;
            Ok((dyq, consistency, run_plain(plain, rollouts)?))
        };
        let (dyq, consistency, plain) = round()?;
        let mut runs = Self {
            fixed_times: dyq.fixed.clone(),
            dyq_times: dyq.dynamic.steps.clone(),
            consistency_times: consistency.dynamic.steps.clone(),
            dyq,
            consistency,
            plain,
        };
        for _ in 1..rounds {
            let (dyq, consistency, plain) = round()?;
            for (to, from) in runs.fixed_times.iter_mut().zip(dyq.fixed) {
                to.extend(from);
            }
            runs.dyq_times.extend(dyq.dynamic.steps);
            runs.consistency_times.extend(consistency.dynamic.steps);
            runs.plain.extend(plain);
        }
        Ok(runs)
    }

    fn scores(
        &self,
        rollouts: &Rollouts,
        costs: &StepCosts,
        [plain_bytes, packed_bytes]: [usize; 2],
        seed: u64,
    ) -> Vec<MethodScore> {
        let steps = rollouts.len();
        let mean = |all: &[Step]| {
            let errors = all.iter().map(|step| step.error);
            errors.sum::<f64>() / all.len() as f64
        };
        let base = MethodScore {
            method: PLAIN,
            mean_action_error: mean(&self.plain[..steps]),
            std: None,
            share: None,
            median_micros: Some(median_micros(&self.plain)),
            cost: None,
            weight_bytes: plain_bytes,
            success: None,
        };
        let mut scores = vec![base.clone()];
        let base = MethodScore {
            weight_bytes: packed_bytes,
            ..base
        };
        for width in Width::ALL.into_iter().rev() {
            let at = width.index();
            scores.push(MethodScore {
                method: FIXED[at],
                mean_action_error: mean(&self.dyq.fixed[at]),
                share: Some(shares(&[width])),
                median_micros: Some(median_micros(&self.fixed_times[at])),
                cost: Some(costs.of(width)),
                ..base.clone()
            });
        }
        let rules = [
            (DYQ, RANDOM_DYQ, &self.dyq, &self.dyq_times),
            (
                CONSISTENCY,
                RANDOM_CONSISTENCY,
                &self.consistency,
                &self.consistency_times,
            ),
        ];
        for (rule, control, runs, times) in rules {
            let widths: Vec<Width> = runs.dynamic.steps.iter().map(|step| step.width).collect();
            let share = Some(shares(&widths));
            scores.push(MethodScore {
                method: rule,
                mean_action_error: runs.dynamic.mean_error(),
                share,
                median_micros: Some(median_micros(times)),
                cost: Some(runs.dynamic.mean_cost()),
                ..base.clone()
            });
            let (error, std) = control_spread(runs, rollouts, seed);
            scores.push(MethodScore {
                method: control,
                mean_action_error: error,
                std: Some(std),
                share,
                median_micros: None,
                cost: Some(mean_cost(&widths, costs)),
                ..base.clone()
            });
        }
        let (run, fixed) = (&self.consistency.dynamic, &self.consistency.fixed);
        let widths = RandomEqualCost::draw(run, fixed, costs, seed);
        // Random choices profit from the floors of the rule too.
        let profiles = RandomEqualCost::draw_profiles(run, seed);
        for (method, random) in [(RANDOM_COST, Some(widths)), (RANDOM_PROFILES, profiles)] {
            let score = |random: RandomEqualCost| MethodScore {
                method,
                mean_action_error: random.mean_action_error,
                std: Some(random.std),
                median_micros: None,
                cost: Some(random.cost),
                ..base.clone()
            };
            scores.extend(random.map(score));
        }
        scores
    }
}

/// Runs the recorded steps by the unquantized policy, which ignores the width.
fn run_plain(policy: &mut Policy, rollouts: &Rollouts) -> Result<Vec<Step>> {
    let step = |(input, recorded)| {
        let start = Instant::now();
        let tokens = policy.forward(input, Width::Bf16)?;
        Ok(Step {
            width: Width::Bf16,
            tokens,
            time: start.elapsed(),
            error: distance(&action(&tokens), &action(recorded)),
        })
    };
    rollouts
        .input
        .iter()
        .zip(&rollouts.bf16)
        .map(step)
        .collect()
}
