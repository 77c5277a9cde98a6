//! The way through the weights for many tokens: a block of rows goes through its groups in ascending order; a panel of the
//! group is unpacked into cache, multiplied with all tokens strip by strip, and rescaled into the accumulators.

use super::gemm::{Arch, Job, Task, write};
use super::microkernel::{Beside, Direct, Kernel, Strip};
use super::workspace::{BLOCK_N, Scratch};
use crate::Width;
use crate::weights::layout::{TILE_K, TILE_N, Tile};
use std::ops::Range;

/// Blocks of 32 rows of the result.
pub(super) struct PanelBlocks<'a> {
    pub job: &'a Job<'a>,
    pub units: Range<usize>,
    pub scratch: &'a mut Scratch,
}

impl Task for PanelBlocks<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<A: Arch>(self) {
        for block in self.units {
            // SAFETY: passed on.
            unsafe {
                match self.job.call.width {
                    Width::Bf16 => row_block::<A::Float>(self.job, block, self.scratch),
                    _ => row_block::<A::Integer>(self.job, block, self.scratch),
                }
            }
        }
    }
}

/// 32 rows, all tokens of the job.
///
/// # Safety
/// The machine has the kernel's instruction set.
#[inline(always)]
unsafe fn row_block<K: Kernel>(job: &Job<'_>, block: usize, scratch: &mut Scratch) {
    let (w, layout) = (job.call.w, &job.layout);
    debug_assert!(K::K_PER_WORD == layout.form.k_per_word());
    let (k_tiles, row_tiles) = (w.k().div_ceil(TILE_K), w.n().div_ceil(TILE_N));
    let first = 2 * block;
    let count = (row_tiles - first).min(2);
    let tile = |i: usize, k_tile: usize| {
        if i < count {
            &w.tiles()[(first + i) * k_tiles + k_tile]
        } else {
            &Tile::ZERO
        }
    };
    let acc = &mut scratch.acc[..layout.tokens * BLOCK_N];
    acc.fill(0.0);
    let mut beside = Beside::ZERO;
    for g in 0..w.groups() {
        for i in 0..count {
            let at = ((first + i) * w.groups() + g) * TILE_N;
            // SAFETY: passed on.
            unsafe { K::load(&mut beside, w, at, i * TILE_N) };
        }
        let tokens = &job.tokens[g * layout.tokens..][..layout.tokens];
        if layout.tokens <= K::DIRECT {
            // All its words in one piece: there is one strip.
            let k = layout.group_k(g);
            let rows = |i: usize| &w.tiles()[(first + i) * k_tiles..][..k_tiles];
            let direct = Direct {
                // In place of rows that are not there any rows will do: their scales are 0, and nobody writes them.
                tiles: [rows(0), rows(count - 1)],
                x: &job.words[layout.words(k.clone(), 0..layout.tokens)],
                k,
                tokens,
                beside: &beside,
                acc: &mut acc[..],
            };
            // SAFETY: passed on.
            unsafe { K::direct(direct) };
            continue;
        }
        let mut resume = false;
        let mut panels = layout.panels(g).peekable();
        while let Some(k) = panels.next() {
            let last = panels.peek().is_none();
            let panel = &mut scratch.panel[..k.len() / K::K_PER_WORD * BLOCK_N];
            for (at, panel) in panel
                .chunks_exact_mut(32 / K::K_PER_WORD * BLOCK_N)
                .enumerate()
            {
                let k = k.start + 32 * at;
                let tiles = [tile(0, k / TILE_K), tile(1, k / TILE_K)];
                // SAFETY: passed on.
                unsafe { K::unpack(tiles, k / 32 % 2, &beside, panel) };
            }
            for strip in 0..layout.strips {
                let range = layout.strip(strip);
                // A group of one panel needs its sums only until they are rescaled: one small buffer stays in L1.
                let slot = if resume || !last { range.start } else { 0 };
                let strip = Strip {
                    panel,
                    x: &job.words[layout.words(k.clone(), range.clone())],
                    tokens: &tokens[range.clone()],
                    beside: &beside,
                    sums: &mut scratch.sums[slot * BLOCK_N..][..range.len() * BLOCK_N],
                    resume,
                    last,
                    acc: &mut acc[range.start * BLOCK_N..range.end * BLOCK_N],
                };
                // SAFETY: passed on.
                unsafe { K::multiply(strip) };
            }
            resume = true;
        }
    }
    let rows = first * TILE_N..w.n().min((first + 2) * TILE_N);
    for (token, acc) in acc.chunks_exact(BLOCK_N).enumerate() {
        write(job, token, rows.clone(), acc);
    }
}
