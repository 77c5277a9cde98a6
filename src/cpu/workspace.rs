//! The scratch memory of a GEMM.

use super::microkernel::{KC, NR};
use super::params::TokenParams;
use crate::weights::layout::TILE_K;
use crate::{Error, Result};
use bytemuck::allocation::try_zeroed_vec;
use half::bf16;

/// The scratch memory of one thread: an unpacked panel and the accumulators of a chunk of tokens.
/// It fits the L2 cache.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
pub(super) struct Scratch {
    /// `[word of k][NR]`, at most KC words.
    pub panel: [u32; KC * NR],
    /// The sums of a group in i32 or f32, `[token][NR]`.
    pub sums: [u32; Workspace::MAX_CHUNK * NR],
    /// The result, `[token][NR]`.
    pub acc: [f32; Workspace::MAX_CHUNK * NR],
}

/// Scratch memory for GEMMs on the CPU, made by [`Cpu::workspace`](super::Cpu::workspace). One call
/// uses it at a time.
pub struct Workspace {
    max_m: usize,
    max_k: usize,
    /// `[thread]`.
    pub(super) scratch: Vec<Scratch>,
    /// The packed activations of a chunk (`pack.rs`): at most one word for each token and padded k.
    pub(super) words: Vec<u32>,
    /// `[group][token of the chunk]`.
    pub(super) tokens: Vec<TokenParams>,
    /// A row of activations in the weight's order of k, `[thread][max_k]`.
    pub(super) rows: Vec<bf16>,
}

impl Workspace {
    /// The most tokens that a GEMM computes at a time. With more tokens it reads the weights more
    /// than once.
    pub const MAX_CHUNK: usize = 256;

    pub(super) fn new(max_m: usize, max_k: usize, threads: usize) -> Result<Self> {
        Self::allocate(max_m, max_k, threads).ok_or_else(|| Error::OutOfMemory {
            what: format!("a workspace of {max_m} tokens and {max_k} inputs"),
        })
    }

    fn allocate(max_m: usize, max_k: usize, threads: usize) -> Option<Self> {
        let chunk = max_m.min(Self::MAX_CHUNK);
        let words = chunk.checked_mul(max_k.checked_next_multiple_of(TILE_K)?)?;
        Some(Self {
            max_m,
            max_k,
            scratch: try_zeroed_vec(threads.max(1)).ok()?,
            words: try_zeroed_vec(words).ok()?,
            tokens: try_zeroed_vec(chunk.checked_mul(max_k.div_ceil(32))?).ok()?,
            rows: try_zeroed_vec(threads.max(1).checked_mul(max_k)?).ok()?,
        })
    }

    /// Returns the most tokens and inputs of a GEMM that uses this workspace.
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

    /// Returns the allocated size in bytes.
    pub fn bytes(&self) -> usize {
        size_of_val(self.scratch.as_slice())
            + size_of_val(self.words.as_slice())
            + size_of_val(self.tokens.as_slice())
            + size_of_val(self.rows.as_slice())
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
