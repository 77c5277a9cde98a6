//! A quantized linear layer on candle's tensors, at a fixed width and at the width of the running
//! step.
//!
//! ```sh
//! cargo run --release --features candle --example 4_candle_linear
//! ```

use candle_core::{DType, Device, Module, Tensor};
use std::sync::Arc;
use w4ax::candle::Backend;
use w4ax::step::StepFlag;
use w4ax::{Grouping, MatRef, Quantize, Width};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (n, k, tokens) = (96, 256, 290);
    let device = Device::Cpu;
    let plain = Tensor::randn(0f32, 0.05, (n, k), &device)?; // [n, k]
    let values = plain.flatten_all()?.to_vec1::<f32>()?;

    // 1. Quantize candle's weight and build the layer.
    let weight = Quantize::new(Grouping::G64).pack(MatRef::new(&values, n, k)?)?;
    let flag = Arc::new(StepFlag::new()); // one for all layers of a model
    let layer = Backend::new(&device)?
        .linear(weight, None)?
        .with_width(flag.clone());

    // 2. Each forward pass runs at the width of the step. The plain product is the yardstick.
    let x = Tensor::randn(0f32, 1.0, (tokens, k), &device)?.to_dtype(DType::BF16)?; // [tokens, k]
    let exact = x.to_dtype(DType::F32)?.matmul(&plain.t()?)?; // [tokens, n]
    let norm = exact.sqr()?.sum_all()?.to_scalar::<f32>()?.sqrt();
    for (step, width) in Width::ALL.into_iter().enumerate() {
        flag.record_by_host(step as u32, width); // in place of a dispatcher and a latch
        let y = layer.forward(&x)?.to_dtype(DType::F32)?; // [tokens, n]
        let error = (y - &exact)?.sqr()?.sum_all()?.to_scalar::<f32>()?.sqrt();
        println!("{width:>5}: relative error {:.4}", error / norm);
    }
    Ok(())
}
