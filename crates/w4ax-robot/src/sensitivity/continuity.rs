//! DySL-VLA's continuity of a scripted expert's actions: by phase, and where the two rules of
//! verification fire.

use serde::Serialize;
use w4ax::Result;
use w4ax::dispatch::Action;
use w4ax::skip::{Continuity, SkipConfig, Verify};

use super::expert::{PHASES, Trajectory};

/// The values of eta: a rule fires on a larger drop.
pub const ETAS: [f64; 3] = [1e-3, 1e-2, 0.05];

/// The rules with their names.
pub const RULES: [(Verify, &str); 2] = [
    (Verify::RiseThenDrop, "rise then drop"),
    (Verify::FirstDrop, "first drop"),
];

/// The continuity after the action of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// C_t.
    pub value: f64,
    /// delta_t.
    pub delta: f64,
}

/// Returns the continuity along an episode.
///
/// # Errors
/// As [`Continuity::push`].
pub fn trace(config: &SkipConfig, steps: &[(usize, Action)]) -> Result<Vec<Change>> {
    let mut continuity = Continuity::new(config)?;
    let change = |(_, action): &(usize, Action)| {
        continuity.push(action)?;
        Ok(Change {
            value: continuity.value(),
            delta: continuity.delta(),
        })
    };
    steps.iter().map(change).collect()
}

/// A change of the gripper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Flip {
    /// From open (not above 0) to closed (above 0).
    Closing,
    /// From closed to open.
    Opening,
}

/// A step of the expert.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// The task's name.
    pub task: String,
    /// The index of the episode in its task.
    pub episode: i64,
    /// The control step in its episode.
    pub t: usize,
    /// The index in [`PHASES`].
    pub phase: usize,
    /// C_t of all 7 numbers, in action units.
    pub continuity: f64,
    /// delta_t of all 7 numbers.
    pub delta: f64,
    /// delta of the step before, 0 at the first.
    pub delta_before: f64,
    /// C_t without the gripper's number.
    pub continuity_arm: f64,
    /// The change of the gripper since the previous step.
    pub flip: Option<Flip>,
}

/// Computes all steps of all episodes. `file` is their name in errors.
///
/// # Errors
/// [`Error::Format`](w4ax::Error::Format) for an episode whose continuity is not finite.
pub fn steps(episodes: &[Trajectory], file: &str) -> Result<Vec<Step>> {
    let whole = SkipConfig::default();
    let mut weights = whole.weights();
    weights[6] = 0.0;
    let arm = whole.with_weights(weights);
    let mut steps = Vec::new();
    for episode in episodes {
        let changes =
            |config| trace(config, &episode.steps).map_err(|error| episode.refuse(file, &error));
        let (changes, of_arm) = (changes(&whole)?, changes(&arm)?);
        for (t, (phase, action)) in episode.steps.iter().enumerate() {
            let before = t.checked_sub(1);
            let closed = |action: &Action| action[6] > 0.0;
            let was_closed = before.map(|b| closed(&episode.steps[b].1));
            steps.push(Step {
                task: episode.key.0.clone(),
                episode: episode.key.1,
                t,
                phase: *phase,
                continuity: changes[t].value,
                delta: changes[t].delta,
                delta_before: before.map_or(0.0, |b| changes[b].delta),
                continuity_arm: of_arm[t].value,
                flip: match (was_closed, closed(action)) {
                    (Some(false), true) => Some(Flip::Closing),
                    (Some(true), false) => Some(Flip::Opening),
                    _ => None,
                },
            });
        }
    }
    Ok(steps)
}

/// The mean continuity of a phase.
#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    /// The name, from [`PHASES`].
    pub phase: &'static str,
    /// The number of steps.
    pub steps: usize,
    /// Mean C_t of all 7 numbers; `None` without steps.
    pub all: Option<f64>,
    /// Mean C_t without the gripper's number.
    pub without_gripper: Option<f64>,
}

/// Averages the steps of each phase.
pub fn phases(steps: &[Step]) -> Vec<Phase> {
    let phase = |(number, name): (usize, &&'static str)| {
        let here: Vec<&Step> = steps.iter().filter(|step| step.phase == number).collect();
        let mean = |value: fn(&Step) -> f64| {
            let sum: f64 = here.iter().map(|step| value(step)).sum();
            (!here.is_empty()).then(|| sum / here.len() as f64)
        };
        Phase {
            phase: name,
            steps: here.len(),
            all: mean(|step| step.continuity),
            without_gripper: mean(|step| step.continuity_arm),
        }
    };
    PHASES.iter().enumerate().map(phase).collect()
}

/// The steps at which a rule fires, of a set of steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Steps at which the rule fires.
    pub fired: usize,
    /// Steps of the set.
    pub of: usize,
}

impl Share {
    fn of<'a>(steps: impl Iterator<Item = &'a Step>, fires: impl Fn(&Step) -> bool) -> Self {
        let mut share = Self::default();
        for step in steps {
            share.fired += usize::from(fires(step));
            share.of += 1;
        }
        share
    }

    /// Returns the share in percent; NaN for an empty set.
    pub fn percent(self) -> f64 {
        100.0 * self.fired as f64 / self.of as f64
    }
}

/// The steps at which a rule fires.
#[derive(Clone, Debug, Serialize)]
pub struct Firing {
    /// The name, from [`RULES`].
    pub rule: &'static str,
    /// From [`ETAS`].
    pub eta: f64,
    /// Steps at which the gripper closes.
    pub closings: Share,
    /// Steps at which the gripper opens.
    pub openings: Share,
    /// All steps.
    pub steps: Share,
    /// Second steps of an episode: C falls from 0, its value after one action, to the first change.
    pub starts: Share,
}

/// Counts the steps of each rule at each eta.
pub fn firings(steps: &[Step]) -> Vec<Firing> {
    let firing = |(rule, name): (Verify, &'static str), eta: f64| {
        let fires = |step: &Step| rule.drops(step.delta_before, step.delta, eta);
        let flips = |flip| Share::of(steps.iter().filter(|s| s.flip == Some(flip)), fires);
        Firing {
            rule: name,
            eta,
            closings: flips(Flip::Closing),
            openings: flips(Flip::Opening),
            steps: Share::of(steps.iter(), fires),
            starts: Share::of(steps.iter().filter(|step| step.t == 1), fires),
        }
    };
    let rules = RULES.into_iter();
    rules
        .flat_map(|rule| ETAS.map(|eta| firing(rule, eta)))
        .collect()
}
