//! The operations of [`ops`](super) as candle's own, for devices without a path of this crate.
//!
//! Formulas, types and roundings are those of [`ops`](super); sums have candle's order.

use super::Mask;
use crate::Result;
use candle_core::{D, DType, Tensor};

/// As [`Linear::forward`](super::Linear::forward), with weight and bias in the type of x.
///
/// # Errors
/// As candle's.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (n, k) = weight.dims2()?;
    let mut dims = x.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = n;
    }
    let x = x.reshape(((), k))?; // [M, K]
    let y = x.matmul(&weight.to_dtype(x.dtype())?.t()?)?; // [M, N]
    let y = match bias {
        Some(bias) => y.broadcast_add(&bias.to_dtype(x.dtype())?)?,
        None => y,
    };
    Ok(y.reshape(dims)?)
}

/// Returns `[N]` in F32, rounded to the type of x.
fn parameter(parameter: &Tensor, x: &Tensor) -> Result<Tensor> {
    Ok(parameter.to_dtype(x.dtype())?.to_dtype(DType::F32)?)
}

/// As [`layer_norm`](super::layer_norm).
///
/// # Errors
/// As candle's.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let wide = x.to_dtype(DType::F32)?;
    let centered = wide.broadcast_sub(&wide.mean_keepdim(D::Minus1)?)?;
    let variance = centered.sqr()?.mean_keepdim(D::Minus1)?;
    let y = centered
        .broadcast_div(&(variance + eps)?.sqrt()?)?
        .broadcast_mul(&parameter(weight, x)?)?
        .broadcast_add(&parameter(bias, x)?)?;
    Ok(y.to_dtype(x.dtype())?)
}

/// As [`rms_norm`](super::rms_norm).
///
/// # Errors
/// As candle's.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let wide = x.to_dtype(DType::F32)?;
    let mean = wide.sqr()?.mean_keepdim(D::Minus1)?;
    let y = wide.broadcast_div(&(mean + eps)?.sqrt()?)?;
    let y = y.to_dtype(x.dtype())?;
    Ok(y.broadcast_mul(&weight.to_dtype(x.dtype())?)?)
}

/// As [`gelu`](super::gelu).
///
/// # Errors
/// As candle's.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    Ok(x.to_dtype(DType::F32)?.gelu_erf()?.to_dtype(x.dtype())?)
}

/// As [`swiglu`](super::swiglu).
///
/// # Errors
/// As candle's.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    let silu = gate.to_dtype(DType::F32)?.silu()?.to_dtype(gate.dtype())?;
    Ok((silu * up)?)
}

/// As [`rope`](super::rope).
///
/// # Errors
/// As candle's.
pub fn rope(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let half = x.dim(D::Minus1)? / 2;
    let (cos, sin) = (cos.to_dtype(x.dtype())?, sin.to_dtype(x.dtype())?);
    let cos = Tensor::cat(&[&cos, &cos], D::Minus1)?; // [M, d]
    let sin = Tensor::cat(&[&sin, &sin], D::Minus1)?; // [M, d]
    let (x0, x1) = (
        x.narrow(D::Minus1, 0, half)?,
        x.narrow(D::Minus1, half, half)?,
    );
    let rotated = Tensor::cat(&[&x1.neg()?, &x0], D::Minus1)?; // [H, M, d]
    Ok((x.broadcast_mul(&cos)? + rotated.broadcast_mul(&sin)?)?)
}

/// As [`attention`](super::attention), with the scores of all rows in memory.
///
/// # Errors
/// As candle's.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, mask: Mask) -> Result<Tensor> {
    let (h, m, d) = q.dims3()?;
    let t = k.dim(1)?;
    let wide = |x: &Tensor| x.to_dtype(DType::F32)?.contiguous();
    let q_wide = (wide(q)? * (d as f64).powf(-0.5))?; // [H, M, d]
    let scores = q_wide.matmul(&wide(k)?.t()?)?; // [H, M, T]
    let scores = match mask {
        Mask::None => scores,
        Mask::Causal { .. } => {
            let hidden = |row| {
                let visible = mask.visible(row, t);
                (0..t).map(move |key| {
                    if key < visible {
                        0.0
                    } else {
                        f32::NEG_INFINITY
                    }
                })
            };
            let bias: Vec<f32> = (0..m).flat_map(hidden).collect(); // [M, T]
            scores.broadcast_add(&Tensor::from_vec(bias, (m, t), q.device())?)?
        }
    };
    let weights = candle_nn::ops::softmax_last_dim(&scores)?;
    let y = weights.matmul(&wide(v)?)?; // [H, M, d]
    Ok(y.transpose(0, 1)?
        .reshape((m, h * d))?
        .to_dtype(q.dtype())?)
}
