//! The GEMV path for a few quantized tokens: a tile's words are loaded into registers and
//! multiplied there, without a panel.

use super::dispatch::{Isa, enter};
use super::job::Job;
use super::microkernel::{
    Arch, GEMV_WORDS, GemvGroup, GemvKernel, GemvRows, Task, TwoLevelGemvKernel,
};
use super::partition::split;
use crate::weights::layout::{TILE_K, TILE_N};
use crate::{Grouping, Scheme};
use std::ops::Range;

/// Computes row tiles `units` (16 rows of the result each) of a job with few tokens.
pub(super) fn gemv_tiles(isa: Isa, job: &Job<'_>, units: Range<usize>) {
    let two_groups = job.call.w.grouping() == Grouping::G32;
    // A task for each kernel, as in `row_blocks`.
    match (job.call.w.scheme(), two_groups) {
        (Scheme::Grouped, false) => enter(isa, GemvTiles::<false, 1> { job, units }),
        (Scheme::Grouped, true) => enter(isa, GemvTiles::<false, 2> { job, units }),
        (Scheme::TwoLevel, false) => enter(isa, GemvTiles::<true, 1> { job, units }),
        (Scheme::TwoLevel, true) => enter(isa, GemvTiles::<true, 2> { job, units }),
    }
}

/// `HALVES` is 2 if a tile holds two groups.
struct GemvTiles<'a, const TWO_LEVEL: bool, const HALVES: usize> {
    job: &'a Job<'a>,
    units: Range<usize>,
}

impl<const TWO_LEVEL: bool, const HALVES: usize> Task for GemvTiles<'_, TWO_LEVEL, HALVES> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<A: Arch>(self) {
        let job = self.job;
        // The accumulators of at most so many tokens fit the registers. The second pass reads a
        // tile from cache.
        let most = match TWO_LEVEL {
            false => 3,
            true => A::TwoLevelGemv::MAX_TOKENS,
        };
        let passes = job.layout.tokens.div_ceil(most);
        for tile in self.units {
            for pass in 0..passes {
                let tokens = split(job.layout.tokens, passes, pass);
                // SAFETY: the caller's promise.
                unsafe {
                    match tokens.len() {
                        1 => row_tile::<A, TWO_LEVEL, HALVES, 1>(job, tile, tokens),
                        2 => row_tile::<A, TWO_LEVEL, HALVES, 2>(job, tile, tokens),
                        3 => row_tile::<A, TWO_LEVEL, HALVES, 3>(job, tile, tokens),
                        // Grouped weights have registers for three.
                        4 if TWO_LEVEL => row_tile::<A, TWO_LEVEL, HALVES, 4>(job, tile, tokens),
                        _ => unreachable!("a pass has at most {most} tokens"),
                    }
                }
            }
        }
    }
}

/// Computes 16 rows of `TOKENS` tokens.
///
/// # Safety
/// The machine supports the instruction set of `A`.
#[inline(always)]
unsafe fn row_tile<A: Arch, const TWO_LEVEL: bool, const HALVES: usize, const TOKENS: usize>(
    job: &Job<'_>,
    tile: usize,
    tokens: Range<usize>,
) {
    let rows = tile * TILE_N..job.call.w.n().min((tile + 1) * TILE_N);
    let mut acc = [[0f32; TILE_N]; TOKENS];
    for acc in &mut acc {
        job.start(rows.clone(), acc);
    }
    // SAFETY: the caller's promise.
    unsafe {
        match TWO_LEVEL {
            false => grouped::<A::Gemv, TOKENS, HALVES>(job, tile, tokens.clone(), &mut acc),
            true => {
                two_level::<A::TwoLevelGemv, TOKENS, HALVES>(job, tile, tokens.clone(), &mut acc);
            }
        }
    }
    for (token, acc) in tokens.zip(&acc) {
        job.store(token, rows.clone(), acc);
    }
}

/// Accumulates 16 rows of a grouped weight, group by group.
///
/// # Safety
/// The machine supports the instruction set of `G`.
#[inline(always)]
unsafe fn grouped<G: GemvKernel, const TOKENS: usize, const HALVES: usize>(
    job: &Job<'_>,
    tile: usize,
    tokens: Range<usize>,
    acc: &mut [[f32; TILE_N]; TOKENS],
) {
    let (w, count) = (job.call.w, job.layout.tokens);
    let k_tiles = w.k().div_ceil(TILE_K);
    let tiles = &w.tiles()[tile * k_tiles..][..k_tiles];
    let group_tiles = w.grouping().size().map_or(k_tiles, |g| g.div_ceil(TILE_K));
    let stride = count * GEMV_WORDS;
    for (i, tiles) in tiles.chunks(group_tiles).enumerate() {
        let g = i * HALVES;
        let params =
            |g: usize| (g < w.groups()).then(|| &job.tokens[g * count + tokens.start..][..TOKENS]);
        let group = GemvGroup {
            w,
            at: (tile * w.groups() + g) * TILE_N,
            tiles,
            x: &job.words[i * group_tiles * stride + tokens.start * GEMV_WORDS..],
            stride,
            tokens: [params(g), if HALVES == 2 { params(g + 1) } else { None }],
        };
        // SAFETY: the caller's promise.
        unsafe { G::group::<TOKENS, HALVES>(group, acc) };
    }
}

/// Computes 16 rows of a two-level weight: the integer sum over all of K, then one fma.
///
/// # Safety
/// The machine supports the instruction set of `G`.
#[inline(always)]
unsafe fn two_level<G: TwoLevelGemvKernel, const TOKENS: usize, const HALVES: usize>(
    job: &Job<'_>,
    tile: usize,
    tokens: Range<usize>,
    acc: &mut [[f32; TILE_N]; TOKENS],
) {
    let (w, count) = (job.call.w, job.layout.tokens);
    let rows = GemvRows {
        w,
        row_tile: tile,
        x: &job.words[tokens.start * GEMV_WORDS..],
        stride: count * GEMV_WORDS,
        tokens: &job.tokens[tokens.start..],
        token_stride: count,
    };
    // SAFETY: the caller's promise.
    let sums = unsafe { G::sums::<TOKENS, HALVES>(rows) };
    for ((token, sums), acc) in tokens.zip(&sums).zip(acc) {
        let token = &job.tokens[token].group;
        for (row, (sum, acc)) in sums.iter().zip(acc).enumerate() {
            let (scale, _, weights) = w.sum_params(tile * TILE_N + row);
            let d = sum - token.zero * weights;
            *acc = (d as f32).mul_add(token.scale * scale, *acc);
        }
    }
}
