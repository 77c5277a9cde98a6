//! `w4ax::candle` against the scalar reference.

mod linear;

use candle_core::{Device, Tensor};
use half::bf16;

const CPU: &Device = &Device::Cpu;

fn bits(y: &Tensor) -> Vec<u16> {
    let y: Vec<bf16> = y.flatten_all().unwrap().to_vec1().unwrap();
    y.into_iter().map(bf16::to_bits).collect()
}
