//! The dynamic run: a rule decides each step, and what that costs.

use std::time::{Duration, Instant};

use w4ax::calibrate::{Calibration, distance, measure_costs};
use w4ax::dispatch::{
    Action, ConsistencyRule, Decision, Dispatcher, LayerFloors, Profile, Reason, StepCosts,
    WidthChoice,
};
use w4ax::{Result, Width};

use super::run::{ControlLoop, Step};
use crate::policy::Policy;
use crate::profiles::first_block;
use crate::rollouts::action;
use crate::setup::Robot;
use crate::shapes::INPUT;

/// The time in which the costs of this machine are measured.
const MEASURE: Duration = Duration::from_millis(400);

/// What decides the width of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// The rule of DyQ-VLA: thresholds on the motion, with hysteresis
    #[default]
    Dyq,
    /// A cheap run whose action is accepted if it is close to the last one; otherwise the step runs
    /// again
    Consistency,
}

impl Rule {
    /// Returns the name of the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dyq => "dyq",
            Self::Consistency => "consistency",
        }
    }
}

/// The rule of a run, and what it knows beside the calibration.
#[derive(Clone, Copy, Debug)]
pub struct RuleOptions<'a> {
    /// The rule.
    pub rule: Rule,
    /// The cost of a step at each width.
    pub costs: &'a StepCosts,
    /// Whether percentiles are kept online, over all episodes of a task: the scale of the motion
    /// under the rule of DyQ-VLA, and the distribution of the uncertainty under the consistency
    /// rule, if the calibration has none.
    pub online: bool,
}

/// The run of a rule over the recorded steps.
#[derive(Clone, Debug)]
pub struct RuleRun {
    /// The rule.
    pub rule: Rule,
    /// The widths between which the rule chooses.
    pub choice: WidthChoice,
    /// `[steps]`: the last run of each step.
    pub steps: Vec<Step>,
    /// `[steps]`: the decision of each step. Under the consistency rule `target` is the width of
    /// the first run and `active` that of the last.
    pub decisions: Vec<Decision>,
    /// `[steps]`: the cost of each step, all of its runs included.
    pub costs: Vec<f64>,
    /// The number of steps that ran twice.
    pub reruns: usize,
    /// The two profiles of the consistency rule, if they differ from fixed widths.
    pub profiles: Option<ProfileSteps>,
}

/// All steps at the low and at the high profile.
#[derive(Clone, Debug)]
pub struct ProfileSteps {
    /// `[2][steps]`.
    pub steps: [Vec<Step>; 2],
    /// The costs of a step.
    pub costs: [f64; 2],
}

impl RuleRun {
    /// Returns the mean cost of a step.
    pub fn mean_cost(&self) -> f64 {
        self.costs.iter().sum::<f64>() / self.costs.len() as f64
    }

    /// Returns the mean action error.
    pub fn mean_error(&self) -> f64 {
        self.steps.iter().map(|step| step.error).sum::<f64>() / self.steps.len() as f64
    }

    /// Returns the share of steps that ran twice.
    pub fn rerun_share(&self) -> f64 {
        self.reruns as f64 / self.steps.len() as f64
    }
}

/// Measures the cost of a step of a policy at each width on this machine, in microseconds.
///
/// # Errors
/// As [`Policy::forward`].
pub fn measured_costs(policy: &mut Policy, input: &[f32; INPUT]) -> Result<StepCosts> {
    measure_costs(MEASURE, |width| policy.forward(input, width).map(drop))
}

/// Returns the floors of the consistency rule between two widths: those of the calibration, if they
/// are of these widths, or block 0 at the high width. Floors above the high width have no use and
/// are lowered to it.
pub fn floors_of(
    calibration: &Calibration,
    layers: usize,
    (low, high): (Width, Width),
) -> LayerFloors {
    let set = calibration.consistency.as_ref();
    let set = set.filter(|rule| rule.applies_to(low, high));
    match set.and_then(|rule| rule.floors.as_ref()) {
        Some(floors) => LayerFloors::new(floors.iter().map(|&floor| floor.min(high)).collect()),
        None => first_block(layers, high),
    }
}

impl ControlLoop<'_> {
    /// Runs the recorded steps under the rule of DyQ-VLA, exactly as published, or without the
    /// dominated widths if its dispatchers have costs.
    pub(super) fn dyq(&mut self, robot: &mut RobotRules<'_>) -> Result<RuleRun> {
        let (mut steps, mut decisions) = (Vec::new(), Vec::new());
        for episode in self.rollouts.episodes() {
            let task = self.rollouts.task[episode.start];
            let mut dispatcher = robot.dispatchers[task].clone();
            dispatcher.reset();
            self.pipeline.set_dispatcher(dispatcher)?;
            let mut last: Option<Action> = None;
            for row in episode.clone() {
                decisions.push(self.pipeline.decide(last.as_slice())?);
                let step = self.step(row)?;
                last = Some(action(&step.tokens));
                steps.push(step);
            }
            if let Some(dispatcher) = self.pipeline.dispatcher() {
                // Its online scale has the actions of the episode, but for the last one.
                robot.dispatchers[task] = dispatcher.clone();
            }
        }
        let widths = steps.iter().map(|step: &Step| step.width);
        let (low, high) = (widths.clone().min(), widths.max());
        Ok(RuleRun {
            rule: Rule::Dyq,
            choice: match (low, high) {
                (Some(low), Some(high)) if low < high => WidthChoice::Dynamic { low, high },
                (_, high) => WidthChoice::Static(high.unwrap_or(Width::Bf16)),
            },
            costs: steps
                .iter()
                .map(|step| robot.options.costs.of(step.width))
                .collect(),
            steps,
            decisions,
            reruns: 0,
            profiles: None,
        })
    }

    /// Runs the recorded steps under the consistency rule between two widths. Nothing but the
    /// floors differs from the steps at fixed widths.
    pub(super) fn consistency(
        &mut self,
        robot: &mut RobotRules<'_>,
        (low, high): (Width, Width),
    ) -> Result<RuleRun> {
        let policy = &mut self.pipeline.engine_mut().policy;
        let shares = policy.layer_shares();
        let floors = floors_of(robot.calibration, shares.len(), (low, high));
        policy.set_floors(&floors)?;
        let mut run = RuleRun {
            rule: Rule::Consistency,
            choice: WidthChoice::Dynamic { low, high },
            steps: Vec::new(),
            decisions: Vec::new(),
            costs: Vec::new(),
            reruns: 0,
            profiles: None,
        };
        let mut rules = Vec::with_capacity(robot.tasks.len());
        for task in robot.tasks {
            let config = robot.calibration.consistency_config(task, low, high)?;
            let rule = ConsistencyRule::new(&config)?;
            rules.push(match robot.options.online {
                true => rule.with_online_uncertainty(),
                false => rule,
            });
        }
        for episode in self.rollouts.episodes() {
            let rule = &mut rules[self.rollouts.task[episode.start]];
            rule.reset();
            for row in episode.clone() {
                let sensitivity = rule.sensitivity();
                let start = Instant::now();
                let step = (self.pipeline).run_consistent(rule, &self.rollouts.input[row])?;
                let time = start.elapsed();
                (self.tick)();
                let tokens = self.pipeline.engine().tokens();
                let mut commanded = step.actions;
                rule.command(&mut commanded, step.profile);
                rule.observe(&commanded, step.profile, step.uncertainty)?;
                let cost = |width| robot.options.costs.with_floors(width, &floors, &shares);
                let again = if step.second.is_some() {
                    cost(high)
                } else {
                    0.0
                };
                let width = rule.width(step.profile);
                run.costs.push(cost(step.decision.width) + again);
                run.reruns += usize::from(step.second.is_some());
                run.decisions.push(Decision {
                    sensitivity: sensitivity.unwrap_or(1.0),
                    target: step.decision.width,
                    active: width,
                    reason: match step.decision.profile {
                        Profile::High => Reason::Steady,
                        Profile::Low if step.second.is_some() => Reason::Rose,
                        Profile::Low => Reason::SteppedDown,
                    },
                });
                run.steps.push(Step {
                    width,
                    tokens,
                    error: distance(&commanded, &action(&self.rollouts.bf16[row])),
                    time,
                });
            }
        }
        run.profiles = Some(ProfileSteps {
            steps: [self.steps_at(|_| low)?, self.steps_at(|_| high)?],
            costs: [low, high]
                .map(|width| robot.options.costs.with_floors(width, &floors, &shares)),
        });
        let policy = &mut self.pipeline.engine_mut().policy;
        policy.set_floors(&LayerFloors::none(shares.len()))?;
        Ok(run)
    }
}

/// What the rules need of a robot besides its policy.
pub(super) struct RobotRules<'a> {
    pub dispatchers: Vec<Dispatcher>,
    pub tasks: &'a [String],
    pub calibration: &'a Calibration,
    pub options: RuleOptions<'a>,
}

/// Returns a run of a fixed width as the run of a rule that has no choice.
pub(super) fn static_run(rule: Rule, width: Width, steps: &[Step], costs: &StepCosts) -> RuleRun {
    let decision = Decision {
        sensitivity: 1.0,
        target: width,
        active: width,
        reason: Reason::Steady,
    };
    RuleRun {
        rule,
        choice: WidthChoice::Static(width),
        steps: steps.to_vec(),
        decisions: vec![decision; steps.len()],
        costs: vec![costs.of(width); steps.len()],
        reruns: 0,
        profiles: None,
    }
}

/// Returns a robot's costs: those given, those of its calibration, or measured ones, with their
/// source.
///
/// # Errors
/// As [`measured_costs`].
pub fn costs_of(
    robot: &mut Robot,
    given: Option<StepCosts>,
    input: &[f32; INPUT],
) -> Result<(StepCosts, &'static str)> {
    Ok(match (given, robot.calibration.costs) {
        (Some(costs), _) => (costs, "given"),
        (None, Some(costs)) => (costs, "of the calibration"),
        (None, None) => (
            measured_costs(&mut robot.policy, input)?,
            "measured here, microseconds",
        ),
    })
}
