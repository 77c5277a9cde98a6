//! The state of the server between two lines.

use std::time::Instant;

use w4ax::Width;
use w4ax::dispatch::{Action, Dispatcher};
use w4ax::skip::Verdict;
use w4ax::step::StepPipeline;

use super::protocol::{Reply, Request, Skipped};
use w4ax_robot::policy::Policy;
use w4ax_robot::rollouts::action;
use w4ax_robot::setup::Robot;
use w4ax_robot::shapes::OBS;
use w4ax_robot::skipping::Skipping;
use w4ax_robot::steps::PolicyEngine;

/// A robot, its policy and its episode.
pub struct Session {
    /// Has a dispatcher after the first reset.
    pipeline: StepPipeline<PolicyEngine<Policy, Option<Skipping>>>,
    /// By task, each at the start of an episode.
    dispatchers: Vec<Dispatcher>,
    /// The fixed width; `None` for the dispatcher's.
    fixed: Option<Width>,
    /// `None` before the first reset.
    episode: Option<Episode>,
}

#[derive(Clone, Copy)]
struct Episode {
    task: usize,
    /// The previous action, which the dispatcher has not observed yet.
    last: Option<Action>,
}

impl Session {
    /// Starts before the first reset.
    pub fn new(robot: Robot, fixed: Option<Width>, skipping: Option<Skipping>) -> Self {
        Self {
            pipeline: StepPipeline::new(PolicyEngine::new(robot.policy, skipping), None),
            dispatchers: robot.dispatchers,
            fixed,
            episode: None,
        }
    }

    /// Performs a request.
    ///
    /// # Errors
    /// A message, for a task out of range, a step before the first reset, or a step that fails. The
    /// state does not change, except that a step that fails makes the skipper run all layers for a
    /// while.
    pub fn handle(&mut self, request: Request) -> Result<Reply, String> {
        match request {
            Request::Reset { task } => self.reset(task),
            Request::Step { obs } => self.step(&obs),
        }
    }

    fn reset(&mut self, task: usize) -> Result<Reply, String> {
        let Some(dispatcher) = self.dispatchers.get(task) else {
            let tasks = self.dispatchers.len();
            return Err(format!("`task` is {task}: expected less than {tasks}"));
        };
        let pipeline = &mut self.pipeline;
        (pipeline.set_dispatcher(dispatcher.clone())).map_err(|error| error.to_string())?;
        if let Some(skipping) = &mut pipeline.engine_mut().layers {
            skipping.skipper.reset();
        }
        self.episode = Some(Episode { task, last: None });
        Ok(Reply::Done { ok: true })
    }

    fn step(&mut self, obs: &[f32; OBS]) -> Result<Reply, String> {
        let start = Instant::now();
        let Some(episode) = self.episode else {
            return Err("no episode has begun: expected a reset first".into());
        };
        // A copy of a few KB: a step that fails does not change the motion.
        let before = self.pipeline.dispatcher().cloned();
        let (sensitivity, width) = match self.run(obs, episode) {
            Ok(ran) => ran,
            Err(error) => {
                let undone = self.pipeline.set_dispatcher(before);
                undone.map_err(|error| error.to_string())?;
                return Err(error.to_string());
            }
        };
        let engine = self.pipeline.engine();
        let action = action(&engine.tokens());
        let skipped = engine.layers.as_ref().map(|skipping| {
            let report = skipping.skipper.report();
            Skipped {
                layers: report.layers_run,
                reran: report.verdict == Verdict::RanAgain,
            }
        });
        self.episode = Some(Episode {
            last: Some(action),
            ..episode
        });
        Ok(Reply::Step {
            action,
            width: width.bits(),
            sensitivity,
            micros: start.elapsed().as_micros() as u64,
            skipped,
        })
    }

    /// Runs a control step. Returns S if the dispatcher decided, and the width that ran.
    fn run(&mut self, obs: &[f32; OBS], episode: Episode) -> w4ax::Result<(Option<f64>, Width)> {
        let pipeline = &mut self.pipeline;
        let input = pipeline.engine().policy.input(obs, episode.task)?;
        match self.fixed {
            Some(width) => pipeline.request(width)?,
            None => drop(pipeline.decide(episode.last.as_slice())?),
        }
        let report = pipeline.run(&input)?;
        let sensitivity = report.decision.map(|decision| decision.sensitivity);
        Ok((sensitivity, report.decode.width))
    }
}
