//! The losses and their gradients, on a tiny stack in f64; the optimiser.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer as _, ParamsAdamW};
use half::bf16;
use rand::Rng;
use w4ax::skip::Layers;

use crate::rng;
use crate::robot::checkpoint::{Block, Checkpoint, Matrix};
use crate::robot::rollouts::{INPUT, OBS};
use crate::training::frozen::Frozen;
use crate::training::losses::{self, Teacher, Weights};
use crate::training::networks::{self, Networks, Sizes};
use crate::training::optimiser::{Optimiser, scalar};

/// A stack of `layers` blocks of width 6, with 7 tokens of 4 values.
fn tiny(layers: usize) -> Checkpoint {
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

/// The tiny stack in f64 with networks that do something, and what it gives for 5 rows.
struct Bench {
    frozen: Frozen,
    layers: Layers,
    vars: BTreeMap<String, Var>,
    teacher: Teacher,
}

impl Bench {
    fn new(n: usize, static_layers: &[usize], exit: bool) -> Self {
        let frozen = Frozen::new(&tiny(n), DType::F64).unwrap();
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

    fn stage_2(&self, drawn: &[usize], weights: Weights) -> Tensor {
        let networks = Networks::of(&self.vars);
        let (frozen, layers) = (&self.frozen, &self.layers);
        losses::stage_2(frozen, &networks, layers, &self.teacher, drawn, weights).unwrap()
    }

    /// Compares each gradient of `loss` with its central difference, and says of how many numbers it is not 0.
    fn check(&self, concerned: impl Fn(&str) -> bool, loss: impl Fn() -> Tensor) -> usize {
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

const PAPER: Weights = Weights {
    lambda: 0.01,
    whole: 0.0,
    distance: 0.0,
    risk: 0.0,
};

#[test]
fn gradients_of_stage_1_are_those_of_finite_differences() {
    let bench = Bench::new(5, &[0, 3], false);
    let exit = Bench::new(4, &[0, 1, 2, 3], true);
    for (bench, from, adapters) in [(&bench, None, 3), (&exit, Some(2), 1)] {
        let loss = || {
            let networks = Networks::of(&bench.vars);
            losses::stage_1(&networks, &bench.layers, from, &bench.teacher).unwrap()
        };
        let moved = bench.check(|_| true, loss);
        // norm, up, down of each; controllers have no part in it.
        assert!(moved > adapters * 36, "{moved}");
        assert!(moved <= adapters * (6 + 18 + 18), "{moved}");
    }
}

#[test]
fn gradients_of_stage_2_are_those_of_finite_differences() {
    let bench = Bench::new(6, &[0, 3], false);
    let networks = 2 * (42 + 6 + 24 + 4 + 1);
    for drawn in [[1, 4], [2, 5], [1, 5]] {
        let moved = bench.check(|_| true, || bench.stage_2(&drawn, PAPER));
        assert!(moved > networks * 8 / 10 && moved <= networks, "{moved}");
        let whole = Weights {
            whole: 0.7,
            lambda: 0.5,
            ..PAPER
        };
        bench.check(|_| true, || bench.stage_2(&drawn, whole));
    }
    // Where a skip leads to and what it risks are targets, not to be moved: their gradient is left out.
    let one_gap = Bench::new(4, &[0], false);
    let distance = Weights {
        distance: 0.3,
        ..PAPER
    };
    one_gap.check(|_| true, || one_gap.stage_2(&[2], distance));
    let risk = Weights { risk: 0.4, ..PAPER };
    let controllers = |name: &str| name.starts_with("controllers");
    bench.check(controllers, || bench.stage_2(&[2, 4], risk));
    let exit = Bench::new(4, &[0, 1, 2, 3], true);
    let moved = exit.check(
        |_| true,
        || {
            let networks = Networks::of(&exit.vars);
            losses::exit(&exit.frozen, &networks, 2, &exit.teacher, distance).unwrap()
        },
    );
    assert!(moved > 36, "{moved}");
}

/// With p at 0 the full stack's output remains and every layer is paid for; with p at 1 the adapters', and none is.
#[test]
fn stage_2_at_its_ends_is_what_can_be_written_down() {
    let bench = Bench::new(6, &[0, 3], false);
    let set = |logit: f64| {
        for (name, var) in &bench.vars {
            if name.starts_with("controllers") {
                let to = if name.ends_with("bias") { logit } else { 0.0 };
                var.set(&var.ones_like().unwrap().affine(to, 0.0).unwrap())
                    .unwrap();
            }
        }
    };
    set(-40.0);
    let loss = scalar(&bench.stage_2(&[1, 4], PAPER)).unwrap();
    // Two layers saved from 1 to 3, two from 4 to 6.
    assert!((loss - 0.01 * 4.0).abs() < 1e-12, "{loss}");
    // With a risk every controller pays: 2 + 1 in each gap; and the drawn one of the second gap for its 2 behind a skip.
    let risk = Weights { risk: 0.1, ..PAPER };
    let loss = scalar(&bench.stage_2(&[1, 4], risk)).unwrap();
    assert!((loss - 0.01 * 12.0).abs() < 1e-12, "{loss}");
    set(40.0);
    let skipped = scalar(&bench.stage_2(&[1, 4], PAPER)).unwrap();
    let networks = Networks::of(&bench.vars);
    let x = networks
        .adapter("adapters.1", &bench.teacher.states[1])
        .unwrap();
    let x = bench.frozen.block(3, &x).unwrap();
    let x = networks.adapter("adapters.4", &x).unwrap();
    let task = bench.frozen.task_loss(&x, &bench.teacher.logits).unwrap();
    let task = scalar(&task).unwrap();
    assert!(
        task > 0.01 && (skipped - task).abs() < 1e-12,
        "{skipped} {task}"
    );
    // A risky skip costs p^2 times the distance of actions, for each layer of the gap, from each dynamic layer: 1, 2, 4 and 5.
    let risky = scalar(&bench.stage_2(&[1, 4], risk)).unwrap();
    let distance = losses::risk(&bench.teacher.logits, &bench.frozen.logits(&x).unwrap()).unwrap();
    let distance = scalar(&distance.mean_all().unwrap()).unwrap();
    assert!(
        (risky - task - 0.1 * 8.0 * distance).abs() < 1e-12,
        "{risky}"
    );
}

/// Two tokens' distributions of two values each: by hand.
#[test]
fn risk_is_the_distance_of_actions_that_are_drawn() {
    let logits = |p: f64| {
        let mut logits = [[0f64, -80.0]; 7];
        logits[6] = [p.ln(), (1.0 - p).ln()];
        Tensor::new(&[logits], &Device::Cpu).unwrap()
    };
    // -1 with p and 1 else: the mean square distance is 4 times the probability of not being the same.
    let (a, b): (f64, f64) = (0.9, 0.6);
    let got = losses::risk(&logits(a), &logits(b)).unwrap();
    let expected = (4.0 * (a * (1.0 - b) + (1.0 - a) * b)).sqrt();
    assert!(
        (scalar(&got.squeeze(0).unwrap().squeeze(0).unwrap()).unwrap() - expected).abs() < 1e-12
    );
}

#[test]
fn layers_are_drawn_with_harmonic_weights() {
    let layers = Layers::new(16, &[0, 1, 7]).unwrap();
    let mut rng = rng(3);
    const DRAWS: usize = 40_000;
    let mut counts = [0usize; 16];
    for _ in 0..DRAWS {
        for layer in losses::draw(&layers, &mut rng) {
            counts[layer] += 1;
        }
    }
    for gap in layers.gaps() {
        let all: f64 = (1..=gap.end - gap.start).map(|k| 1.0 / k as f64).sum();
        for (k, &count) in (1..).zip(&counts[gap.start..gap.end]) {
            let p = 1.0 / (f64::from(k) * all);
            let expected = p * DRAWS as f64;
            let deviation = (expected * (1.0 - p)).sqrt();
            let off = (count as f64 - expected).abs();
            assert!(
                off < 4.0 * deviation,
                "{gap:?}, {k}: {count} for {expected}"
            );
        }
    }
    assert_eq!(counts[0] + counts[1] + counts[7], 0);
}

#[test]
fn the_optimiser_is_candles_adamw() {
    let value = Tensor::new(&[0.3f32, -1.2, 2.0], &Device::Cpu).unwrap();
    let (ours, theirs) = (
        Var::from_tensor(&value).unwrap(),
        Var::from_tensor(&value).unwrap(),
    );
    let mut optimiser = Optimiser::new([("a".to_owned(), ours.clone())].into()).unwrap();
    let params = ParamsAdamW {
        lr: 0.01,
        weight_decay: 0.1,
        ..Default::default()
    };
    let mut adamw = AdamW::new(vec![theirs.clone()], params).unwrap();
    for step in 0..5 {
        let loss = |var: &Var| {
            (var.sqr().unwrap() * (1.0 + f64::from(step)))
                .unwrap()
                .sum_all()
                .unwrap()
        };
        let gradients = loss(&ours).backward().unwrap();
        let gradients = [("a".to_owned(), gradients.get(&ours).unwrap().clone())].into();
        optimiser
            .step(&gradients, 0.01, 0.1, f64::INFINITY)
            .unwrap();
        adamw.backward_step(&loss(&theirs)).unwrap();
        assert_eq!(
            ours.to_vec1::<f32>().unwrap(),
            theirs.to_vec1::<f32>().unwrap()
        );
    }
    // Clipped: the direction of a first step is the gradient's sign, its moment tells its size.
    let mut clipped = Optimiser::new([("a".to_owned(), ours)].into()).unwrap();
    let gradient = Tensor::new(&[3f32, 0.0, 4.0], &Device::Cpu).unwrap();
    clipped
        .step(&[("a".to_owned(), gradient)].into(), 0.01, 0.0, 1.0)
        .unwrap();
    let moment = clipped.first["a"].to_vec1::<f32>().unwrap();
    assert!(
        moment
            .iter()
            .zip([0.06, 0.0, 0.08])
            .all(|(a, b)| (a - b).abs() < 1e-6),
        "{moment:?}"
    );
}
