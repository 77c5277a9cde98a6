//! Evaluation of skips: the action error against the full stack, and the share of layers that ran.

use candle_core::{DType, Result, Tensor};
use serde::Serialize;
use w4ax::calibrate::distance;
use w4ax::skip::Layers;

use super::frozen::Frozen;
use super::networks::Networks;
use crate::rollouts::action;
use crate::shapes::Tokens;

/// The number of rows per batch.
const ROWS: usize = 512;

/// The result of a threshold.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Point {
    /// A controller skips if its probability is above this.
    pub threshold: f64,
    /// The mean share of layers that ran.
    pub share: f64,
    /// Mean L2 distance of the action to that of the full stack.
    pub error: f64,
}

/// Rows with the full stack's tokens.
pub struct Judge {
    parts: Vec<(Tensor, Vec<Tokens>)>,
    rows: usize,
}

impl Judge {
    /// Runs the full stack on `input [rows, 64]`.
    ///
    /// # Errors
    /// Those of candle.
    pub fn new(frozen: &Frozen, input: &Tensor) -> Result<Self> {
        let rows = input.dims()[0];
        let part = |start: usize| {
            let input = input.narrow(0, start, ROWS.min(rows - start))?;
            let states = frozen.states(&input)?;
            let last = &states[frozen.layers()];
            Ok((input, tokens(frozen, last)?))
        };
        let parts = (0..rows).step_by(ROWS).map(part).collect::<Result<_>>()?;
        Ok(Self { parts, rows })
    }

    /// Evaluates skips of every layer after a controller above `threshold`.
    ///
    /// # Errors
    /// Those of candle.
    pub fn skipping(
        &self,
        frozen: &Frozen,
        networks: &Networks,
        layers: &Layers,
        threshold: f64,
    ) -> Result<Point> {
        let (mut ran, mut error) = (0.0, 0.0);
        for (input, wanted) in &self.parts {
            let (x, count) = skipping(frozen, networks, layers, input, threshold)?;
            error += sum_of_errors(&tokens(frozen, &x)?, wanted);
            ran += count;
        }
        Ok(Point {
            threshold,
            share: ran / (self.rows * layers.len()) as f64,
            error: error / self.rows as f64,
        })
    }

    /// Evaluates an exit at layer `exit`.
    ///
    /// # Errors
    /// Those of candle.
    pub fn exiting(&self, frozen: &Frozen, networks: &Networks, exit: usize) -> Result<Point> {
        let mut error = 0.0;
        for (input, wanted) in &self.parts {
            let x = networks.adapter("exit", &frozen.states(input)?[exit])?;
            error += sum_of_errors(&tokens(frozen, &x)?, wanted);
        }
        Ok(Point {
            threshold: 0.0,
            share: exit as f64 / frozen.layers() as f64,
            error: error / self.rows as f64,
        })
    }

    /// Evaluates thresholds that cover the shares of layers evenly, from all skipped to none.
    ///
    /// # Errors
    /// Those of candle.
    pub fn curve(
        &self,
        frozen: &Frozen,
        networks: &Networks,
        layers: &Layers,
    ) -> Result<Vec<Point>> {
        let at = |threshold| self.skipping(frozen, networks, layers, threshold);
        let mut points = vec![at(0.0)?, at(0.5)?, at(1.0)?];
        while points.len() < 24 {
            let gap = |i: usize| points[i + 1].share - points[i].share;
            let widest = (0..points.len() - 1).max_by(|&a, &b| gap(a).total_cmp(&gap(b)));
            let widest = widest.unwrap_or(0);
            let middle = 0.5 * (points[widest].threshold + points[widest + 1].threshold);
            points.insert(widest + 1, at(middle)?);
        }
        Ok(points)
    }
}

/// Returns the point of least error with a share of at most `share`.
pub fn best_within(points: &[Point], share: f64) -> Option<Point> {
    let within = points.iter().filter(|point| point.share <= share);
    within.min_by(|a, b| a.error.total_cmp(&b.error)).copied()
}

/// Returns the last state, `[B, d]`, and the number of layers that ran, over all rows.
fn skipping(
    frozen: &Frozen,
    networks: &Networks,
    layers: &Layers,
    input: &Tensor,
    threshold: f64,
) -> Result<(Tensor, f64)> {
    let rows = input.dims()[0];
    let mut x = frozen.embed(input)?;
    let mut ran = 0.0;
    let mut at = 0;
    for gap in layers.gaps() {
        x = frozen.run(at..gap.start, &x)?;
        ran += (rows * (gap.start - at)) as f64;
        // 1 for a row that has skipped to the end of the gap, and its state there.
        let mut done = Tensor::zeros((rows, 1), DType::F32, input.device())?;
        let mut landed = x.zeros_like()?;
        for layer in gap.start..gap.end {
            let skips = networks.controller(layer, &x)?.gt(threshold)?;
            let skips = (skips.to_dtype(DType::F32)? * done.affine(-1.0, 1.0)?)?;
            let adapted = networks.adapter(&format!("adapters.{layer}"), &x)?;
            landed = (landed + adapted.broadcast_mul(&skips)?)?;
            done = (done + skips)?;
            ran += rows as f64 - f64::from(done.sum_all()?.to_scalar::<f32>()?);
            x = frozen.run(layer..layer + 1, &x)?;
        }
        x = (x.broadcast_mul(&done.affine(-1.0, 1.0)?)? + landed)?;
        at = gap.end;
    }
    ran += (rows * (layers.len() - at)) as f64;
    Ok((frozen.run(at..layers.len(), &x)?, ran))
}

fn tokens(frozen: &Frozen, x: &Tensor) -> Result<Vec<Tokens>> {
    let tokens = frozen.tokens(x)?.to_dtype(DType::U8)?.flatten_all()?;
    Ok(tokens.to_vec1::<u8>()?.as_chunks().0.to_vec())
}

/// Returns the sum over rows of the L2 distance of the actions.
fn sum_of_errors(got: &[Tokens], wanted: &[Tokens]) -> f64 {
    let pairs = got.iter().zip(wanted);
    pairs.map(|(a, b)| distance(&action(a), &action(b))).sum()
}
