//! Adam with moments that can be saved: a run that resumes needs them, and candle-nn's AdamW does
//! not give access to them. Without weight decay the arithmetic is the same, bit for bit.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, Var};

use super::Failure;
use super::networks::Parameters;

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPS: f64 = 1e-8;
/// The decay of the running average of the weights, after many steps.
const KEEP: f64 = 0.998;

/// Variables with their moments and their running average.
pub struct Optimizer {
    /// By name.
    pub vars: BTreeMap<String, Var>,
    /// First moments, of the gradients.
    pub first: Parameters,
    /// Second moments, of their squares.
    pub second: Parameters,
    /// Running average of the values, which is evaluated and written.
    pub average: Parameters,
    /// The number of steps.
    pub steps: usize,
}

impl Optimizer {
    /// Starts with no steps.
    ///
    /// # Errors
    /// Those of candle.
    pub fn new(vars: BTreeMap<String, Var>) -> Result<Self> {
        let zeros = || {
            let zeros = |(name, var): (&String, &Var)| Ok((name.clone(), var.zeros_like()?));
            vars.iter().map(zeros).collect::<Result<Parameters>>()
        };
        let copy =
            |(name, var): (&String, &Var)| Ok((name.clone(), var.as_tensor().copy()?.detach()));
        Ok(Self {
            first: zeros()?,
            second: zeros()?,
            average: vars.iter().map(copy).collect::<Result<_>>()?,
            vars,
            steps: 0,
        })
    }

    /// Restarts from the average with no steps.
    ///
    /// # Errors
    /// Those of candle.
    pub fn restart(&mut self) -> Result<()> {
        for (name, var) in &self.vars {
            var.set(&self.average[name])?;
            self.first.insert(name.clone(), var.zeros_like()?);
            self.second.insert(name.clone(), var.zeros_like()?);
        }
        self.steps = 0;
        Ok(())
    }

    /// Takes a step along `gradients`, scaled to a norm of at most `clip`. A variable without a
    /// gradient does not change.
    ///
    /// # Errors
    /// [`Failure::Gradients`] for a norm that is not finite: nothing changes. Those of candle.
    pub fn step(&mut self, gradients: &Parameters, rate: f64, clip: f64) -> super::Result<()> {
        let mut squares = 0.0;
        for gradient in gradients.values() {
            squares += scalar(&gradient.sqr()?.sum_all()?)?;
        }
        let norm = squares.sqrt();
        if !norm.is_finite() {
            let step = self.steps;
            return Err(Failure::Gradients { step, norm });
        }
        self.steps += 1;
        let shrink = (clip / norm).min(1.0);
        let scale_1 = 1.0 / (1.0 - BETA_1.powi(self.steps as i32));
        let scale_2 = 1.0 / (1.0 - BETA_2.powi(self.steps as i32));
        let keep = KEEP.min((1 + self.steps) as f64 / (10 + self.steps) as f64);
        for (name, var) in &self.vars {
            if let Some(gradient) = gradients.get(name) {
                let g = match shrink < 1.0 {
                    true => (gradient * shrink)?,
                    false => gradient.clone(),
                };
                let first = ((&self.first[name] * BETA_1)? + (&g * (1.0 - BETA_1))?)?;
                let second = ((&self.second[name] * BETA_2)? + (g.sqr()? * (1.0 - BETA_2))?)?;
                let direction = ((&first * scale_1)? / ((&second * scale_2)?.sqrt()? + EPS)?)?;
                var.set(&(var.as_tensor() - (direction * rate)?)?.detach())?;
                self.first.insert(name.clone(), first.detach());
                self.second.insert(name.clone(), second.detach());
            }
            let average = ((&self.average[name] * keep)? + (var.as_tensor() * (1.0 - keep))?)?;
            self.average.insert(name.clone(), average.detach());
        }
        Ok(())
    }
}

/// Returns the value of a scalar of any float type.
///
/// # Errors
/// Those of candle.
pub fn scalar(x: &Tensor) -> Result<f64> {
    x.to_dtype(candle_core::DType::F64)?.to_scalar()
}
