//! `w4ax::candle` against the scalar reference.

mod linear;
use test_support as support;

use candle_core::{Device, Tensor};
use half::bf16;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use w4ax::{Grouping, MatRef, PackedWeight, Quantize};

const CPU: &Device = &Device::Cpu;

fn packed(rng: &mut ChaCha8Rng, (n, k): (usize, usize), grouping: Grouping) -> PackedWeight {
    let plain: Vec<f32> = (0..n * k)
        .map(|_| normal(rng) / (k as f32).sqrt())
        .collect();
    let matrix = MatRef::new(&plain, n, k).expect("a matrix");
    Quantize::new(grouping)
        .pack(matrix)
        .expect("finite weights")
}

fn random(rng: &mut ChaCha8Rng, dims: &[usize]) -> Vec<bf16> {
    (0..dims.iter().product())
        .map(|_| bf16::from_f32(normal(rng)))
        .collect()
}

/// Returns a normally distributed value by the Box-Muller transform.
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let (u, v): (f32, f32) = (1.0 - rng.random::<f32>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}

fn bits(y: &Tensor) -> Vec<u16> {
    let y: Vec<bf16> = y.flatten_all().unwrap().to_vec1().unwrap();
    y.into_iter().map(bf16::to_bits).collect()
}
