//! The scratch memory of a call, made once.

use super::microkernel::Token;
use crate::weights::layout::TILE_K;
use crate::{Error, Result};
use bytemuck::allocation::try_zeroed_vec;
use half::bf16;

/// Rows of W that are worked off together: two tiles.
pub(super) const BLOCK_N: usize = 32;
/// k of a panel.
pub(super) const PANEL_K: usize = 128;

/// What one thread works in: an unpacked panel and the accumulators of a chunk of tokens, together in the L2 cache.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub(super) struct Scratch {
    /// `[word of k][BLOCK_N]`: at most `PANEL_K` words.
    pub panel: [u32; PANEL_K * BLOCK_N],
    /// `[Workspace::MAX_CHUNK][BLOCK_N]`: a group's sums, i32 or f32.
    pub sums: [u32; Workspace::MAX_CHUNK * BLOCK_N],
    /// `[Workspace::MAX_CHUNK][BLOCK_N]`: the result.
    pub acc: [f32; Workspace::MAX_CHUNK * BLOCK_N],
}

/// Scratch memory for GEMMs on the CPU, from [`super::Cpu::workspace`]. One call uses it at a time.
pub struct Workspace {
    max_m: usize,
    max_k: usize,
    /// One for each thread.
    pub(super) scratch: Vec<Scratch>,
    /// The activations of a chunk as [`super::pack`] lays them: at most a word for each token and padded k.
    pub(super) words: Vec<u32>,
    /// `[group][token of the chunk]`.
    pub(super) tokens: Vec<Token>,
    /// The activations of a chunk in the weight's order of k, `[token][k]`. The operating system commits these pages only
    /// when a weight with an order is used.
    pub(super) gathered: Vec<bf16>,
}

impl Workspace {
    /// Tokens that are worked off at a time; a call with more goes through the weights more than once.
    pub const MAX_CHUNK: usize = 256;

    pub(crate) fn new(max_m: usize, max_k: usize, threads: usize) -> Result<Self> {
        Self::made(max_m, max_k, threads).ok_or_else(|| Error::OutOfMemory {
            what: format!("a workspace of {max_m} tokens and {max_k} inputs"),
        })
    }

    fn made(max_m: usize, max_k: usize, threads: usize) -> Option<Self> {
        let chunk = max_m.min(Self::MAX_CHUNK);
        let words = chunk.checked_mul(max_k.checked_next_multiple_of(TILE_K)?)?;
        Some(Self {
            max_m,
            max_k,
            scratch: try_zeroed_vec(threads.max(1)).ok()?,
            words: try_zeroed_vec(words).ok()?,
            tokens: try_zeroed_vec(chunk.checked_mul(max_k.div_ceil(32))?).ok()?,
            gathered: try_zeroed_vec(chunk.checked_mul(max_k)?).ok()?,
        })
    }

    /// The most tokens and inputs of a call that it has room for.
    pub fn sizes(&self) -> (usize, usize) {
        (self.max_m, self.max_k)
    }

    pub(super) fn check(&self, m: usize, k: usize) -> Result<()> {
        for (what, needed, got) in [
            ("workspace tokens", m, self.max_m),
            ("workspace inputs", k, self.max_k),
        ] {
            if needed > got {
                return Err(Error::Buffer { what, needed, got });
            }
        }
        Ok(())
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        size_of_val(self.scratch.as_slice())
            + size_of_val(self.words.as_slice())
            + size_of_val(self.tokens.as_slice())
            + size_of_val(self.gathered.as_slice())
    }
}

impl std::fmt::Debug for Workspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workspace")
            .field("max_m", &self.max_m)
            .field("max_k", &self.max_k)
            .field("threads", &self.scratch.len())
            .field("bytes", &self.bytes())
            .finish()
    }
}
