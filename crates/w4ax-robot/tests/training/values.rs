//! Networks and losses against hand-computed values.

use candle_core::{DType, Tensor, Var};

use crate::tiny::{self, Bench, PAPER};
use w4ax_robot::training::losses::{self, Weights};
use w4ax_robot::training::networks::Networks;
use w4ax_robot::training::optimizer::scalar;

/// `[rows][columns]`.
type Rows = Vec<Vec<f64>>;

fn rows(x: &Tensor) -> Rows {
    x.to_vec2().unwrap()
}

fn near(got: f64, wanted: f64) {
    assert!((got - wanted).abs() < 1e-9, "{got}, by hand {wanted}");
}

/// Returns `x` over its root mean square, times the factors.
fn rms(x: &[f64], factors: &[f64]) -> Vec<f64> {
    let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    let pairs = x.iter().zip(factors);
    pairs.map(|(x, f)| f * x / (mean + 1e-5).sqrt()).collect()
}

fn times(matrix: &Rows, x: &[f64]) -> Vec<f64> {
    let dot = |row: &Vec<f64>| row.iter().zip(x).map(|(a, b)| a * b).sum();
    matrix.iter().map(dot).collect()
}

fn silu(x: Vec<f64>) -> Vec<f64> {
    x.into_iter().map(|x| x / (1.0 + (-x).exp())).collect()
}

impl Bench {
    fn vector(&self, name: &str) -> Vec<f64> {
        self.vars[name].to_vec1().unwrap()
    }

    /// Returns `x + down(silu(up(rms(x) * norm)))`.
    fn adapted(&self, name: &str, x: &Tensor) -> Rows {
        let matrix = |part: &str| rows(&self.vars[&format!("{name}.{part}.weight")]);
        let (up, down) = (matrix("up"), matrix("down"));
        let norm = self.vector(&format!("{name}.norm"));
        let one = |x: Vec<f64>| {
            let change = times(&down, &silu(times(&up, &rms(&x, &norm))));
            x.iter().zip(change).map(|(x, change)| x + change).collect()
        };
        rows(x).into_iter().map(one).collect()
    }
}

/// Returns `||got - wanted|| / ||wanted||`, over all rows.
fn far(got: &Rows, wanted: &Tensor) -> f64 {
    let wanted = rows(wanted);
    let pairs = || got.iter().flatten().zip(wanted.iter().flatten());
    let off: f64 = pairs().map(|(a, b)| (a - b) * (a - b)).sum();
    let all: f64 = pairs().map(|(_, b)| b * b).sum();
    (off / all).sqrt()
}

fn zero(var: &Var) {
    var.set(&var.zeros_like().unwrap()).unwrap();
}

/// Identity adapters miss what the layers do. Known adapters miss the rest of it.
#[test]
fn stage_1_is_the_mean_of_relative_distances() {
    let gaps = Bench::new(5, &[0, 3], false);
    let exit = Bench::new(4, &[0, 1, 2, 3], true);
    let of_gaps = [
        ("adapters.1", 1, 3),
        ("adapters.2", 2, 3),
        ("adapters.4", 4, 5),
    ];
    for (bench, leaves, skips) in [
        (&gaps, None, &of_gaps[..]),
        (&exit, Some(2), &[("exit", 2, 4)]),
    ] {
        let states = &bench.teacher.states;
        let mean = |of: &dyn Fn(&str, usize, usize) -> f64| {
            let all = skips.iter().map(|&(name, from, to)| of(name, from, to));
            all.sum::<f64>() / skips.len() as f64
        };
        let loss = || {
            let networks = Networks::of(&bench.vars);
            let loss = losses::stage_1(&networks, &bench.layers, leaves, &bench.teacher);
            scalar(&loss.unwrap()).unwrap()
        };
        let known = mean(&|name, from, to| far(&bench.adapted(name, &states[from]), &states[to]));
        near(loss(), known);
        for (name, _, _) in skips {
            zero(&bench.vars[&format!("{name}.down.weight")]);
        }
        let nothing = mean(&|_, from, to| far(&rows(&states[from]), &states[to]));
        near(loss(), nothing);
        assert!((known - nothing).abs() > 1e-4, "{known} {nothing}");
    }
}

/// The divergence of the token distributions, plus the weighted distance.
#[test]
fn exit_loss_is_tokens_plus_distance() {
    let bench = Bench::new(4, &[0, 1, 2, 3], true);
    let (policy, states) = (tiny::checkpoint(4), &bench.teacher.states);
    let head: Vec<f64> = policy.head.data.iter().map(|x| x.to_f64()).collect();
    let head: Rows = head.chunks(policy.head.k).map(<[f64]>::to_vec).collect();
    let norm: Vec<f64> = policy.norm.iter().copied().map(f64::from).collect();
    let left = bench.adapted("exit", &states[2]);
    // By row and token: the logarithms of the probabilities of 4 values.
    let logs = |x: &Rows| -> Rows {
        let logits = x.iter().flat_map(|x| times(&head, &rms(x, &norm)));
        let logits: Vec<f64> = logits.collect();
        let log = |logits: &[f64]| {
            let all = logits.iter().map(|x| x.exp()).sum::<f64>().ln();
            logits.iter().map(|x| x - all).collect()
        };
        logits.chunks(4).map(log).collect()
    };
    let (wanted, got) = (logs(&rows(&states[4])), logs(&left));
    assert_eq!(got.len(), 5 * 7);
    let pairs = wanted.iter().flatten().zip(got.iter().flatten());
    let task = pairs.map(|(w, g)| w.exp() * (w - g)).sum::<f64>() / got.len() as f64;
    let distance = far(&left, &states[4]);
    assert!(task > 0.01 && distance > 0.01, "{task} {distance}");
    for weight in [0.0, 0.3, 1.0] {
        let weights = Weights {
            distance: weight,
            ..PAPER
        };
        let networks = Networks::of(&bench.vars);
        let loss = losses::exit(&bench.frozen, &networks, 2, &bench.teacher, weights);
        near(scalar(&loss.unwrap()).unwrap(), task + weight * distance);
    }
}

#[test]
fn controller_matches_its_formula() {
    let bench = Bench::new(5, &[0, 3], false);
    let networks = Networks::of(&bench.vars);
    for layer in [1, 2, 4] {
        let name = |part: &str| format!("controllers.{layer}.{part}");
        let (norm, out) = (
            bench.vector(&name("norm")),
            bench.vector(&name("out.weight")),
        );
        let hidden = rows(&bench.vars[&name("hidden.weight")]);
        let bias = bench.vector(&name("bias"))[0];
        let x = &bench.teacher.states[layer];
        let got = networks.controller(layer, x).unwrap();
        assert_eq!((got.dims(), got.dtype()), (&[5, 1][..], DType::F64));
        for (got, x) in rows(&got).iter().zip(rows(x)) {
            let inner = silu(times(&hidden, &rms(&x, &norm)));
            let terms = inner.iter().zip(&out).map(|(x, out)| x * out);
            near(got[0], 1.0 / (1.0 + (-terms.sum::<f64>() - bias).exp()));
        }
    }
}
