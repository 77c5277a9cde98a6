//! What the server knows between two lines.

use std::time::Instant;

use w4ax::Width;
use w4ax::dispatch::Dispatcher;
use w4ax::skip::Verdict;

use super::protocol::{Reply, Request, Skipped};
use w4ax_robot::rollouts::{OBS, action};
use w4ax_robot::setup::Robot;
use w4ax_robot::skipping::Skipping;

/// A robot at work.
pub struct Session {
    robot: Robot,
    /// The width of every step; `None` for the dispatcher's.
    fixed: Option<Width>,
    /// None where all layers run.
    skipping: Option<Skipping>,
    /// None before the first reset.
    episode: Option<Episode>,
}

struct Episode {
    task: usize,
    /// Has seen all actions of the episode.
    dispatcher: Dispatcher,
}

impl Session {
    /// Before the first reset.
    pub fn new(robot: Robot, fixed: Option<Width>, skipping: Option<Skipping>) -> Self {
        Self {
            robot,
            fixed,
            skipping,
            episode: None,
        }
    }

    /// Does what a line asks for, or nothing.
    ///
    /// # Errors
    /// What is wrong: a task that there is not, a step before the first reset, a policy that gives no action. Nothing
    /// has changed then; but after a policy that gave no action, no layers are skipped for a while.
    pub fn answer(&mut self, request: Request) -> Result<Reply, String> {
        match request {
            Request::Reset { task } => self.reset(task),
            Request::Step { obs } => self.step(&obs),
        }
    }

    fn reset(&mut self, task: usize) -> Result<Reply, String> {
        let Some(dispatcher) = self.robot.dispatchers.get(task) else {
            let tasks = self.robot.dispatchers.len();
            return Err(format!("`task` is {task}, there are {tasks} tasks"));
        };
        self.episode = Some(Episode {
            task,
            dispatcher: dispatcher.clone(),
        });
        if let Some(skipping) = &mut self.skipping {
            skipping.skipper.reset();
        }
        Ok(Reply::Done { ok: true })
    }

    fn step(&mut self, obs: &[f32; OBS]) -> Result<Reply, String> {
        let start = Instant::now();
        let Some(episode) = &mut self.episode else {
            return Err("no episode has begun: the first line must be a reset".into());
        };
        // On a copy (a few KB): a step that fails has not been.
        let mut dispatcher = episode.dispatcher.clone();
        let (width, sensitivity) = match self.fixed {
            Some(width) => (width, None),
            None => {
                let decision = dispatcher.decide();
                (decision.active, Some(decision.sensitivity))
            }
        };
        let policy = &mut self.robot.policy;
        let (tokens, ran) = policy
            .input(obs, episode.task)
            .and_then(|input| match &mut self.skipping {
                Some(skipping) => skipping.step(policy, &input, width),
                None => policy.step(&input, width),
            })
            .map_err(|error| error.to_string())?;
        let action = action(&tokens);
        dispatcher.observe(&action).map_err(|e| e.to_string())?;
        episode.dispatcher = dispatcher;
        let skipped = self.skipping.as_ref().map(|skipping| {
            let report = skipping.skipper.report();
            Skipped {
                layers: report.layers_run,
                reran: report.verdict == Verdict::RanAgain,
            }
        });
        Ok(Reply::Step {
            action,
            width: ran.width.bits(),
            sensitivity,
            micros: start.elapsed().as_micros() as u64,
            skipped,
        })
    }
}
