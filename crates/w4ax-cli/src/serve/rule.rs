//! What decides the width of a dynamic step: the rule of DyQ-VLA, or the consistency rule.

use serde::Serialize;
use w4ax::dispatch::{
    Action, ConsistencyReason, ConsistencyRule, Decision, Dispatcher, LayerFloors, Profile, Reason,
    StepCosts, WidthChoice,
};
use w4ax::{Result, Width};
use w4ax_robot::episode::rule::{Rule, costs_of, floors_of};
use w4ax_robot::setup::Robot;
use w4ax_robot::shapes::INPUT;

/// The mean errors that are assumed without measured ones: each wider width is more accurate.
const ASSUMED_ERRORS: [f64; 4] = [4.0, 3.0, 2.0, 1.0];

/// The rule of an episode, with its history.
#[derive(Clone)]
pub enum EpisodeRule {
    /// The rule of DyQ-VLA.
    Dyq(Box<Dispatcher>),
    /// The consistency rule. With one width it is static.
    Consistency(Box<ConsistencyRule>),
}

/// The rules of a server, and what its description says of them.
pub struct Rules {
    /// By task, each at the start of an episode.
    pub by_task: Vec<EpisodeRule>,
    /// What the description says.
    pub description: RuleDescription,
}

/// The rule of dynamic steps in a description.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleDescription {
    /// The name of the rule.
    #[serde(rename = "rule")]
    pub name: Rule,
    /// The widths between which it chooses, in bits. With one, nothing is chosen.
    #[serde(rename = "rule_widths")]
    pub widths: Vec<u32>,
    /// The cost of a step at each width, where it limits the widths.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub costs: Option<StepCosts>,
    /// Where the costs are from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub costs_source: Option<&'static str>,
}

/// The last step of an episode, which the rule has not observed yet.
#[derive(Clone, Copy)]
pub struct LastStep {
    /// The replied action.
    pub action: Action,
    /// The profile that it ran at.
    pub profile: Profile,
    /// The standard deviation of its tokens.
    pub uncertainty: Option<f64>,
}

impl Rules {
    /// Makes the rules of a robot. The floors of the consistency rule become those of its policy,
    /// unless `floors` are given.
    ///
    /// # Errors
    /// As [`costs_of`], and for a calibration with invalid values.
    pub fn new(
        robot: &mut Robot,
        rule: Rule,
        given: Option<StepCosts>,
        floors: Option<&LayerFloors>,
    ) -> Result<Self> {
        match rule {
            Rule::Dyq => Self::dyq(robot, given),
            Rule::Consistency => Self::consistency(robot, given, floors),
        }
    }

    fn dyq(robot: &mut Robot, given: Option<StepCosts>) -> Result<Self> {
        if let Some(costs) = given {
            robot.set_costs(costs)?;
        }
        let rule = |dispatcher: &Dispatcher| EpisodeRule::Dyq(Box::new(dispatcher.clone()));
        let widths = match &given {
            Some(costs) => costs.useful().map(Width::bits).collect(),
            None => Width::ALL.map(Width::bits).to_vec(),
        };
        Ok(Self {
            by_task: robot.dispatchers.iter().map(rule).collect(),
            description: RuleDescription {
                name: Rule::Dyq,
                widths,
                costs: given,
                costs_source: given.map(|_| "given"),
            },
        })
    }

    fn consistency(
        robot: &mut Robot,
        given: Option<StepCosts>,
        floors: Option<&LayerFloors>,
    ) -> Result<Self> {
        let (costs, source) = costs_of(robot, given, &[0.0; INPUT])?;
        let errors = robot.calibration.errors.unwrap_or(ASSUMED_ERRORS);
        let (low, high) = match robot.calibration.width_choice(&costs, &errors) {
            WidthChoice::Static(width) => (width, width),
            WidthChoice::Dynamic { low, high } => (low, high),
        };
        // With one width every step runs at it, and floors have no use.
        if floors.is_none() && low < high {
            let layers = robot.policy.blocks() + 1;
            (robot.policy).set_floors(&floors_of(&robot.calibration, layers, (low, high)))?;
        }
        let rule = |task: &String| {
            let config = robot.calibration.consistency_config(task, low, high)?;
            Ok(EpisodeRule::Consistency(Box::new(ConsistencyRule::new(
                &config,
            )?)))
        };
        let mut widths = vec![low.bits(), high.bits()];
        widths.dedup();
        Ok(Self {
            by_task: robot
                .policy
                .tasks()
                .iter()
                .map(rule)
                .collect::<Result<_>>()?,
            description: RuleDescription {
                name: Rule::Consistency,
                widths,
                costs: Some(costs),
                costs_source: Some(source),
            },
        })
    }
}

impl EpisodeRule {
    /// Adds the action that was executed in the last step.
    ///
    /// # Errors
    /// As [`Dispatcher::observe`] and [`ConsistencyRule::observe`].
    pub fn observe(&mut self, executed: &Action, last: &LastStep) -> Result<()> {
        match self {
            Self::Dyq(dispatcher) => dispatcher.observe(executed),
            Self::Consistency(rule) => rule.observe(executed, last.profile, last.uncertainty),
        }
    }

    /// Returns the profile of a step at a fixed width, 32 bits for the unquantized policy.
    pub fn profile_of(&self, bits: u32) -> Profile {
        match self {
            Self::Consistency(rule) if bits < rule.width(Profile::High).bits() => Profile::Low,
            _ => Profile::High,
        }
    }
}

/// Returns S of a decision with history.
pub fn sensitivity(decision: &Decision) -> Option<f64> {
    let history = !matches!(decision.reason, Reason::Start | Reason::Fault);
    history.then_some(decision.sensitivity)
}

/// Returns the reason for the width of a step under the consistency rule.
pub fn reason(decided: ConsistencyReason, runs: usize) -> &'static str {
    match decided {
        ConsistencyReason::Start => "start",
        ConsistencyReason::Fault => "fault",
        ConsistencyReason::Static => "static",
        ConsistencyReason::Refresh => "refresh",
        ConsistencyReason::NoUncertainty => "no-uncertainty",
        ConsistencyReason::Gate => "gate",
        ConsistencyReason::Try if runs == 1 => "accepted",
        _ => "ran-again",
    }
}
