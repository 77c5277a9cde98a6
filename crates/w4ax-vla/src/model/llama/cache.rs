//! The keys and values of the tokens that a decoder has seen.

use candle_core::{DType, Device, Result, Tensor};

/// Keys and values of one layer, allocated once for `[heads, max_tokens, head_dim]`.
///
/// Keys are stored after their rotary embedding.
#[derive(Debug)]
pub(super) struct LayerCache {
    k: Tensor, // [heads, max_tokens, head_dim]
    v: Tensor, // [heads, max_tokens, head_dim]
}

impl LayerCache {
    pub fn new(dims: (usize, usize, usize), dtype: DType, device: &Device) -> Result<Self> {
        Ok(Self {
            k: Tensor::zeros(dims, dtype, device)?,
            v: Tensor::zeros(dims, dtype, device)?,
        })
    }

    /// Stores keys and values `[heads, M, head_dim]` of the tokens from `past` on. Returns those of
    /// all tokens, `[heads, past + M, head_dim]`.
    pub fn store(&self, k: &Tensor, v: &Tensor, past: usize) -> Result<(Tensor, Tensor)> {
        let tokens = past + k.dim(1)?;
        let stored = |cache: &Tensor, new: &Tensor| {
            cache.slice_set(&new.to_dtype(cache.dtype())?.contiguous()?, 1, past)?;
            cache.narrow(1, 0, tokens)
        };
        Ok((stored(&self.k, k)?, stored(&self.v, v)?))
    }

    /// Returns the keys and values of the first `tokens` tokens, `[heads, tokens, head_dim]`.
    pub fn first(&self, tokens: usize) -> Result<(Tensor, Tensor)> {
        Ok((self.k.narrow(1, 0, tokens)?, self.v.narrow(1, 0, tokens)?))
    }

    pub fn bytes(&self) -> u64 {
        2 * (self.k.elem_count() * self.k.dtype().size_in_bytes()) as u64
    }
}
