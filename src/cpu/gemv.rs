//! The way through the weights for a few quantized tokens: a tile's words go from memory to registers and meet the codes
//! there.

use super::gemm::{Arch, Job, Task, write};
use super::microkernel::{STREAM_WORDS, Stream, StreamGroup};
use super::partition::share;
use crate::Grouping;
use crate::weights::layout::{TILE_K, TILE_N};
use std::ops::Range;

/// Tiles of 16 rows of the result, few tokens.
pub(super) struct StreamTiles<'a> {
    pub job: &'a Job<'a>,
    pub units: Range<usize>,
}

impl Task for StreamTiles<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<A: Arch>(self) {
        let (job, split) = (self.job, self.job.call.w.grouping() == Grouping::G32);
        // At most three tokens at a time have room in registers; a tile comes from cache the second time.
        let passes = job.layout.tokens.div_ceil(3);
        for tile in self.units {
            for pass in 0..passes {
                let tokens = share(job.layout.tokens, passes, pass);
                // SAFETY: passed on.
                unsafe {
                    match (tokens.len(), split) {
                        (1, false) => row_tile::<A::Stream, 1, 1>(job, tile, tokens),
                        (1, true) => row_tile::<A::Stream, 1, 2>(job, tile, tokens),
                        (2, false) => row_tile::<A::Stream, 2, 1>(job, tile, tokens),
                        (2, true) => row_tile::<A::Stream, 2, 2>(job, tile, tokens),
                        (3, false) => row_tile::<A::Stream, 3, 1>(job, tile, tokens),
                        (3, true) => row_tile::<A::Stream, 3, 2>(job, tile, tokens),
                        _ => unreachable!("three at a time"),
                    }
                }
            }
        }
    }
}

/// 16 rows, `TOKENS` tokens. `HALVES` is 2 where a tile holds two groups.
///
/// # Safety
/// The machine has the instruction set.
#[inline(always)]
unsafe fn row_tile<S: Stream, const TOKENS: usize, const HALVES: usize>(
    job: &Job<'_>,
    tile: usize,
    tokens: Range<usize>,
) {
    let (w, count) = (job.call.w, job.layout.tokens);
    let k_tiles = w.k().div_ceil(TILE_K);
    let tiles = &w.tiles()[tile * k_tiles..][..k_tiles];
    let group_tiles = w.grouping().size().map_or(k_tiles, |g| g.div_ceil(TILE_K));
    let stride = count * STREAM_WORDS;
    let mut acc = [[0f32; TILE_N]; TOKENS];
    for (i, tiles) in tiles.chunks(group_tiles).enumerate() {
        let g = i * HALVES;
        let group =
            |g: usize| (g < w.groups()).then(|| &job.tokens[g * count + tokens.start..][..TOKENS]);
        let of = StreamGroup {
            w,
            at: (tile * w.groups() + g) * TILE_N,
            tiles,
            x: &job.words[i * group_tiles * stride + tokens.start * STREAM_WORDS..],
            stride,
            tokens: [group(g), if HALVES == 2 { group(g + 1) } else { None }],
        };
        // SAFETY: passed on.
        unsafe { S::group::<TOKENS, HALVES>(of, &mut acc) };
    }
    for (token, acc) in tokens.zip(&acc) {
        let rows = tile * TILE_N..w.n().min((tile + 1) * TILE_N);
        write(job, token, rows, acc);
    }
}
