//! The action error of a policy whose weights are quantized in some way. GPTQ is judged on other
//! episodes than those of its calibration.

use std::cell::Cell;
use std::ops::Range;

use half::bf16;
use w4ax::cpu::Cpu;
use w4ax::weights::{Gptq, Hessian};
use w4ax::{MatRef, PackedWeight, Quantize, Result, Width};
use w4ax_robot::checkpoint::{Checkpoint, Matrix};
use w4ax_robot::policy::Policy;
use w4ax_robot::rollouts::{Rollouts, action};
use w4ax_robot::shapes::{INPUT, Tokens};

use crate::plain_policy::PlainPolicy;

/// How weights are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    Nearest,
    Gptq,
}

/// What a policy with quantized weights computes, against the unquantized policy.
pub struct Accuracy {
    /// The mean action error at each width of [`Width::ALL`], L2.
    pub errors: [f64; 4],
    /// The standard error of the last one, from the means of the episodes.
    pub deviation: f64,
    /// `|W - W'| / |W|` over all weights, of the half whose weights are calibrated last.
    pub weight_error: f64,
    /// Bytes of the packed weights.
    pub bytes: usize,
}

/// Half of the episodes of each task, judged with weights that are calibrated on the other half.
struct Half {
    /// Steps of the recording.
    judged: Vec<usize>,
    inputs: Vec<[f32; INPUT]>,
    /// By the index of the layer's input, of the other half.
    hessians: Vec<Hessian>,
}

/// A policy and its recording.
pub struct Judge {
    checkpoint: Checkpoint,
    rollouts: Rollouts,
    halves: [Half; 2],
}

impl Judge {
    /// Loads a policy and its recording.
    pub fn load(policy: &str, recorded: &str) -> Self {
        let checkpoint = Checkpoint::load(policy).unwrap();
        let rollouts = Rollouts::load(recorded).unwrap();
        let steps = halves(&rollouts);
        let plain = PlainPolicy::new(&checkpoint);
        let half = |at: usize| {
            let judged = steps[at].clone();
            Half {
                inputs: judged.iter().map(|&i| rollouts.input[i]).collect(),
                hessians: hessians(&plain, &rollouts, &steps[1 - at]),
                judged,
            }
        };
        let halves = [half(0), half(1)];
        Self {
            checkpoint,
            rollouts,
            halves,
        }
    }

    /// Returns the number of steps.
    pub fn steps(&self) -> usize {
        self.rollouts.len()
    }

    /// Returns the accuracy of the policy with weights that are quantized in a way.
    pub fn accuracy(&self, quantize: Quantize, rounding: Rounding) -> Accuracy {
        let mut steps = [const { Vec::new() }; 4];
        steps.fill(vec![0f64; self.steps()]);
        let (mut bytes, mut weight_error) = (0, 0.0);
        for half in &self.halves {
            let squares = Cell::new((0f64, 0f64));
            let pack = |matrix: &Matrix, input: usize| -> Result<PackedWeight> {
                let packed = match rounding {
                    Rounding::Nearest => quantize.pack(matrix.view()),
                    Rounding::Gptq => {
                        Gptq::new(quantize).pack(matrix.view(), &half.hessians[input])
                    }
                }?;
                let (mut errors, mut all) = squares.get();
                for (w, back) in matrix.data.iter().zip(packed.dequantize()) {
                    errors += (w.to_f64() - f64::from(back)).powi(2);
                    all += w.to_f64().powi(2);
                }
                squares.set((errors, all));
                Ok(packed)
            };
            let (cpu, rows) = (Cpu::new().unwrap(), half.judged.len());
            let mut policy = Policy::with_weights(&self.checkpoint, cpu, rows, pack).unwrap();
            bytes = policy.packed_bytes();
            weight_error = (squares.get().0 / squares.get().1).sqrt();
            for (errors, width) in steps.iter_mut().zip(Width::ALL) {
                let mut tokens = vec![Tokens::default(); rows];
                let done = policy.forward_rows(&half.inputs, width, &mut tokens);
                done.unwrap();
                for (tokens, &step) in tokens.iter().zip(&half.judged) {
                    let pairs = action(tokens)
                        .into_iter()
                        .zip(action(&self.rollouts.bf16[step]));
                    errors[step] = pairs.map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
                }
            }
        }
        let mean = |errors: &[f64]| errors.iter().sum::<f64>() / errors.len() as f64;
        let of_episode = |episode: &Range<usize>| mean(&steps[3][episode.clone()]);
        let episodes: Vec<f64> = self.rollouts.episodes().iter().map(of_episode).collect();
        let (all, count) = (mean(&episodes), episodes.len() as f64);
        let squares = episodes.iter().map(|e| (e - all).powi(2)).sum::<f64>();
        Accuracy {
            errors: steps.each_ref().map(|errors| mean(errors)),
            deviation: (squares / (count - 1.0) / count).sqrt(),
            weight_error,
            bytes,
        }
    }
}

/// Returns the steps of every second episode of each task, and of the others.
fn halves(rollouts: &Rollouts) -> [Vec<usize>; 2] {
    let mut halves = [Vec::new(), Vec::new()];
    let episodes = rollouts.episodes();
    for (i, steps) in episodes.iter().enumerate() {
        let task = rollouts.task[steps.start];
        let before = episodes[..i].iter();
        let at = before.filter(|e| rollouts.task[e.start] == task).count() % 2;
        halves[at].extend(steps.clone());
    }
    assert!(halves.iter().all(|half| !half.is_empty()));
    halves
}

/// Returns the Hessian of each layer's input over the steps.
fn hessians(plain: &PlainPolicy, rollouts: &Rollouts, steps: &[usize]) -> Vec<Hessian> {
    let mut seen: Vec<Vec<bf16>> = Vec::new();
    for &step in steps {
        plain.observed(&rollouts.input[step], |layer, x| {
            seen.resize_with(seen.len().max(layer + 1), Vec::new);
            seen[layer].extend(x.iter().map(|&x| bf16::from_f32(x)));
        });
    }
    let hessian = |x: &Vec<bf16>| {
        let k = x.len() / steps.len();
        let mut hessian = Hessian::new(k);
        hessian
            .add(MatRef::new(x, steps.len(), k).unwrap())
            .unwrap();
        hessian
    };
    seen.iter().map(hessian).collect()
}
