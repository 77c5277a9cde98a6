//! The state of the server between two lines.

use std::time::Instant;

use w4ax::Width;
use w4ax::dispatch::{Action, ConsistencyRule, Profile};
use w4ax::step::StepPipeline;

use super::describe::Description;
use super::layers::ServedLayers;
use super::plain::Plain;
use super::reply::{Body, StepReply};
use super::request::{Request, StepRequest, Task};
use super::rule::{EpisodeRule, LastStep, reason, sensitivity};
use super::width::{ServedWidth, StepPolicy};
use w4ax_robot::policy::Policy;
use w4ax_robot::rollouts::action;
use w4ax_robot::shapes::INPUT;
use w4ax_robot::steps::PolicyEngine;

/// A robot, its policies and its episode.
pub struct Session {
    /// Has no dispatcher: every width is requested.
    pipeline: StepPipeline<PolicyEngine<Policy, ServedLayers>>,
    plain: Plain,
    /// By task, each at the start of an episode.
    rules: Vec<EpisodeRule>,
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
    rule: EpisodeRule,
    /// The last step, which the rule has not observed yet.
    last: Option<LastStep>,
}

/// The result of a policy.
struct Ran {
    action: Action,
    /// In bits, 32 for the unquantized policy.
    width: u32,
    policy: StepPolicy,
    /// The profile of a dynamic step under the consistency rule.
    profile: Option<Profile>,
    /// The target width of a dynamic step, or the width of its first run.
    target: Option<u32>,
    sensitivity: Option<f64>,
    reason: &'static str,
    runs: u32,
    /// The standard deviation of the tokens, if the rule has computed it.
    token_std: Option<f64>,
}

impl Session {
    /// Starts before the first reset.
    pub fn new(
        (policy, rules): (Policy, Vec<EpisodeRule>),
        plain: Plain,
        layers: ServedLayers,
        width: ServedWidth,
        description: Description,
    ) -> Self {
        Self {
            pipeline: StepPipeline::new(PolicyEngine::new(policy, layers), None),
            plain,
            rules,
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
        self.pipeline.engine_mut().layers.reset();
        self.episode = Some(Episode {
            task,
            step: 0,
            rule: self.rules[task].clone(),
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
        let mut rule = episode.rule.clone();
        if let Some(last) = &episode.last {
            rule.observe(&request.executed.unwrap_or(last.action), last)
                .map_err(|error| error.to_string())?;
        }
        let width = request.width.unwrap_or(self.width);
        let policy = &self.pipeline.engine().policy;
        let clipped = policy.clipped(&request.obs).collect();
        let ran = (policy.input(&request.obs, task))
            .and_then(|input| self.run(&input, &mut rule, width))
            .map_err(|error| error.to_string())?;
        let micros = start.elapsed().as_micros() as u64;
        let (token_std, margin) = self.uncertainty(&ran);
        let episode = self.episode.as_mut().expect("an episode has begun");
        let step = episode.step;
        let profile = ran.profile.unwrap_or_else(|| rule.profile_of(ran.width));
        *episode = Episode {
            task,
            step: step + 1,
            rule,
            last: Some(LastStep {
                action: ran.action,
                profile,
                uncertainty: token_std,
            }),
        };
        Ok(Body::Step(Box::new(StepReply {
            step,
            action: ran.action,
            width: ran.width,
            target: ran.target,
            sensitivity: ran.sensitivity,
            reason: ran.reason,
            token_std,
            margin,
            clipped,
            micros,
            skipped: self.pipeline.engine().layers.skipped(),
            runs: ran.runs,
        })))
    }

    /// Runs a policy at a width, or at the width that the rule decides. The rule decides once per
    /// step, whether or not its width is used.
    fn run(
        &mut self,
        input: &[f32; INPUT],
        rule: &mut EpisodeRule,
        width: ServedWidth,
    ) -> w4ax::Result<Ran> {
        let decision = match rule {
            EpisodeRule::Consistency(rule) if width == ServedWidth::Dynamic => {
                return self.run_consistent(input, rule);
            }
            EpisodeRule::Consistency(_) => None,
            EpisodeRule::Dyq(dispatcher) => Some(dispatcher.decide()),
        };
        let active = decision.map_or(Width::Bf16, |decision| decision.active);
        let policy = width.policy(active);
        let (tokens, bits) = match policy {
            StepPolicy::Plain => {
                let layers = &mut self.pipeline.engine_mut().layers;
                (self.plain.run(input, layers)?, 32)
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
        let decision = decision.filter(|_| width == ServedWidth::Dynamic);
        Ok(Ran {
            action: action(&tokens),
            width: bits,
            policy,
            profile: None,
            target: decision.map(|decision| decision.target.bits()),
            sensitivity: decision.as_ref().and_then(sensitivity),
            reason: decision.map_or("requested", |decision| decision.reason.name()),
            runs: 1,
            token_std: None,
        })
    }

    fn run_consistent(
        &mut self,
        input: &[f32; INPUT],
        rule: &mut ConsistencyRule,
    ) -> w4ax::Result<Ran> {
        let sensitivity = rule.sensitivity();
        let step = match self.pipeline.run_consistent(rule, input) {
            Ok(step) => step,
            Err(error) => {
                self.pipeline.reset()?;
                return Err(error);
            }
        };
        let width = step.report().decode.width;
        let (runs, mut action) = (step.runs(), step.actions);
        rule.command(&mut action, step.profile);
        Ok(Ran {
            action,
            width: width.bits(),
            policy: StepPolicy::Quantized(width),
            profile: Some(step.profile),
            target: Some(step.decision.width.bits()),
            sensitivity,
            reason: reason(step.decision.reason, runs),
            runs: runs as u32,
            token_std: step.uncertainty,
        })
    }

    /// Returns the standard deviation and the margin of the tokens of the last step.
    fn uncertainty(&self, ran: &Ran) -> (Option<f64>, Option<f64>) {
        match ran.policy {
            StepPolicy::Plain => (Some(self.plain.token_std()), Some(self.plain.margin())),
            StepPolicy::Quantized(_) => {
                let engine = self.pipeline.engine();
                let token_std = ran.token_std.or_else(|| engine.token_std());
                (token_std, engine.margin())
            }
        }
    }
}
