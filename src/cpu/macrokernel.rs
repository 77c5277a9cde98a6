//! The macrokernel: the loops around a microkernel, for NR rows of W and all tokens of a job.
//!
//! For each group of k, in ascending order, panels of weights are unpacked into cache and
//! multiplied with every micro-panel of tokens. The sums of the group are then rescaled into the
//! accumulators. To the macrokernel a two-level weight is a per-channel weight of `w8`: its group
//! is all of K, and its sums are rescaled once.

use super::dispatch::{Isa, enter};
use super::job::Job;
use super::microkernel::{Arch, DirectGroup, KC, MicroTile, Microkernel, NR, Task};
use super::params::GroupParams;
use super::workspace::Scratch;
use crate::weights::layout::{TILE_K, TILE_N, Tile};
use crate::{Scheme, Width};
use std::ops::Range;

/// Computes row blocks `units` (NR rows of the result each) of a job.
pub(super) fn row_blocks(isa: Isa, job: &Job<'_>, units: Range<usize>, scratch: &mut Scratch) {
    let blocks = Blocks {
        job,
        units,
        scratch,
    };
    // A task for each microkernel: a function that held all of them would take LLVM many times as
    // long as they do apart.
    match (job.call.width, job.call.w.scheme()) {
        (Width::Bf16, Scheme::Grouped) => enter(isa, FloatBlocks::<false>(blocks)),
        (Width::Bf16, Scheme::TwoLevel) => enter(isa, FloatBlocks::<true>(blocks)),
        (_, Scheme::Grouped) => enter(isa, IntegerBlocks::<false>(blocks)),
        (_, Scheme::TwoLevel) => enter(isa, IntegerBlocks::<true>(blocks)),
    }
}

struct Blocks<'a> {
    job: &'a Job<'a>,
    units: Range<usize>,
    scratch: &'a mut Scratch,
}

/// Blocks of a job with BF16 activations.
struct FloatBlocks<'a, const TWO_LEVEL: bool>(Blocks<'a>);

impl<const TWO_LEVEL: bool> Task for FloatBlocks<'_, TWO_LEVEL> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<A: Arch>(self) {
        // SAFETY: the caller's promise.
        unsafe { self.0.run::<A::Float<TWO_LEVEL>, TWO_LEVEL>() };
    }
}

/// Blocks of a job with quantized activations.
struct IntegerBlocks<'a, const TWO_LEVEL: bool>(Blocks<'a>);

impl<const TWO_LEVEL: bool> Task for IntegerBlocks<'_, TWO_LEVEL> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<A: Arch>(self) {
        // SAFETY: the caller's promise.
        unsafe { self.0.run::<A::Integer<TWO_LEVEL>, TWO_LEVEL>() };
    }
}

impl Blocks<'_> {
    /// # Safety
    /// The machine supports the instruction set of `U`.
    #[inline(always)]
    unsafe fn run<U: Microkernel, const TWO_LEVEL: bool>(self) {
        for block in self.units {
            // SAFETY: the caller's promise.
            unsafe { row_block::<U, TWO_LEVEL>(self.job, block, self.scratch) };
        }
    }
}

/// Computes NR rows of the result for all tokens of the job.
///
/// # Safety
/// The machine supports the instruction set of `U`.
#[inline(always)]
unsafe fn row_block<U: Microkernel, const TWO_LEVEL: bool>(
    job: &Job<'_>,
    block: usize,
    scratch: &mut Scratch,
) {
    let (w, layout) = (job.call.w, &job.layout);
    debug_assert!(U::K_PER_WORD == layout.format.k_per_word());
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
    let rows = first * TILE_N..w.n().min((first + 2) * TILE_N);
    let acc = &mut scratch.acc[..layout.tokens * NR];
    for acc in acc.chunks_exact_mut(NR) {
        job.start(rows.clone(), acc);
    }
    let mut params = GroupParams::ZERO;
    params.symmetric = w.is_symmetric();
    let size = w.grouping().size().unwrap_or(KC);
    params.step_k = size.min(KC);
    let groups = layout.grouping.groups(w.k());
    for g in 0..groups {
        for i in 0..count {
            let at = ((first + i) * groups + g) * TILE_N;
            // SAFETY: the caller's promise.
            unsafe { U::load_params(&mut params, w, at, i * TILE_N) };
        }
        let tokens = &job.tokens[g * layout.tokens..][..layout.tokens];
        if layout.tokens <= U::MAX_DIRECT {
            // So few tokens are one micro-panel, whose words of the group are contiguous.
            let k = layout.group_k(g);
            let rows = |i: usize| &w.tiles()[(first + i) * k_tiles..][..k_tiles];
            let group = DirectGroup {
                w,
                row_tiles: [first, first + count - 1],
                // Any tile serves as the second one if N ends before it: its scales are 0, and its
                // results are not stored.
                tiles: [rows(0), rows(count - 1)],
                x: &job.words[layout.words(k.clone(), 0..layout.tokens)],
                k,
                tokens,
                params: &params,
                acc: &mut acc[..],
            };
            // SAFETY: the caller's promise.
            unsafe { U::direct(group) };
            continue;
        }
        let mut resume = false;
        let mut panels = layout.panels(g).peekable();
        while let Some(k) = panels.next() {
            let last = panels.peek().is_none();
            let panel = &mut scratch.panel[..k.len() / U::K_PER_WORD * NR];
            if TWO_LEVEL {
                // The steps of a group that began with an earlier panel are those of that panel.
                let groups = k.clone().step_by(params.step_k);
                for (steps, k) in params.steps.iter_mut().zip(groups) {
                    if k % size == 0 {
                        steps.load(w, first..first + count, k, U::K_PER_WORD == 4);
                    }
                }
            }
            for (at, panel) in panel.chunks_exact_mut(32 / U::K_PER_WORD * NR).enumerate() {
                let k = k.start + 32 * at;
                let tiles = [tile(0, k / TILE_K), tile(1, k / TILE_K)];
                // SAFETY: the caller's promise.
                unsafe { U::unpack(tiles, k / 32 % 2, &params, at, panel) };
            }
            for micro_panel in 0..layout.micro_panels {
                let range = layout.micro_panel(micro_panel);
                // The sums of a group of one panel are rescaled at once, so all micro-panels share
                // one buffer, which stays in L1.
                let slot = if resume || !last { range.start } else { 0 };
                let tile = MicroTile {
                    panel,
                    x: &job.words[layout.words(k.clone(), range.clone())],
                    tokens: &tokens[range.clone()],
                    params: &params,
                    sums: &mut scratch.sums[slot * NR..][..range.len() * NR],
                    resume,
                    last,
                    acc: &mut acc[range.start * NR..range.end * NR],
                };
                // SAFETY: the caller's promise.
                unsafe { U::multiply(tile) };
            }
            resume = true;
        }
    }
    for (token, acc) in acc.chunks_exact(NR).enumerate() {
        job.store(token, rows.clone(), acc);
    }
}
