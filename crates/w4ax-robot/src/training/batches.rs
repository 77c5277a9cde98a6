//! The rows of a training step: drawn from the policy's training rows, and disturbed. The frozen
//! stack computes their targets.

use candle_core::{DType, Device, Result, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use crate::checkpoint::Checkpoint;
use crate::dataset::Dataset;
use crate::shapes::{INPUT, OBS};

/// The disturbance of the rows.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Disturb {
    /// The median standard deviation of the noise on normalized observations. That of a row is this
    /// times exp(.7 N(0, 1)).
    pub noise: f64,
    /// The share of rows that are moved towards the next step of their episode, by a uniform share
    /// of the distance.
    pub between: f64,
}

/// The rows that steps draw from, as the policy's input.
pub struct Pool {
    /// `[rows, 64]`.
    inputs: Vec<[f32; INPUT]>,
    /// The row of the next step in the episode; at the end of an episode the row itself.
    next: Vec<usize>,
}

/// Returns the generator of a step's random numbers. It does not depend on earlier steps.
pub fn generator(seed: u64, stage: usize, step: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(((stage as u64) << 48) | step as u64);
    rng
}

/// Returns the policy's input of rows: normalized observations within +-5, and the task.
pub fn inputs(checkpoint: &Checkpoint, dataset: &Dataset, rows: &[usize]) -> Vec<[f32; INPUT]> {
    let input = |&row: &usize| {
        let mut input = [0.0; INPUT];
        for (i, x) in input.iter_mut().take(OBS).enumerate() {
            let (mean, std) = (checkpoint.obs_mean[i], checkpoint.obs_std[i]);
            *x = ((dataset.obs[row][i] - mean) / std).clamp(-5.0, 5.0);
        }
        input[OBS + usize::from(dataset.task[row])] = 1.0;
        input
    };
    rows.iter().map(input).collect()
}

/// Returns a tensor `[rows, 64]`.
///
/// # Errors
/// Those of candle.
pub fn tensor(inputs: &[[f32; INPUT]], dtype: DType) -> Result<Tensor> {
    let shape = (inputs.len(), INPUT);
    Tensor::from_slice(inputs.as_flattened(), shape, &Device::Cpu)?.to_dtype(dtype)
}

impl Pool {
    /// Collects the rows that the policy was trained on.
    pub fn new(checkpoint: &Checkpoint, dataset: &Dataset) -> Self {
        let rows = dataset.rows(false);
        let follows = |i: usize| i + 1 < rows.len() && dataset.same_episode(rows[i], rows[i + 1]);
        Self {
            inputs: inputs(checkpoint, dataset, &rows),
            next: (0..rows.len())
                .map(|i| i + usize::from(follows(i)))
                .collect(),
        }
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.inputs.len()
    }

    /// Returns whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    /// Draws `count` rows and disturbs them.
    pub fn draw(&self, count: usize, how: Disturb, rng: &mut impl Rng) -> Vec<[f32; INPUT]> {
        let one = |_| {
            let row = rng.random_range(0..self.len());
            let mut input = self.inputs[row];
            if rng.random_bool(how.between) {
                let (next, way) = (&self.inputs[self.next[row]], rng.random::<f32>());
                for (x, to) in input.iter_mut().zip(next).take(OBS) {
                    *x += way * (to - *x);
                }
            }
            // An unused draw, which keeps the files in `tests/data` reproducible.
            let _: u64 = rng.random();
            let std = how.noise * (0.7 * rng.sample::<f64, _>(StandardNormal)).exp();
            for x in &mut input[..OBS] {
                let noise = std as f32 * rng.sample::<f32, _>(StandardNormal);
                *x = (*x + noise).clamp(-5.0, 5.0);
            }
            input
        };
        (0..count).map(one).collect()
    }
}
