//! Random tensors, F64 references and comparisons.

use candle_core::{DType, Device, Tensor};
use half::bf16;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

pub const TYPES: [DType; 2] = [DType::F32, DType::BF16];

/// A tensor of values in -2..2, rounded to the type.
pub fn random(rng: &mut ChaCha8Rng, dims: &[usize], dtype: DType) -> Tensor {
    let values: Vec<f32> = (0..dims.iter().product())
        .map(|_| rng.random_range(-2.0..2.0))
        .collect();
    let x = Tensor::from_vec(values, dims, &Device::Cpu).unwrap();
    x.to_dtype(dtype).unwrap()
}

pub fn values(x: &Tensor) -> Vec<f64> {
    let x = x.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
    x.to_vec1::<f32>()
        .unwrap()
        .into_iter()
        .map(f64::from)
        .collect()
}

/// Rounds an F64 to BF16, or to nothing in F32.
pub fn round(x: f64, dtype: DType) -> f64 {
    match dtype {
        DType::BF16 => bf16::from_f32(x as f32).to_f64(),
        _ => x,
    }
}

/// Checks each value of a tensor to `ulps` units of 2^-24 (F32) or 2^-8 (BF16) of the largest
/// magnitude that entered its sum.
#[track_caller]
pub fn assert_close(got: &Tensor, expected: &[f64], magnitude: f64, dtype: DType, what: &str) {
    assert_eq!(got.dtype(), dtype, "{what}");
    let got = values(got);
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let tolerance = match dtype {
            DType::BF16 => expected.abs() * 2f64.powi(-8) + magnitude * 1e-6,
            _ => magnitude * 1e-6,
        };
        let error = (got - expected).abs();
        assert!(
            error <= tolerance,
            "{what}, value {i}: {got}, expected {expected}"
        );
    }
}

/// Checks that a function returns the same bits on 1, 2 and 3 threads, and returns them.
#[track_caller]
pub fn on_all_threads(f: impl Fn() -> Tensor + Sync) -> Tensor {
    let mut runs = [1, 2, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(&f)
    });
    let bits = |x: &Tensor| values(x).into_iter().map(f64::to_bits).collect::<Vec<_>>();
    for other in &runs[1..] {
        assert_eq!(
            bits(&runs[0]),
            bits(other),
            "depends on the number of threads"
        );
    }
    std::mem::replace(
        &mut runs[0],
        Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap(),
    )
}
