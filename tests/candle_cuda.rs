//! `w4ax::candle` on candle's CUDA tensors against the same layers on its CPU tensors. Needs a GPU.

use test_support as support;

use candle_core::{DType, Device, Result, Tensor};
use half::bf16;
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use support::rng;
use w4ax::candle::Backend;
use w4ax::step::StepFlag;
use w4ax::{Grouping, KOrder, MatRef, PackedWeight, Quantize, Width};

fn packed(rng: &mut ChaCha8Rng, (n, k): (usize, usize), grouping: Grouping) -> PackedWeight {
    let plain: Vec<f32> = (0..n * k).map(|_| rng.random_range(-0.1..0.1)).collect();
    let matrix = MatRef::new(&plain, n, k).unwrap();
    Quantize::new(grouping).pack(matrix).unwrap()
}

fn random(rng: &mut ChaCha8Rng, dims: &[usize]) -> Tensor {
    let values = (0..dims.iter().product()).map(|_| bf16::from_f32(rng.random_range(-2.0..2.0)));
    Tensor::from_vec(values.collect::<Vec<_>>(), dims, &Device::Cpu).unwrap()
}

fn values(y: &Tensor) -> Vec<f32> {
    let y = y.to_device(&Device::Cpu).unwrap();
    let y = y.to_dtype(DType::F32).unwrap();
    y.flatten_all().unwrap().to_vec1().unwrap()
}

/// A2, A4 and A8 have the bits of the CPU; BF16 sums in another order.
fn agree(cuda: &Tensor, cpu: &Tensor, width: Width) {
    assert!(cuda.device().is_cuda());
    assert_eq!((cuda.dims(), cuda.dtype()), (cpu.dims(), DType::BF16));
    let (cuda, cpu) = (values(cuda), values(cpu));
    if width != Width::Bf16 {
        assert_eq!(cuda, cpu, "{width}");
        return;
    }
    let largest = cpu.iter().fold(0.0, |largest: f32, y| largest.max(y.abs()));
    for (a, b) in cuda.iter().zip(&cpu) {
        assert!((a - b).abs() <= largest / 64.0, "{a} against {b}");
    }
}

/// Decode and prefill, a bias, rows that are parts of wider rows, a width by call and by step.
#[test]
#[ignore = "needs a CUDA GPU"]
fn matches_cpu() -> Result<()> {
    let gpu = Device::new_cuda(0)?;
    let rng = &mut rng(1);
    let (on_gpu, on_cpu) = (Backend::new(&gpu)?, Backend::new(&Device::Cpu)?);
    for ((n, k), grouping) in [
        ((96, 256), Grouping::G128),
        ((50, 104), Grouping::G32),
        ((256, 512), Grouping::PerChannel),
    ] {
        let weight = packed(rng, (n, k), grouping);
        let bias: Vec<f32> = (0..n).map(|i| i as f32 / 64.0).collect();
        let bias = Tensor::from_vec(bias, n, &Device::Cpu)?;
        let cpu = on_cpu.linear(weight.clone(), Some(&bias))?;
        let cuda = on_gpu.linear(weight.clone(), Some(&bias.to_device(&gpu)?))?;
        let flag = Arc::new(StepFlag::new());
        let stepped = on_gpu.linear(weight, Some(&bias.to_device(&gpu)?))?;
        let stepped = stepped.with_width(flag.clone());
        for width in Width::ALL {
            for m in [1, 3, 16, 130] {
                let x = random(rng, &[2, m, k]);
                let y = cpu.forward_at(&x, width)?;
                agree(&cuda.forward_at(&x.to_device(&gpu)?, width)?, &y, width);
                flag.record_by_host(0, width);
                let on_step = candle_core::Module::forward(&stepped, &x.to_device(&gpu)?)?;
                agree(&on_step, &y, width);
            }
            let wide = random(rng, &[6, k + 24]);
            let y = cpu.forward_at(&wide.narrow(1, 8, k)?, width)?;
            let part = wide.to_device(&gpu)?.narrow(1, 8, k)?;
            assert!(!part.is_contiguous());
            agree(&cuda.forward_at(&part, width)?, &y, width);
        }
    }
    Ok(())
}

/// Weights in another order of k: the device gathers x.
#[test]
#[ignore = "needs a CUDA GPU"]
fn order_of_k_matches_cpu() -> Result<()> {
    let gpu = Device::new_cuda(0)?;
    let rng = &mut rng(2);
    let (n, k) = (64, 384);
    let mut order: Vec<u32> = (0..k as u32).collect();
    order.shuffle(rng);
    let weight = packed(rng, (n, k), Grouping::G64);
    let weight = weight.with_order(KOrder::new(order).unwrap()).unwrap();
    let cpu = Backend::new(&Device::Cpu)?.linear(weight.clone(), None)?;
    let cuda = Backend::new(&gpu)?.linear(weight, None)?;
    for width in Width::ALL {
        for m in [1, 70] {
            let x = random(rng, &[m, k]);
            let y = cpu.forward_at(&x, width)?;
            agree(&cuda.forward_at(&x.to_device(&gpu)?, width)?, &y, width);
        }
    }
    Ok(())
}

/// A layer rejects tensors of another device.
#[test]
#[ignore = "needs a CUDA GPU"]
fn rejects_tensor_of_another_device() -> Result<()> {
    let gpu = Device::new_cuda(0)?;
    let rng = &mut rng(3);
    let weight = packed(rng, (32, 64), Grouping::G32);
    let cuda = Backend::new(&gpu)?.linear(weight, None)?;
    assert!(cuda.forward_at(&random(rng, &[1, 64]), Width::A8).is_err());
    Ok(())
}
