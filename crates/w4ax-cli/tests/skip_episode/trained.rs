//! The networks of a step against their formulas in f64.

use half::bf16;
use w4ax::cpu::Cpu;
use w4ax::skip::{Adapter, Controller, SkipFile};

use crate::{checkpoint, deep, rollouts};
use w4ax::Width;
use w4ax_robot::compute::StepWidth;
use w4ax_robot::hidden::{EPS, Hidden};
use w4ax_robot::networks::{AdapterWeights, Networks};
use w4ax_robot::policy::Policy;
use w4ax_robot::setup::QUANTIZE;

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

fn rms(x: &[f32], factors: &[f32]) -> Vec<f64> {
    let squares = x.iter().map(|x| f64::from(*x).powi(2));
    let scale = (squares.sum::<f64>() / x.len() as f64 + f64::from(EPS)).sqrt();
    let factors = factors.iter().map(|factor| f64::from(*factor));
    x.iter()
        .zip(factors)
        .map(|(x, factor)| f64::from(*x) / scale * factor)
        .collect()
}

fn times(w: &[bf16], x: &[f64]) -> Vec<f64> {
    let row = |w: &[bf16]| w.iter().zip(x).map(|(w, x)| w.to_f64() * x).sum();
    w.chunks(x.len()).map(row).collect()
}

/// Returns what an adapter adds: `down(silu(up(rms(x) * norm)))`.
fn added(adapter: &Adapter, x: &[f32]) -> Vec<f64> {
    let inner = times(&adapter.up, &rms(x, &adapter.norm));
    let inner: Vec<f64> = inner.into_iter().map(silu).collect();
    times(&adapter.down, &inner)
}

/// Returns `sigmoid(out . silu(hidden(rms(x) * norm)) + bias)`.
fn probability(controller: &Controller, x: &[f32]) -> f64 {
    let hidden = times(&controller.hidden, &rms(x, &controller.norm));
    let terms = hidden.into_iter().zip(&controller.out);
    let logit: f64 = terms.map(|(x, out)| silu(x) * f64::from(*out)).sum();
    1.0 / (1.0 + (-logit - f64::from(controller.bias)).exp())
}

fn norm(x: impl IntoIterator<Item = f64>) -> f64 {
    x.into_iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Returns the distance of `after - before` to `added`, relative to its length.
fn off(before: &[f32], after: &[f32], added: &[f64]) -> f64 {
    let got = before
        .iter()
        .zip(after)
        .map(|(before, after)| f64::from(after - before));
    norm(got.zip(added).map(|(got, added)| got - added)) / norm(added.iter().copied())
}

/// Each layer's networks and the exit on the hidden states of recorded steps. BF16 weights agree
/// within rounding; packed weights are INT4.
#[test]
fn loaded_networks_match_plain_loops() {
    let (checkpoint, rollouts) = (checkpoint(), rollouts());
    let mut policy = Policy::unquantized(&checkpoint, Cpu::new().unwrap(), 1).unwrap();
    let shape = (policy.blocks(), policy.width());
    let width = StepWidth::Fixed(Width::A8);
    for name in ["skip", "skip_no_static", "skip_exit"] {
        let file = SkipFile::load(deep(&format!("{name}.safetensors"))).unwrap();
        for (weights, most, most_p) in [
            (AdapterWeights::Bf16, 0.01, 0.01),
            (AdapterWeights::Packed, 0.3, 0.2),
        ] {
            let compute = policy.compute();
            let mut networks =
                Networks::new(&file, name, shape, weights, QUANTIZE, &compute).unwrap();
            let (mut seen, mut skips) = (0, 0);
            for row in (0..rollouts.len()).step_by(100) {
                policy
                    .embed(std::slice::from_ref(&rollouts.input[row]))
                    .unwrap();
                for layer in 0..policy.blocks() {
                    let at = format!("{name}, {weights:?}, layer {layer}, row {row}");
                    let (engine, x) = policy.engine_and_hidden();
                    let before = x.values().to_vec();
                    let off_by = |y: &Hidden, added: &[f64]| off(&before, y.values(), added);
                    let mut y = x.clone();
                    if let Some(adapter) = file.adapters.get(&layer) {
                        networks.adapt(layer, engine, &mut y, width).unwrap();
                        let off = off_by(&y, &added(adapter, &before));
                        assert!(off <= most, "{at}: the adapter is off by {off}");
                        let wanted = probability(&file.controllers[&layer], &before);
                        let p = networks.skip_probability(layer, engine, x).unwrap();
                        let off = (f64::from(p) - wanted).abs();
                        assert!(off <= most_p, "{at}: {p} for {wanted}");
                        (seen, skips) = (seen + 1, skips + usize::from(p > 0.5));
                    }
                    if networks.exit() == Some(layer) {
                        networks.leave(engine, &mut y, width).unwrap();
                        let off = off_by(&y, &added(file.exit.as_ref().unwrap(), &before));
                        assert!(off <= most, "{at}: the exit is off by {off}");
                        (seen, skips) = (seen + 2, skips + 1);
                    }
                    policy.run_block(layer, width).unwrap();
                }
            }
            assert!(0 < skips && skips < seen, "{skips} of {seen}");
        }
    }
}
