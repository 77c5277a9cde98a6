//! The runs over the recorded steps: each fixed width, the dynamic rule, and random widths as its
//! control.
//!
//! Every run has the recorded observations. Only the widths of the steps differ, and so the
//! actions.

use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use w4ax::calibrate::distance;
use w4ax::dispatch::{Action, Decision};
use w4ax::step::StepPipeline;
use w4ax::{Result, Width};

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
    /// The dispatcher's widths, from the actions of this run.
    pub dynamic: Vec<Step>,
    /// The decision at each step of `dynamic`.
    pub decisions: Vec<Decision>,
    /// The widths of `dynamic`, shuffled within each task.
    pub random: Vec<Step>,
}

/// Runs all. `tick` is called after each step.
///
/// # Errors
/// As [`Policy::forward`]. [`w4ax::Error::Range`] for a recorded task that the policy does not
/// have.
pub fn run(robot: &mut Robot, rollouts: &Rollouts, seed: u64, tick: &dyn Fn()) -> Result<Runs> {
    rollouts.check_tasks(robot.policy.tasks().len())?;
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

    let (mut dynamic, mut decisions) = (Vec::new(), Vec::new());
    for episode in rollouts.episodes() {
        let dispatcher = robot.dispatchers[rollouts.task[episode.start]].clone();
        control.pipeline.set_dispatcher(dispatcher)?;
        let mut last: Option<Action> = None;
        for row in episode.clone() {
            decisions.push(control.pipeline.decide(last.as_slice())?);
            let step = control.step(row)?;
            last = Some(action(&step.tokens));
            dynamic.push(step);
        }
    }

    let widths: Vec<Width> = dynamic.iter().map(|step| step.width).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let widths = shuffle_within_tasks(&widths, &rollouts.task, &mut rng);
    let random = control.steps_at(|row| widths[row])?;
    Ok(Runs {
        fixed,
        dynamic,
        decisions,
        random,
    })
}

/// The control loop after the width is stored: flag, policy, action.
struct ControlLoop<'a> {
    pipeline: StepPipeline<PolicyEngine<&'a mut Policy, AllLayers>>,
    rollouts: &'a Rollouts,
    tick: &'a dyn Fn(),
}

impl ControlLoop<'_> {
    /// Runs a step at the width that was decided or requested.
    fn step(&mut self, row: usize) -> Result<Step> {
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
    fn steps_at(&mut self, width: impl Fn(usize) -> Width) -> Result<Vec<Step>> {
        (0..self.rollouts.len())
            .map(|row| {
                self.pipeline.request(width(row))?;
                self.step(row)
            })
            .collect()
    }
}
