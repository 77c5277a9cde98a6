//! LayerNorm and RMSNorm over the last dimension.

use super::simd::{sum, vectorized};
use super::value::{Value, through, to_f32, with_values};
use super::{by_type, expect_dims, generic, on_cpu};
use crate::Result;
use candle_core::{D, Tensor};
use rayon::prelude::*;
use w4ax::numerics::sum_of_squares;

/// Rows of one task.
const ROWS: usize = 8;

/// Returns `(x - mean) / sqrt(variance + eps) * weight + bias` of each row of `x[.., N]`.
///
/// Mean and variance (divided by N) are in F32. A weight and a bias of another type than x are
/// rounded to it, as in a model that is cast as a whole.
///
/// # Errors
/// If x is neither F32 nor BF16, or weight and bias are not `[N]`.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let n = x.dim(D::Minus1)?;
    expect_dims("weight of a LayerNorm", weight, &[n])?;
    expect_dims("bias of a LayerNorm", bias, &[n])?;
    if !on_cpu("input of a LayerNorm", x)? {
        return generic::layer_norm(x, weight, bias, eps);
    }
    by_type!(x, layer_norm_cpu(x, weight, bias, eps as f32))
}

fn layer_norm_cpu<T: Value>(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f32,
) -> Result<Tensor> {
    let weight = to_f32(&weight.to_dtype(T::DTYPE)?)?;
    let bias = to_f32(&bias.to_dtype(T::DTYPE)?)?;
    let n = weight.len();
    by_rows(x, n, |x: &[T], y: &mut [T]| {
        let mean = sum(x, |x| x) / n as f32;
        let variance = sum(x, |x| (x - mean) * (x - mean)) / n as f32;
        let scale = 1.0 / (variance + eps).sqrt();
        for (((y, x), weight), bias) in y.iter_mut().zip(x).zip(&weight).zip(&bias) {
            *y = T::round((x.widen() - mean) * scale * weight + bias);
        }
    })
}

/// Returns `x / sqrt(mean(x^2) + eps) * weight` of each row of `x[.., N]`.
///
/// In BF16, the quotient is rounded before the product with the weight, and the product is rounded
/// again. In F32 the result, rounded to BF16, is that of [`w4ax::RmsNorm`].
///
/// # Errors
/// If x is neither F32 nor BF16, or the weight is not `[N]`.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let n = x.dim(D::Minus1)?;
    expect_dims("weight of an RMSNorm", weight, &[n])?;
    if !on_cpu("input of an RMSNorm", x)? {
        return generic::rms_norm(x, weight, eps);
    }
    by_type!(x, rms_norm_cpu(x, weight, eps as f32))
}

fn rms_norm_cpu<T: Value>(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    let weight = to_f32(&weight.to_dtype(T::DTYPE)?)?;
    let n = weight.len();
    by_rows(x, n, |x: &[T], y: &mut [T]| {
        let scale = 1.0 / (sum_of_squares(x, T::widen) / n as f32 + eps).sqrt();
        for ((y, x), weight) in y.iter_mut().zip(x).zip(&weight) {
            *y = T::round(through::<T>(x.widen() * scale) * weight);
        }
    })
}

/// Returns a tensor of the shape of x, row by row.
fn by_rows<T: Value>(x: &Tensor, n: usize, f: impl Fn(&[T], &mut [T]) + Sync) -> Result<Tensor> {
    with_values(x, |values: &[T]| {
        let mut y = vec![T::zero(); values.len()];
        let chunk = (ROWS * n).max(1);
        y.par_chunks_mut(chunk)
            .zip(values.par_chunks(chunk))
            .for_each(|(y, x)| {
                vectorized(|| {
                    y.chunks_exact_mut(n)
                        .zip(x.chunks_exact(n))
                        .for_each(|(y, x)| f(x, y));
                });
            });
        Ok(Tensor::from_vec(y, x.shape(), x.device())?)
    })
}
