//! A tiny stack in f64 with networks.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use half::bf16;
use rand::Rng;
use w4ax::skip::Layers;

use crate::rng;
use w4ax_robot::checkpoint::{Block, Checkpoint, Matrix};
use w4ax_robot::shapes::{INPUT, OBS};
use w4ax_robot::training::frozen::Frozen;
use w4ax_robot::training::losses::{self, Teacher, Weights};
use w4ax_robot::training::networks::{self, Networks, Sizes};
use w4ax_robot::training::optimizer::scalar;

/// A stack of `layers` blocks of width 6, with 7 tokens of 4 values.
pub fn checkpoint(layers: usize) -> Checkpoint {
    let mut rng = rng(1);
    let mut matrix = |n: usize, k: usize| Matrix {
        n,
        k,
        data: (0..n * k)
            .map(|_| bf16::from_f32(rng.random_range(-1.0..1.0)))
            .collect(),
    };
    let (d, h) = (6, 8);
    let block = |matrix: &mut dyn FnMut(usize, usize) -> Matrix| Block {
        norm: (0..d).map(|i| 0.8 + 0.1 * i as f32).collect(),
        gate: matrix(h, d),
        up: matrix(h, d),
        down: matrix(d, h),
    };
    Checkpoint {
        tasks: vec!["one".into()],
        obs_mean: [0.0; OBS],
        obs_std: [1.0; OBS],
        inp: matrix(d, INPUT),
        blocks: (0..layers).map(|_| block(&mut matrix)).collect(),
        norm: vec![1.1; d],
        head: matrix(7 * 4, d),
    }
}

/// The tiny stack in f64, networks that are not the identity, and the stack's results for 5 rows.
pub struct Bench {
    pub frozen: Frozen,
    pub layers: Layers,
    pub vars: BTreeMap<String, Var>,
    pub teacher: Teacher,
}

impl Bench {
    pub fn new(n: usize, static_layers: &[usize], exit: bool) -> Self {
        let frozen = Frozen::new(&checkpoint(n), DType::F64).unwrap();
        let layers = Layers::new(n, static_layers).unwrap();
        let sizes = Sizes {
            width: 6,
            adapter: 3,
            controller: 4,
        };
        let mut rng = rng(2);
        let vars = networks::initial(&layers, exit, sizes, DType::F64, &mut rng).unwrap();
        for (name, var) in &vars {
            // Adapters begin as the identity, where a part of the gradients is 0.
            let values: Vec<f64> = (0..var.elem_count())
                .map(|_| rng.random_range(-0.7..0.7) + f64::from(name.ends_with("norm") as u8))
                .collect();
            let values = Tensor::from_vec(values, var.dims(), &Device::Cpu).unwrap();
            var.set(&values).unwrap();
        }
        let input: Vec<f64> = (0..5 * INPUT)
            .map(|_| rng.random_range(-0.5..0.5))
            .collect();
        let input = Tensor::from_vec(input, (5, INPUT), &Device::Cpu).unwrap();
        let teacher = Teacher::of(&frozen, &input).unwrap();
        Self {
            frozen,
            layers,
            vars,
            teacher,
        }
    }

    pub fn stage_2(&self, drawn: &[usize], weights: Weights) -> Tensor {
        let networks = Networks::of(&self.vars);
        let (frozen, layers) = (&self.frozen, &self.layers);
        losses::stage_2(frozen, &networks, layers, &self.teacher, drawn, weights).unwrap()
    }

    /// Makes every controller return `sigmoid(logit)` for any state.
    pub fn decide(&self, logit: f64) {
        for (name, var) in &self.vars {
            if name.starts_with("controllers") {
                let to = if name.ends_with("bias") { logit } else { 0.0 };
                var.set(&var.ones_like().unwrap().affine(to, 0.0).unwrap())
                    .unwrap();
            }
        }
    }

    /// Compares each gradient of `loss` with its central difference. Returns how many of them are
    /// not 0.
    pub fn check(&self, concerned: impl Fn(&str) -> bool, loss: impl Fn() -> Tensor) -> usize {
        const STEP: f64 = 1e-5;
        let gradients = loss().backward().unwrap();
        let mut moved = 0;
        for (name, var) in self.vars.iter().filter(|(name, _)| concerned(name)) {
            let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f64>().unwrap();
            let values = flat(var);
            let got = match gradients.get(var) {
                Some(gradient) => flat(gradient),
                None => vec![0.0; values.len()],
            };
            for (i, &got) in got.iter().enumerate() {
                let at = |delta: f64| {
                    let mut values = values.clone();
                    values[i] += delta;
                    let values = Tensor::from_vec(values, var.dims(), &Device::Cpu).unwrap();
                    var.set(&values).unwrap();
                    scalar(&loss()).unwrap()
                };
                let expected = (at(STEP) - at(-STEP)) / (2.0 * STEP);
                at(0.0);
                assert!(
                    (got - expected).abs() < 1e-7 + 1e-5 * expected.abs(),
                    "{name}[{i}]: {got}, finite differences give {expected}"
                );
                moved += usize::from(expected.abs() > 1e-6);
            }
        }
        moved
    }
}

/// The paper's loss.
pub const PAPER: Weights = Weights {
    lambda: 0.01,
    whole: 0.0,
    distance: 0.0,
    risk: 0.0,
};
