//! Replays of the rules over recorded actions, without a policy.
//!
//! The action of a recorded step depends on its input and its widths only. A rule chooses among
//! actions that were recorded once, so a replay takes microseconds, and a search can try many
//! parameters. The widths and errors are those of a run of the policy.

use super::episode::Episode;
use super::profile::distance;
use crate::dispatch::{
    Action, ConsistencyConfig, ConsistencyRule, DispatchConfig, Dispatcher, Profile, StepCosts,
};
use crate::{Error, Result, Width};

/// A step of a [`RuleReplay`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReplayedStep {
    /// The step width of the last run.
    pub width: Width,
    /// The distance of the commanded action to that of the unquantized policy, in action units.
    pub error: f64,
    /// The cost of all runs of the step.
    pub cost: f64,
    /// Whether the step ran twice.
    pub twice: bool,
}

/// The result of a rule over recorded episodes.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleReplay {
    /// `[episodes][steps]`, at least one step.
    pub episodes: Vec<Vec<ReplayedStep>>,
}

impl RuleReplay {
    /// Returns all steps in order.
    pub fn steps(&self) -> impl Iterator<Item = &ReplayedStep> {
        self.episodes.iter().flatten()
    }

    /// Returns the mean error in action units.
    pub fn mean_error(&self) -> f64 {
        self.mean(|step| step.error)
    }

    /// Returns the mean cost of a step.
    pub fn mean_cost(&self) -> f64 {
        self.mean(|step| step.cost)
    }

    /// Returns the share of steps whose last run has a width.
    pub fn share(&self, width: Width) -> f64 {
        self.mean(|step| f64::from(u8::from(step.width == width)))
    }

    /// Returns the share of steps that ran twice.
    pub fn rerun_share(&self) -> f64 {
        self.mean(|step| f64::from(u8::from(step.twice)))
    }

    fn mean(&self, value: impl Fn(&ReplayedStep) -> f64) -> f64 {
        self.steps().map(value).sum::<f64>() / self.steps().count() as f64
    }
}

/// The recorded actions of an episode at the two profiles of a consistency rule.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileEpisode<A = Action> {
    /// The index of the task.
    pub task: usize,
    /// `[steps][dims]`: the actions of the unquantized policy.
    pub reference: Vec<A>,
    /// `[2][steps][dims]`: the actions at the low and at the high profile, floors included.
    pub actions: [Vec<A>; 2],
    /// `[2][steps]`: the uncertainties of these runs in action units, if they are known.
    pub uncertainty: Option<[Vec<f64>; 2]>,
}

/// Replays the rule of DyQ-VLA. `configs` holds the configuration of each task, `costs` the cost of
/// a step at each width.
///
/// # Errors
/// As [`Episode::validate`], [`Dispatcher::new`] and [`Dispatcher::observe`].
pub fn replay_dyq<A: AsRef<[f64]>>(
    configs: &[DispatchConfig],
    episodes: &[Episode<A>],
    costs: &StepCosts,
) -> Result<RuleReplay> {
    let replay = |episode: &Episode<A>| {
        episode.validate(configs.len())?;
        let mut dispatcher = Dispatcher::new(&configs[episode.task])?;
        let step = |(at, reference): (usize, &A)| {
            let width = dispatcher.decide().active;
            let action = episode.at(width)[at].as_ref();
            dispatcher.observe(action)?;
            Ok(ReplayedStep {
                width,
                error: distance(action, reference.as_ref()),
                cost: costs.of(width),
                twice: false,
            })
        };
        episode.reference.iter().enumerate().map(step).collect()
    };
    Ok(RuleReplay {
        episodes: episodes.iter().map(replay).collect::<Result<_>>()?,
    })
}

/// Replays the consistency rule. `configs` holds the configuration of each task, `costs` the cost
/// of a run at the low and at the high profile.
///
/// # Errors
/// [`Error::Range`] for a task that is out of range, [`Error::Shape`] for series of different
/// lengths. As [`ConsistencyRule::new`] and [`ConsistencyRule::observe`].
pub fn replay_consistency<A: AsRef<[f64]>>(
    configs: &[ConsistencyConfig],
    episodes: &[ProfileEpisode<A>],
    costs: [f64; 2],
) -> Result<RuleReplay> {
    let replay = |episode: &ProfileEpisode<A>| {
        episode.validate(configs.len())?;
        let mut rule = ConsistencyRule::new(&configs[episode.task])?;
        let steps = 0..episode.reference.len();
        steps.map(|at| episode.step(&mut rule, at, costs)).collect()
    };
    Ok(RuleReplay {
        episodes: episodes.iter().map(replay).collect::<Result<_>>()?,
    })
}

impl<A: AsRef<[f64]>> ProfileEpisode<A> {
    fn validate(&self, tasks: usize) -> Result<()> {
        if self.task >= tasks {
            return Err(Error::Range {
                what: "task of an episode",
                value: format!("{} of {tasks} tasks", self.task),
                range: "an index into the list of tasks",
            });
        }
        let steps = self.reference.len();
        let series = self.actions.iter().map(Vec::len);
        let known = self.uncertainty.iter().flatten().map(Vec::len);
        match series.chain(known).find(|&len| len != steps || len == 0) {
            None => Ok(()),
            Some(len) => Err(Error::shape("series of a profile", [steps.max(1)], [len])),
        }
    }

    fn step(&self, rule: &mut ConsistencyRule, at: usize, costs: [f64; 2]) -> Result<ReplayedStep> {
        let index = |profile| match profile {
            Profile::Low => 0,
            Profile::High => 1,
        };
        let mut profile = rule.decide().profile;
        let mut cost = costs[index(profile)];
        let mut action = self.actions[index(profile)][at].as_ref();
        let twice = !rule.verify(action).accepted;
        if twice {
            profile = Profile::High;
            cost += costs[index(profile)];
            action = self.actions[index(profile)][at].as_ref();
        }
        let mut commanded = action.to_vec();
        rule.command(&mut commanded, profile);
        let known = self.uncertainty.as_ref();
        let uncertainty = known.map(|series| series[index(profile)][at]);
        rule.observe(&commanded, profile, uncertainty)?;
        Ok(ReplayedStep {
            width: rule.width(profile),
            error: distance(&commanded, self.reference[at].as_ref()),
            cost,
            twice,
        })
    }
}
