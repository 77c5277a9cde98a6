//! The decoder layer against candle's own products of the dequantized weights, as a stack whose
//! layers are skipped, and with the weights of a file.

mod decoder;
mod given;
mod skip;
mod stack;

use candle_core::{DType, Device, Tensor};
use half::bf16;
use rand_chacha::ChaCha8Rng;
use test_support::normal;

const CPU: &Device = &Device::Cpu;

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
