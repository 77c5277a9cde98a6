//! Conversion between F32 and BF16.

use super::on_cpu;
use super::simd::vectorized;
use super::value::{Value, with_values};
use crate::Result;
use candle_core::{DType, Tensor};
use half::bf16;
use rayon::prelude::*;

/// Elements of a chunk of an elementwise operation.
pub(super) const CHUNK: usize = 1 << 14;

/// Returns x in another type, F32 or BF16. Rounds to nearest even.
///
/// # Errors
/// If x is neither F32 nor BF16.
pub fn cast(x: &Tensor, dtype: DType) -> Result<Tensor> {
    if x.dtype() == dtype {
        return Ok(x.clone());
    }
    if !on_cpu("input of a conversion", x)? {
        return Ok(x.to_dtype(dtype)?);
    }
    match dtype {
        DType::F32 => map(x, |wide: &[bf16], y: &mut [f32]| {
            vectorized(|| y.iter_mut().zip(wide).for_each(|(y, x)| *y = x.widen()));
        }),
        DType::BF16 => map(x, |wide: &[f32], y: &mut [bf16]| {
            vectorized(|| {
                y.iter_mut()
                    .zip(wide)
                    .for_each(|(y, x)| *y = bf16::round(*x))
            });
        }),
        _ => Ok(x.to_dtype(dtype)?),
    }
}

/// Returns a tensor of the shape of x, chunk by chunk.
pub(super) fn map<T: Value, U: Value>(
    x: &Tensor,
    f: impl Fn(&[T], &mut [U]) + Send + Sync,
) -> Result<Tensor> {
    with_values(x, |values: &[T]| {
        let mut y = vec![U::zero(); values.len()];
        y.par_chunks_mut(CHUNK)
            .zip(values.par_chunks(CHUNK))
            .for_each(|(y, x)| f(x, y));
        Ok(Tensor::from_vec(y, x.shape(), x.device())?)
    })
}

/// Widens values on the threads of rayon's pool.
pub(super) fn widen<T: Value>(x: &[T], y: &mut [f32]) {
    y.par_chunks_mut(CHUNK)
        .zip(x.par_chunks(CHUNK))
        .for_each(|(y, x)| widen_here(x, y));
}

/// Widens values on the calling thread.
pub(super) fn widen_here<T: Value>(x: &[T], y: &mut [f32]) {
    vectorized(|| y.iter_mut().zip(x).for_each(|(y, x)| *y = x.widen()));
}
