//! The decoder layer against candle's own products of the dequantized weights, as a stack whose
//! layers are skipped, and with the weights of a file.

mod decoder;
mod given;
mod skip;
mod stack;

use candle_core::{DType, Device, Tensor};
use half::bf16;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use w4ax::{Grouping, MatRef, PackedWeight, Quantize};

const CPU: &Device = &Device::Cpu;

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

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

/// Returns a normally distributed number, by Box and Muller.
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let (u, v): (f32, f32) = (1.0 - rng.random::<f32>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}

/// Returns factors of rms, around 1.
fn norms(rng: &mut ChaCha8Rng, hidden: usize) -> Tensor {
    let scales: Vec<f32> = (0..hidden).map(|_| 1.0 + 0.1 * normal(rng)).collect();
    let scales = Tensor::from_vec(scales, hidden, CPU).expect("one scale per element");
    scales.to_dtype(DType::BF16).expect("a conversion")
}

fn bits(y: &Tensor) -> Vec<u16> {
    let y: Vec<bf16> = y.flatten_all().unwrap().to_vec1().unwrap();
    y.into_iter().map(bf16::to_bits).collect()
}
