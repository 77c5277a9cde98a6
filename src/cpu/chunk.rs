//! Packing of a chunk of tokens over the threads of a pool.

use super::activations::ActivationLayout;
use super::dispatch::{Isa, enter};
use super::microkernel::{Arch, Task};
use super::pack::{self, PackLayout, WordFormat};
use super::params::TokenParams;
use super::partition::{Disjoint, WorkQueue, run_pieces};
use super::pool::Pool;
use super::rows::Rows;
use crate::Width;
use half::bf16;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Activations to pack below which another thread costs more than it saves.
const MIN_PACKED_PER_THREAD: usize = 1 << 15;

/// How the tokens of a call are packed.
pub(super) struct Packing<'a> {
    pub isa: Isa,
    pub pool: &'a dyn Pool,
    pub layout: ActivationLayout,
    pub width: Width,
    pub k: usize,
}

/// The memory that a chunk is packed into.
pub(super) struct PackBuffers<'a> {
    /// At least [`Packed::words`].
    pub words: &'a mut [u32],
    /// At least [`Packed::params`].
    pub tokens: &'a mut [TokenParams],
    /// One row for each thread, `[thread][at least K]`.
    pub rows: &'a mut [bf16],
    /// Elements from one row of `rows` to the next.
    pub row_stride: usize,
}

/// The packed activations of a chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed {
    /// The instruction set that multiplies them.
    pub isa: Isa,
    pub layout: PackLayout,
    /// Whether they are packed for the GEMV path.
    pub gemv: bool,
    /// The groups of the parameters of a token.
    groups: usize,
}

impl Packed {
    /// The number of words.
    pub fn words(&self) -> usize {
        match self.gemv {
            true => pack::gemv_words(self.layout.tokens, self.layout.k_padded()),
            false => self.layout.tokens * self.layout.k_padded() / self.layout.format.k_per_word(),
        }
    }

    /// The number of parameters.
    pub fn params(&self) -> usize {
        self.layout.tokens * self.groups
    }
}

impl Packing<'_> {
    /// Returns how a chunk of `tokens` tokens is packed, unless its format cannot hold a token
    /// exactly.
    pub fn chunk(&self, tokens: usize) -> Packed {
        let format = match self.width.qmax() {
            Some(qmax) => WordFormat::Codes { qmax },
            None if self.isa == Isa::Avx512Bf16 => WordFormat::Bf16Pairs,
            None => WordFormat::F32,
        };
        self.packed(self.isa, format, tokens)
    }

    fn packed(&self, isa: Isa, format: WordFormat, tokens: usize) -> Packed {
        let gemv = matches!(format, WordFormat::Codes { .. }) && tokens <= isa.max_gemv_tokens();
        let grouping = match gemv {
            true => self.layout.weight_grouping(),
            false => self.layout.grouping(),
        };
        Packed {
            isa,
            layout: PackLayout::new(format, self.layout.grouping(), self.k, tokens, isa.mr()),
            gemv,
            groups: grouping.groups(self.k),
        }
    }

    /// Packs the tokens `tokens` of `rows`.
    pub fn pack<R: Rows>(
        &self,
        rows: &R,
        tokens: &Range<usize>,
        mut buffers: PackBuffers<'_>,
    ) -> Packed {
        let packed = self.chunk(tokens.len());
        if let (true, WordFormat::Codes { qmax }) = (packed.gemv, packed.layout.format) {
            let task = PackGemv {
                rows,
                layout: self.layout,
                qmax,
                from: tokens.start,
                words: &mut buffers.words[..packed.words()],
                tokens: &mut buffers.tokens[..packed.params()],
                buffer: &mut buffers.rows[..self.k],
                count: tokens.len(),
            };
            enter(packed.isa, task);
            return packed;
        }
        if self.pack_micro_panels(&packed, rows, tokens, &mut buffers) {
            return packed;
        }
        // A token has values whose BF16 products would not be exact. The chunk is computed in f32,
        // with the same bits.
        let packed = self.packed(Isa::Avx512Vnni, WordFormat::F32, tokens.len());
        self.pack_micro_panels(&packed, rows, tokens, &mut buffers);
        packed
    }

    /// Packs all micro-panels of a chunk. Returns false if the format cannot hold a token exactly.
    fn pack_micro_panels<R: Rows>(
        &self,
        packed: &Packed,
        rows: &R,
        chunk: &Range<usize>,
        buffers: &mut PackBuffers<'_>,
    ) -> bool {
        let layout = &packed.layout;
        let exact = AtomicBool::new(true);
        let (k, stride) = (self.k, buffers.row_stride);
        let words = &Disjoint::new(buffers.words);
        let tokens = &Disjoint::new(buffers.tokens);
        let threads = self.pool.threads().min(buffers.rows.len() / stride);
        let row_buffers = &Disjoint::new(buffers.rows);
        let worth = layout.tokens * k / MIN_PACKED_PER_THREAD;
        let queue = WorkQueue::new(layout.micro_panels, threads, worth);
        run_pieces(self.pool, queue.pieces, &|piece| {
            // SAFETY: no two pieces have the same number, and there are at most as many as rows.
            let buffer = unsafe { row_buffers.slice(piece * stride..piece * stride + k) };
            queue.each(|micro_panels| {
                for micro_panel in micro_panels {
                    let task = PackMicroPanel {
                        rows,
                        layout,
                        micro_panel,
                        from: chunk.start,
                        words,
                        tokens,
                        buffer: &mut *buffer,
                    };
                    if !enter(packed.isa, task) {
                        exact.store(false, Ordering::Relaxed);
                    }
                }
            });
        });
        exact.into_inner()
    }
}

struct PackGemv<'a, R> {
    rows: &'a R,
    layout: ActivationLayout,
    qmax: u8,
    /// The first token of the chunk.
    from: usize,
    /// Tokens of the chunk.
    count: usize,
    /// `[tile][token][GEMV_WORDS]`.
    words: &'a mut [u32],
    /// `[group][token]`.
    tokens: &'a mut [TokenParams],
    /// `[k]`.
    buffer: &'a mut [bf16],
}

impl<R: Rows> Task for PackGemv<'_, R> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<A: Arch>(self) {
        for token in 0..self.count {
            let x = self.rows.row(self.from + token, self.buffer);
            let of = (token, self.count);
            pack::pack_gemv_token(self.layout, self.qmax, of, x, self.words, self.tokens);
        }
    }
}

struct PackMicroPanel<'a, 'w, R> {
    rows: &'a R,
    layout: &'a PackLayout,
    micro_panel: usize,
    /// The first token of the chunk.
    from: usize,
    words: &'a Disjoint<'w, u32>,
    /// `[group][token]`.
    tokens: &'a Disjoint<'w, TokenParams>,
    /// `[k]`.
    buffer: &'a mut [bf16],
}

impl<R: Rows> Task for PackMicroPanel<'_, '_, R> {
    type Output = bool;

    #[inline(always)]
    unsafe fn run<A: Arch>(self) -> bool {
        let tokens = self.layout.micro_panel(self.micro_panel);
        // SAFETY: one thread packs a micro-panel, the words and parameters of two micro-panels do
        // not overlap, and `pack_token` holds one slice at a time.
        let words = |range| unsafe { self.words.slice(range) };
        // SAFETY: as above.
        let params = |range| unsafe { self.tokens.slice(range) };
        for token in tokens.clone() {
            let x = self.rows.row(self.from + token, self.buffer);
            if !pack::pack_token(self.layout, tokens.clone(), token, x, words, params) {
                return false;
            }
        }
        true
    }
}
