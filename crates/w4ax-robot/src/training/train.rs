//! The steps of both stages.

use std::path::Path;
use std::time::Instant;

use candle_core::DType;
use rayon::ThreadPool;
use rayon::prelude::*;
use w4ax::skip::Layers;

use super::batches::{self, Pool, generator};
use super::frozen::Frozen;
use super::losses::{self, Teacher};
use super::networks::{self, Networks, Parameters, Sizes};
use super::optimizer::{Optimizer, scalar};
use super::plan::Plan;
use super::state::{self, Progress};
use super::{Failure, Result};
use crate::shapes::INPUT;

/// The generator's stream for the first weights. The stages use 0 and 1.
const FIRST_WEIGHTS: usize = 2;
/// The decay of the displayed mean loss.
const KEEP: f64 = 0.98;

/// The inputs of a training.
pub struct Trainer<'a> {
    /// The frozen stack, F32.
    pub frozen: &'a Frozen,
    /// The rows to draw from.
    pub pool: &'a Pool,
    /// The plan.
    pub plan: &'a Plan,
    /// The layers of the plan.
    pub layers: &'a Layers,
    /// The threads of a batch's parts.
    pub threads: &'a ThreadPool,
    /// The checkpoint's file. A run resumes from it if it exists.
    pub checkpoint: &'a Path,
    /// Steps from one checkpoint to the next.
    pub every: usize,
}

/// The result of a training.
pub struct Trained {
    /// The running average, rounded as in a file.
    pub networks: Networks,
    /// Losses and durations.
    pub progress: Progress,
}

impl Trainer<'_> {
    /// Trains to the end, or for `limit` steps; after these it writes a checkpoint and returns
    /// `None`. `report` is called after every step.
    ///
    /// # Errors
    /// As [`state::load`], [`state::save`], [`Optimizer::step`]. [`Failure::Diverged`]. Those of
    /// candle.
    pub fn run(
        &self,
        limit: Option<usize>,
        mut report: impl FnMut(&Progress),
    ) -> Result<Option<Trained>> {
        let plan = self.plan;
        let sizes = Sizes {
            width: self.frozen.width(),
            adapter: plan.adapter_hidden,
            controller: plan.controller_hidden,
        };
        let mut rng = generator(plan.seed, FIRST_WEIGHTS, 0);
        let exit = plan.exit.is_some();
        let vars = networks::initial(self.layers, exit, sizes, DType::F32, &mut rng)?;
        let mut optimizer = Optimizer::new(vars)?;
        let mut progress = Progress::default();
        if self.checkpoint.exists() {
            progress = state::load(self.checkpoint, plan, &mut optimizer)?;
        }

        let mut left = limit.unwrap_or(usize::MAX);
        loop {
            let stage = progress.stage;
            if progress.step == plan.steps[stage] {
                if stage == 1 {
                    break;
                }
                optimizer.restart()?;
                (progress.stage, progress.step, progress.optimizer_steps) = (1, 0, 0);
                continue;
            }
            if left == 0 {
                state::save(self.checkpoint, plan, &progress, &optimizer)?;
                return Ok(None);
            }
            let begin = Instant::now();
            let loss = self.step(stage, progress.step, &mut optimizer)?;
            let mean =
                progress.losses[stage].map_or(loss, |mean| KEEP * mean + (1.0 - KEEP) * loss);
            progress.losses[stage] = Some(mean);
            progress.seconds[stage] += begin.elapsed().as_secs_f64();
            progress.step += 1;
            progress.optimizer_steps = optimizer.steps;
            left -= 1;
            report(&progress);
            if progress.step.is_multiple_of(self.every) {
                state::save(self.checkpoint, plan, &progress, &optimizer)?;
            }
        }
        Ok(Some(Trained {
            networks: Networks(optimizer.average).rounded()?,
            progress,
        }))
    }

    /// Runs one step. Returns its loss.
    fn step(&self, stage: usize, step: usize, optimizer: &mut Optimizer) -> Result<f64> {
        let plan = self.plan;
        let mut rng = generator(plan.seed, stage, step);
        let drawn = losses::draw(self.layers, &mut rng);
        let rows = self.pool.draw(plan.batch, plan.disturb, &mut rng);
        let parts: Vec<Result<(f64, Parameters)>> = self.threads.install(|| {
            let parts = rows.par_chunks(plan.batch / plan.parts);
            parts
                .map(|rows| self.gradients(stage, rows, &drawn, optimizer))
                .collect()
        });
        // In order, so that the sum does not depend on the number of threads.
        let mut loss = 0.0;
        let mut sum = Parameters::new();
        for part in parts {
            let (part_loss, gradients) = part?;
            loss += part_loss / plan.parts as f64;
            for (name, gradient) in gradients {
                let gradient = (gradient / plan.parts as f64)?;
                let gradient = match sum.get(&name) {
                    Some(sum) => (sum + gradient)?,
                    None => gradient,
                };
                sum.insert(name, gradient);
            }
        }
        if !loss.is_finite() {
            let stage = stage + 1;
            return Err(Failure::Diverged { stage, step, loss });
        }
        let rate = plan.rate_at(step, plan.steps[stage]);
        optimizer.step(&sum, rate, plan.clip)?;
        Ok(loss)
    }

    /// Returns the loss of some rows, and its gradients.
    fn gradients(
        &self,
        stage: usize,
        rows: &[[f32; INPUT]],
        drawn: &[usize],
        optimizer: &Optimizer,
    ) -> Result<(f64, Parameters)> {
        let (frozen, layers, weights) = (self.frozen, self.layers, self.plan.weights);
        let networks = Networks::of(&optimizer.vars);
        let teacher = Teacher::of(frozen, &batches::tensor(rows, DType::F32)?)?;
        let loss = match (stage, self.plan.exit) {
            (0, exit) => losses::stage_1(&networks, layers, exit, &teacher)?,
            (_, Some(exit)) => losses::exit(frozen, &networks, exit, &teacher, weights)?,
            (_, None) => losses::stage_2(frozen, &networks, layers, &teacher, drawn, weights)?,
        };
        let store = loss.backward()?;
        let gradient = |(name, var): (&String, &candle_core::Var)| {
            Some((name.clone(), store.get(var)?.detach()))
        };
        let gradients = optimizer.vars.iter().filter_map(gradient).collect();
        Ok((scalar(&loss)?, gradients))
    }
}
