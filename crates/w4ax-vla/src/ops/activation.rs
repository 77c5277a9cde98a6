//! Activation functions.

use super::cast::{CHUNK, map};
use super::simd::{erf, vectorized};
use super::value::{Value, through, with_values};
use super::{by_type, expect_dims, generic, on_cpu};
use crate::Result;
use candle_core::Tensor;
use rayon::prelude::*;
use w4ax::numerics::silu;

/// Returns `x * (1 + erf(x / sqrt(2))) / 2`, the exact GELU.
///
/// # Errors
/// If x is neither F32 nor BF16.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    if !on_cpu("input of a GELU", x)? {
        return generic::gelu(x);
    }
    by_type!(x, gelu_cpu(x))
}

fn gelu_cpu<T: Value>(x: &Tensor) -> Result<Tensor> {
    map(x, |x: &[T], y: &mut [T]| {
        vectorized(|| {
            for (y, x) in y.iter_mut().zip(x) {
                let x = x.widen();
                let erf = erf(x * std::f32::consts::FRAC_1_SQRT_2);
                *y = T::round(0.5 * x * (1.0 + erf));
            }
        });
    })
}

/// Returns `max(x, 0)`.
///
/// # Errors
/// As candle's.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    Ok(x.relu()?)
}

/// Returns `silu(gate) * up` with the SiLU of [`w4ax::numerics`].
///
/// In BF16, SiLU is rounded before the product.
///
/// # Errors
/// If gate is neither F32 nor BF16, or `up` differs in type or shape.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    expect_dims("second input of SwiGLU", up, gate.dims())?;
    if !on_cpu("first input of SwiGLU", gate)? {
        return generic::swiglu(gate, up);
    }
    by_type!(gate, swiglu_cpu(gate, up))
}

fn swiglu_cpu<T: Value>(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    with_values(gate, |gates: &[T]| {
        with_values(up, |ups: &[T]| {
            let mut y = vec![T::zero(); gates.len()];
            y.par_chunks_mut(CHUNK)
                .zip(gates.par_chunks(CHUNK).zip(ups.par_chunks(CHUNK)))
                .for_each(|(y, (gate, up))| {
                    vectorized(|| {
                        for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
                            let silu = through::<T>(silu(gate.widen()));
                            *y = T::round(silu * up.widen());
                        }
                    });
                });
            Ok(Tensor::from_vec(y, gate.shape(), gate.device())?)
        })
    })
}
