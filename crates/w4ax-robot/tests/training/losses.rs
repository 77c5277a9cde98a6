//! The losses and their gradients, on a tiny stack in f64.

use candle_core::{Device, Tensor};
use w4ax::skip::Layers;

use crate::rng;
use crate::tiny::{Bench, PAPER};
use w4ax_robot::training::losses::{self, Weights};
use w4ax_robot::training::networks::Networks;
use w4ax_robot::training::optimizer::scalar;

#[test]
fn stage_1_gradients_match_finite_differences() {
    let bench = Bench::new(5, &[0, 3], false);
    let exit = Bench::new(4, &[0, 1, 2, 3], true);
    for (bench, from, adapters) in [(&bench, None, 3), (&exit, Some(2), 1)] {
        let loss = || {
            let networks = Networks::of(&bench.vars);
            losses::stage_1(&networks, &bench.layers, from, &bench.teacher).unwrap()
        };
        let moved = bench.check(|_| true, loss);
        // norm, up and down of each adapter; controllers have no gradient.
        assert!(moved > adapters * 36, "{moved}");
        assert!(moved <= adapters * (6 + 18 + 18), "{moved}");
    }
}

#[test]
fn stage_2_gradients_match_finite_differences() {
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
    // The end of a skip and its risk are targets: their gradient is left out.
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

/// With p = 0 the full stack's output remains, and every layer costs. With p = 1 the adapters'
/// output remains, and no layer costs.
#[test]
fn stage_2_matches_plain_formulas_at_p_0_and_1() {
    let bench = Bench::new(6, &[0, 3], false);
    bench.decide(-40.0);
    let loss = scalar(&bench.stage_2(&[1, 4], PAPER)).unwrap();
    // Two layers saved from 1 to 3, two from 4 to 6.
    assert!((loss - 0.01 * 4.0).abs() < 1e-12, "{loss}");
    // With a risk every controller costs 2 + 1 in each gap, and the drawn one of the second gap its
    // 2 after a skip.
    let risk = Weights { risk: 0.1, ..PAPER };
    let loss = scalar(&bench.stage_2(&[1, 4], risk)).unwrap();
    assert!((loss - 0.01 * 12.0).abs() < 1e-12, "{loss}");
    bench.decide(40.0);
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
    // A risky skip costs p^2 times the distance of actions, for each layer of the gap and from each
    // dynamic layer: 1, 2, 4 and 5.
    let risky = scalar(&bench.stage_2(&[1, 4], risk)).unwrap();
    let distance = losses::risk(&bench.teacher.logits, &bench.frozen.logits(&x).unwrap()).unwrap();
    let distance = scalar(&distance.mean_all().unwrap()).unwrap();
    assert!(
        (risky - task - 0.1 * 8.0 * distance).abs() < 1e-12,
        "{risky}"
    );
}

/// With p in between the two states are mixed by p, and the layers cost by 1 - p.
#[test]
fn stage_2_mixes_by_p() {
    let bench = Bench::new(6, &[0, 3], false);
    let (frozen, teacher) = (&bench.frozen, &bench.teacher);
    let networks = Networks::of(&bench.vars);
    let task = |x: &Tensor| scalar(&frozen.task_loss(x, &teacher.logits).unwrap()).unwrap();
    let risk = Weights { risk: 0.1, ..PAPER };
    for p in [0.5f64, 0.25] {
        bench.decide((p / (1.0 - p)).ln());
        // The skip from `layer` to `end`, by its share `p`.
        let mix = |x: &Tensor, layer: usize, end: usize, p: f64| {
            let adapted = networks.adapter(&format!("adapters.{layer}"), x).unwrap();
            let full = frozen.run(layer..end, x).unwrap();
            ((adapted * p).unwrap() + (full * (1.0 - p)).unwrap()).unwrap()
        };
        let through = |p: f64| {
            let x = mix(&teacher.states[1], 1, 3, p);
            let x = frozen.run(3..5, &x).unwrap();
            mix(&x, 5, 6, p)
        };
        let mixed = task(&through(p));
        // Two layers saved from 1 to 3, one from 5 to 6.
        let expected = mixed + 0.01 * (1.0 - p) * 3.0;
        let loss = scalar(&bench.stage_2(&[1, 5], PAPER)).unwrap();
        assert!((loss - expected).abs() < 1e-12, "{p}: {loss} {expected}");
        assert!((mixed - task(&through(p * p))).abs() > 1e-3);

        // With a risk every controller costs 2 + 1 in each gap, and the drawn one of the second gap
        // its 1 after a skip. The risk of whole skips costs p^2 for 2 layers of each gap from 2
        // layers each.
        let logits = frozen.logits(&through(1.0)).unwrap();
        let distance = losses::risk(&teacher.logits, &logits).unwrap();
        let distance = scalar(&distance.mean_all().unwrap()).unwrap();
        let expected = expected + 0.01 * (1.0 - p) * 7.0 + 0.1 * p * p * 8.0 * distance;
        let loss = scalar(&bench.stage_2(&[1, 5], risk)).unwrap();
        assert!((loss - expected).abs() < 1e-12, "{p}: {loss} {expected}");
    }
}

/// Distributions of two values for two tokens, by hand.
#[test]
fn risk_is_the_expected_distance_of_drawn_actions() {
    let logits = |p: f64| {
        let mut logits = [[0f64, -80.0]; 7];
        logits[6] = [p.ln(), (1.0 - p).ln()];
        Tensor::new(&[logits], &Device::Cpu).unwrap()
    };
    // -1 with probability p and 1 otherwise: the mean square distance is 4 times the probability
    // that they differ.
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
