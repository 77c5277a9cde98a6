//! The action error of a policy whose weights are quantized in some way. GPTQ is judged on other
//! episodes than those of its calibration.

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

    /// Returns the mean action error at each width of [`Width::ALL`], L2 against the unquantized
    /// policy, and the bytes of the packed weights.
    pub fn errors(&self, quantize: Quantize, rounding: Rounding) -> ([f64; 4], usize) {
        let (mut sums, mut bytes) = ([0f64; 4], 0);
        for half in &self.halves {
            let pack = |matrix: &Matrix, input: usize| -> Result<PackedWeight> {
                match rounding {
                    Rounding::Nearest => quantize.pack(matrix.view()),
                    Rounding::Gptq => {
                        Gptq::new(quantize).pack(matrix.view(), &half.hessians[input])
                    }
                }
            };
            let (cpu, rows) = (Cpu::new().unwrap(), half.judged.len());
            let mut policy = Policy::with_weights(&self.checkpoint, cpu, rows, pack).unwrap();
            bytes = policy.packed_bytes();
            for (sum, width) in sums.iter_mut().zip(Width::ALL) {
                let mut tokens = vec![Tokens::default(); rows];
                let done = policy.forward_rows(&half.inputs, width, &mut tokens);
                done.unwrap();
                for (tokens, &step) in tokens.iter().zip(&half.judged) {
                    let pairs = action(tokens)
                        .into_iter()
                        .zip(action(&self.rollouts.bf16[step]));
                    *sum += pairs.map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
                }
            }
        }
        (sums.map(|sum| sum / self.steps() as f64), bytes)
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
