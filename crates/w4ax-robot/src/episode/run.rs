//! The runs over the recorded steps: each fixed width, the dynamic rule, and random widths as its
//! control.
//!
//! Every run has the recorded observations. Only the widths of the steps differ, and so the
//! actions.

use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use w4ax::calibrate::distance;
use w4ax::dispatch::WidthChoice;
use w4ax::step::StepPipeline;
use w4ax::{Result, Width};

use super::rule::{RobotRules, Rule, RuleOptions, RuleRun, static_run};
use super::shuffle::shuffle_within_tasks;
use crate::policy::Policy;
use crate::rollouts::{Rollouts, action};
use crate::setup::Robot;
use crate::shapes::Tokens;
use crate::steps::{AllLayers, PolicyEngine};

/// The number of runs: four fixed, dynamic, random.
pub const RUNS: usize = 6;

/// The result of a control step.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The width that the latch recorded.
    pub width: Width,
    /// The action tokens.
    pub tokens: Tokens,
    /// L2 distance of the action to that of the unquantized policy, over all 7 numbers.
    pub error: f64,
    /// Time from the latch to the tokens.
    pub time: Duration,
}

/// All runs, each with the recorded steps in order.
#[derive(Clone, Debug)]
pub struct Runs {
    /// By [`Width::index`].
    pub fixed: [Vec<Step>; 4],
    /// The run of the rule, from the actions of this run.
    pub dynamic: RuleRun,
    /// The widths of `dynamic`, shuffled within each task, without floors.
    pub random: Vec<Step>,
}

impl Runs {
    /// Returns the mean error at each fixed width, by [`Width::index`].
    pub fn mean_errors(&self) -> [f64; 4] {
        self.fixed.each_ref().map(|steps| {
            let errors = steps.iter().map(|step| step.error);
            errors.sum::<f64>() / steps.len() as f64
        })
    }
}

/// Runs all. `tick` is called after each step. The consistency rule has more of them: the steps
/// that run again, and two runs at its profiles.
///
/// # Errors
/// As [`Policy::forward`]. [`w4ax::Error::Range`] for a recorded task that the policy does not
/// have.
pub fn run(
    robot: &mut Robot,
    rollouts: &Rollouts,
    options: RuleOptions<'_>,
    seed: u64,
    tick: &dyn Fn(),
) -> Result<Runs> {
    rollouts.check_tasks(robot.policy.tasks().len())?;
    let RuleOptions {
        rule,
        costs,
        online,
    } = options;
    let tasks = robot.policy.tasks().to_vec();
    let engine = PolicyEngine::new(&mut robot.policy, AllLayers);
    let mut control = ControlLoop {
        pipeline: StepPipeline::new(engine, None),
        rollouts,
        tick,
    };
    let mut fixed = Width::ALL.map(|_| Vec::new());
    for (steps, width) in fixed.iter_mut().zip(Width::ALL) {
        *steps = control.steps_at(|_| width)?;
    }
    let mut runs = Runs {
        dynamic: static_run(rule, Width::Bf16, &fixed[3], costs),
        fixed,
        random: Vec::new(),
    };
    let mut rules = RobotRules {
        dispatchers: (robot.dispatchers.iter().cloned())
            .map(|dispatcher| match online {
                true => dispatcher.with_online_scale(),
                false => dispatcher,
            })
            .collect(),
        tasks: &tasks,
        calibration: &robot.calibration,
        options,
    };
    runs.dynamic = match rule {
        Rule::Dyq => control.dyq(&mut rules)?,
        Rule::Consistency => {
            let errors = robot.calibration.errors;
            let errors = errors.unwrap_or_else(|| runs.mean_errors());
            match robot.calibration.width_choice(costs, &errors) {
                WidthChoice::Static(width) => {
                    static_run(rule, width, &runs.fixed[width.index()], costs)
                }
                WidthChoice::Dynamic { low, high } => {
                    control.consistency(&mut rules, (low, high))?
                }
            }
        }
    };

    let widths: Vec<Width> = runs.dynamic.steps.iter().map(|step| step.width).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let widths = shuffle_within_tasks(&widths, &rollouts.task, &mut rng);
    runs.random = control.steps_at(|row| widths[row])?;
    Ok(runs)
}

/// The control loop after the width is stored: flag, policy, action.
pub(super) struct ControlLoop<'a> {
    pub pipeline: StepPipeline<PolicyEngine<&'a mut Policy, AllLayers>>,
    pub rollouts: &'a Rollouts,
    pub tick: &'a dyn Fn(),
}

impl ControlLoop<'_> {
    /// Runs a step at the width that was decided or requested.
    pub(super) fn step(&mut self, row: usize) -> Result<Step> {
        let start = Instant::now();
        let report = self.pipeline.run(&self.rollouts.input[row])?;
        let time = start.elapsed();
        (self.tick)();
        let tokens = self.pipeline.engine().tokens();
        Ok(Step {
            width: report.decode.width,
            tokens,
            error: distance(&action(&tokens), &action(&self.rollouts.bf16[row])),
            time,
        })
    }

    /// Runs every recorded step at requested widths.
    pub(super) fn steps_at(&mut self, width: impl Fn(usize) -> Width) -> Result<Vec<Step>> {
        (0..self.rollouts.len())
            .map(|row| {
                self.pipeline.request(width(row))?;
                self.step(row)
            })
            .collect()
    }
}
