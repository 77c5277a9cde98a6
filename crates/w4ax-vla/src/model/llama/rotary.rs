//! Rotary position embeddings.

use crate::Result;
use crate::ops;
use candle_core::{DType, Device, Tensor};

/// The cosines and sines of every position, `[max_tokens, head_dim / 2]` in F32.
///
/// The angle of pair j at position p is `p * theta^(-2j / head_dim)`. Pair j is the elements j and
/// `j + head_dim / 2` of a head. The frequencies are never rounded to BF16: at position 280 that
/// would turn the last pairs by whole radians.
#[derive(Debug)]
pub(super) struct Rotary {
    cos: Tensor,
    sin: Tensor,
}

/// The cosines and sines of the tokens of a pass, `[M, head_dim / 2]`.
pub(super) struct Rotation {
    cos: Tensor,
    sin: Tensor,
}

impl Rotary {
    pub fn new(theta: f64, head_dim: usize, max_tokens: usize, device: &Device) -> Result<Self> {
        let pairs = head_dim / 2;
        // torch computes the frequencies and the angles in F32.
        let frequencies: Vec<f32> = (0..pairs)
            .map(|j| 1.0 / (theta as f32).powf((2 * j) as f32 / head_dim as f32))
            .collect();
        let angles: Vec<f32> = (0..max_tokens)
            .flat_map(|p| frequencies.iter().map(move |f| p as f32 * f))
            .collect();
        let table = |f: fn(f32) -> f32| {
            let values: Vec<f32> = angles.iter().map(|a| f(*a)).collect();
            Tensor::from_vec(values, (max_tokens, pairs), device)
        };
        Ok(Self {
            cos: table(f32::cos)?,
            sin: table(f32::sin)?,
        })
    }

    /// Returns the rotation of `tokens` tokens from position `past` on.
    pub fn at(&self, past: usize, tokens: usize) -> Result<Rotation> {
        Ok(Rotation {
            cos: self.cos.narrow(0, past, tokens)?.contiguous()?,
            sin: self.sin.narrow(0, past, tokens)?.contiguous()?,
        })
    }

    pub fn bytes(&self) -> u64 {
        2 * (self.cos.elem_count() * DType::F32.size_in_bytes()) as u64
    }
}

impl Rotation {
    /// Rotates `x[heads, M, head_dim]`.
    pub fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        ops::rope(x, &self.cos, &self.sin)
    }
}
