//! Normally distributed weights and activations.

use half::bf16;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use w4ax::{Grouping, MatRef, PackedWeight, Quantize};

/// Returns a packed weight `[n, k]` of normal values with variance 1/k.
///
/// # Panics
/// If n or k is 0.
pub fn normal_weight(
    rng: &mut ChaCha8Rng,
    (n, k): (usize, usize),
    grouping: Grouping,
) -> PackedWeight {
    let plain: Vec<f32> = (0..n * k)
        .map(|_| normal(rng) / (k as f32).sqrt())
        .collect();
    let matrix = MatRef::new(&plain, n, k).expect("a matrix");
    Quantize::new(grouping)
        .pack(matrix)
        .expect("finite weights")
}

/// Returns normal values in BF16, as many as the shape has.
pub fn normal_values(rng: &mut ChaCha8Rng, dims: &[usize]) -> Vec<bf16> {
    (0..dims.iter().product())
        .map(|_| bf16::from_f32(normal(rng)))
        .collect()
}

/// Returns a normally distributed value by the Box-Muller transform.
pub fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let (u, v): (f32, f32) = (1.0 - rng.random::<f32>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
}
