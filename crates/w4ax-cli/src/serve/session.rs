//! The state of the server between two lines.

use std::time::Instant;

use w4ax::dispatch::{Action, Decision, Dispatcher, Reason};
use w4ax::skip::Verdict;
use w4ax::step::StepPipeline;

use super::describe::Description;
use super::plain::Plain;
use super::reply::{Body, Skipped, StepReply};
use super::request::{Request, StepRequest, Task};
use super::width::{ServedWidth, StepPolicy};
use w4ax_robot::policy::Policy;
use w4ax_robot::rollouts::action;
use w4ax_robot::setup::Robot;
use w4ax_robot::shapes::INPUT;
use w4ax_robot::skipping::Skipping;
use w4ax_robot::steps::PolicyEngine;

/// A robot, its policies and its episode.
pub struct Session {
    /// Has no dispatcher: every width is requested.
    pipeline: StepPipeline<PolicyEngine<Policy, Option<Skipping>>>,
    plain: Plain,
    /// By task, each at the start of an episode.
    dispatchers: Vec<Dispatcher>,
    /// The width of a step that requests none.
    width: ServedWidth,
    description: Description,
    /// `None` before the first reset.
    episode: Option<Episode>,
}

struct Episode {
    task: usize,
    /// The number of the next step.
    step: u64,
    dispatcher: Dispatcher,
    /// The action of the last step, which the dispatcher has not observed yet.
    last: Option<Action>,
}

/// The result of a policy.
struct Ran {
    action: Action,
    /// In bits, 32 for the unquantized policy.
    width: u32,
    policy: StepPolicy,
}

impl Session {
    /// Starts before the first reset.
    pub fn new(
        robot: Robot,
        plain: Plain,
        skipping: Option<Skipping>,
        width: ServedWidth,
        description: Description,
    ) -> Self {
        Self {
            pipeline: StepPipeline::new(PolicyEngine::new(robot.policy, skipping), None),
            plain,
            dispatchers: robot.dispatchers,
            width,
            description,
            episode: None,
        }
    }

    /// Performs a request.
    ///
    /// # Errors
    /// A message, for a task that the policy does not have, a step before the first reset, an
    /// executed action in the first step of an episode, or a step that fails. The state does not
    /// change, except that a step that fails makes the skipper run all layers for a while.
    pub fn handle(&mut self, request: Request) -> Result<Body, String> {
        match request {
            Request::Describe => Ok(Body::Description(Box::new(self.description.clone()))),
            Request::Reset(task) => self.reset(&task),
            Request::Step(request) => self.step(&request),
        }
    }

    fn reset(&mut self, task: &Task) -> Result<Body, String> {
        let task = self.index_of(task)?;
        if let Some(skipping) = &mut self.pipeline.engine_mut().layers {
            skipping.skipper.reset();
        }
        self.episode = Some(Episode {
            task,
            step: 0,
            dispatcher: self.dispatchers[task].clone(),
            last: None,
        });
        Ok(Body::Done { ok: true })
    }

    fn index_of(&self, task: &Task) -> Result<usize, String> {
        let tasks = self.pipeline.engine().policy.tasks();
        match task {
            Task::Index(index) if *index < tasks.len() => Ok(*index),
            Task::Index(index) => Err(format!(
                "`task` is {index}: expected less than {}",
                tasks.len()
            )),
            Task::Name(name) => tasks
                .iter()
                .position(|task| task == name)
                .ok_or_else(|| format!("`task` is `{name}`: expected one of {}", tasks.join(", "))),
        }
    }

    fn step(&mut self, request: &StepRequest) -> Result<Body, String> {
        let start = Instant::now();
        let Some(episode) = &self.episode else {
            return Err("no episode has begun: expected a reset first".into());
        };
        if request.executed.is_some() && episode.last.is_none() {
            return Err(
                "`executed` is given in the first step of an episode: expected none, as \
                        no action was executed before it"
                    .into(),
            );
        }
        let task = episode.task;
        // A copy of a few KB: a step that fails does not change the motion.
        let mut dispatcher = episode.dispatcher.clone();
        if let Some(action) = request.executed.or(episode.last) {
            dispatcher
                .observe(&action)
                .map_err(|error| error.to_string())?;
        }
        let decision = dispatcher.decide();
        let width = request.width.unwrap_or(self.width);
        let policy = &self.pipeline.engine().policy;
        let clipped = policy.clipped(&request.obs).collect();
        let ran = (policy.input(&request.obs, task))
            .and_then(|input| self.run(&input, width.policy(decision.active)))
            .map_err(|error| error.to_string())?;
        let micros = start.elapsed().as_micros() as u64;
        let decision = (width == ServedWidth::Dynamic).then_some(decision);
        let (token_std, margin) = self.uncertainty(ran.policy);
        let episode = self.episode.as_mut().expect("an episode has begun");
        let step = episode.step;
        *episode = Episode {
            task,
            step: step + 1,
            dispatcher,
            last: Some(ran.action),
        };
        Ok(Body::Step(Box::new(StepReply {
            step,
            action: ran.action,
            width: ran.width,
            target: decision.map(|decision| decision.target.bits()),
            sensitivity: decision.and_then(sensitivity),
            reason: decision.map_or("requested", |decision| decision.reason.name()),
            token_std,
            margin,
            clipped,
            micros,
            skipped: self.skipped(),
            runs: 1,
        })))
    }

    /// Runs a policy.
    fn run(&mut self, input: &[f32; INPUT], policy: StepPolicy) -> w4ax::Result<Ran> {
        let (tokens, width) = match policy {
            StepPolicy::Plain => {
                let skipping = &mut self.pipeline.engine_mut().layers;
                (self.plain.run(input, skipping)?, 32)
            }
            StepPolicy::Quantized(width) => {
                let pipeline = &mut self.pipeline;
                pipeline.request(width)?;
                let report = match pipeline.run(input) {
                    Ok(report) => report,
                    Err(error) => {
                        // Discards the width, if the step did not begin.
                        pipeline.reset()?;
                        return Err(error);
                    }
                };
                (pipeline.engine().tokens(), report.decode.width.bits())
            }
        };
        Ok(Ran {
            action: action(&tokens),
            width,
            policy,
        })
    }

    /// Returns the standard deviation and the margin of the tokens of the last step, which this
    /// policy ran.
    fn uncertainty(&self, policy: StepPolicy) -> (Option<f64>, Option<f64>) {
        match policy {
            StepPolicy::Plain => (Some(self.plain.token_std()), Some(self.plain.margin())),
            StepPolicy::Quantized(_) => {
                let engine = self.pipeline.engine();
                (engine.token_std(), engine.margin())
            }
        }
    }

    fn skipped(&self) -> Option<Skipped> {
        let skipping = self.pipeline.engine().layers.as_ref()?;
        let report = skipping.skipper.report();
        Some(Skipped {
            layers: report.layers_run,
            reran: report.verdict == Verdict::RanAgain,
        })
    }
}

/// Returns S of a decision with history.
fn sensitivity(decision: Decision) -> Option<f64> {
    let history = !matches!(decision.reason, Reason::Start | Reason::Fault);
    history.then_some(decision.sensitivity)
}
