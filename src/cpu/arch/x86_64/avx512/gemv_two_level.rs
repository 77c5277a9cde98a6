//! The GEMV microkernel of a two-level weight: as [`super::gemv`], but the sums of a group are
//! multiplied with the steps of their rows lane by lane, and accumulate over all of K.
//!
//! The sum of a lane over the 128 k of a group is `sum qa*qw` of 16 products, at most 32,640 (16 *
//! 255 * 8) in magnitude, which fits 16 bits: one `dpwssd` multiplies it with the step and adds it.
//! A nibble with its sign bit flipped is `qw + 8`; the sums begin at `-8 * sum qa` in return. The
//! zero points are subtracted once per group, row by row.

use super::gemv::row_sums;
use crate::cpu::microkernel::{GEMV_WORDS, GemvRows, TwoLevelGemvKernel};
use crate::weights::layout::{TILE_N, Tile};
use std::arch::x86_64::*;

/// The GEMV microkernel.
pub(in crate::cpu) struct CodesGemv;

/// The parameters of a group, or of the two groups of a tile.
struct GroupSteps {
    /// `sg`, `[g][row g, row g + 8 of the first half of k, then of the second]`, as the lanes of a
    /// tile.
    lanes: [u32; 32],
    /// `sg * zg` in the high 16 bits of 16 rows, `[group of the tile]`; unset if symmetric.
    zeros: [__m512i; 2],
}

impl GroupSteps {
    /// Loads the parameters of group `first`, and, with `HALVES` = 2, of the next one.
    ///
    /// # Safety
    /// The machine supports the instruction set.
    #[inline(always)]
    unsafe fn load<const HALVES: usize>(rows: &GemvRows<'_>, first: usize) -> Self {
        // SAFETY: the caller's promise; 32 lanes are two vectors.
        unsafe {
            let mut steps = [steps(rows, first); 2];
            if HALVES == 2 {
                steps[1] = self::steps(rows, first + 1);
            }
            let order = _mm512_setr_epi32(0, 8, 16, 24, 1, 9, 17, 25, 2, 10, 18, 26, 3, 11, 19, 27);
            let next = _mm512_add_epi32(order, _mm512_set1_epi32(4));
            let mut lanes = [0; 32];
            for (order, lanes) in [order, next].into_iter().zip(lanes.chunks_exact_mut(16)) {
                let steps = _mm512_permutex2var_epi32(steps[0], order, steps[1]);
                _mm512_storeu_si512(lanes.as_mut_ptr().cast(), steps);
            }
            let mut zeros = [_mm512_setzero_si512(); 2];
            if let Some(tiled) = rows.w.tiled_zeros() {
                for half in 0..HALVES {
                    if let Some(at) = rows.index(first + half) {
                        let tiled = tiled[at..at + TILE_N].as_ptr();
                        let zero = _mm512_cvtepi8_epi32(_mm_loadu_si128(tiled.cast()));
                        let product = _mm512_mullo_epi16(zero, steps[half]);
                        zeros[half] = _mm512_slli_epi32::<16>(product);
                    }
                }
            }
            Self { lanes, zeros }
        }
    }
}

/// The steps of 16 rows of a group; 0 if K ends before it.
///
/// # Safety
/// The machine supports the instruction set.
#[inline(always)]
unsafe fn steps(rows: &GemvRows<'_>, group: usize) -> __m512i {
    // SAFETY: the slice has 16 elements, or indexing has panicked.
    unsafe {
        match (rows.index(group), rows.w.tiled_steps()) {
            (Some(at), Some(steps)) => {
                let steps = steps[at..at + TILE_N].as_ptr();
                _mm512_cvtepu8_epi32(_mm_loadu_si128(steps.cast()))
            }
            _ => _mm512_setzero_si512(),
        }
    }
}

impl TwoLevelGemvKernel for CodesGemv {
    #[inline(always)]
    unsafe fn sums<const TOKENS: usize, const HALVES: usize>(
        rows: GemvRows<'_>,
    ) -> [[i32; TILE_N]; TOKENS] {
        let groups = rows.groups(TOKENS);
        let mut total = [[0i32; TILE_N]; TOKENS];
        let mut x = rows.x.as_ptr();
        let symmetric = rows.w.is_symmetric();
        // SAFETY: `groups` has checked the lengths of the slices.
        unsafe {
            let mut sum = [[_mm512_setzero_si512(); 8]; TOKENS];
            let mut zero = [_mm512_setzero_si512(); TOKENS];
            for (i, tiles) in groups.enumerate() {
                let steps = GroupSteps::load::<HALVES>(&rows, i * HALVES);
                if !symmetric {
                    for half in 0..HALVES {
                        if rows.index(i * HALVES + half).is_some() {
                            for (t, zero) in zero.iter_mut().enumerate() {
                                let codes = rows.token(i * HALVES + half, t).pair;
                                let codes = _mm512_set1_epi32(codes as i32);
                                *zero = _mm512_dpwssd_epi32(*zero, steps.zeros[half], codes);
                            }
                        }
                    }
                }
                match tiles {
                    [first, second] => {
                        group([first, second], x, rows.stride, &steps.lanes, &mut sum);
                    }
                    [tile] => group([tile], x, rows.stride, &steps.lanes, &mut sum),
                    _ => unreachable!("a group has at most two tiles"),
                }
                x = x.wrapping_add(tiles.len() * rows.stride);
            }
            for (t, total) in total.iter_mut().enumerate() {
                // Both may have wrapped; their sum is in range.
                let sum = _mm512_add_epi32(row_sums::<1>(&sum[t], 0), zero[t]);
                _mm512_storeu_si512(total.as_mut_ptr().cast(), sum);
            }
        }
        total
    }
}

/// Adds the products of the tiles of a group to `sum`.
///
/// # Safety
/// The machine supports the instruction set; `x` has `TOKENS` times [`GEMV_WORDS`] words for each
/// tile, `stride` apart.
#[inline(always)]
unsafe fn group<const TOKENS: usize, const TILES: usize>(
    tiles: [&Tile; TILES],
    x: *const u32,
    stride: usize,
    lanes: &[u32; 32],
    sum: &mut [[__m512i; 8]; TOKENS],
) {
    // SAFETY: eight vectors are one tile; the caller's promise.
    unsafe {
        let (mask, eight) = (_mm512_set1_epi8(0x0F), _mm512_set1_epi8(8));
        let mut start = [_mm512_setzero_si512(); TOKENS];
        for (t, start) in start.iter_mut().enumerate() {
            for at in 0..2 * TILES {
                let x = x.add(at / 2 * stride + t * GEMV_WORDS + at % 2 * 16);
                let x = _mm512_loadu_si512(x.cast());
                *start = _mm512_dpbusd_epi32(*start, x, _mm512_set1_epi8(-8));
            }
        }
        for g in 0..8 {
            let mut narrow = start;
            for (i, tile) in tiles.into_iter().enumerate() {
                let words = _mm512_load_si512(tile.0.as_ptr().add(16 * g).cast());
                // (words & mask) ^ eight is qw + 8.
                let even = _mm512_ternarylogic_epi32::<0x6A>(words, mask, eight);
                let odd = _mm512_srli_epi32::<4>(words);
                let odd = _mm512_ternarylogic_epi32::<0x6A>(odd, mask, eight);
                for (t, narrow) in narrow.iter_mut().enumerate() {
                    let x = x.add(i * stride + t * GEMV_WORDS);
                    *narrow = _mm512_dpbusd_epi32(*narrow, _mm512_loadu_si512(x.cast()), even);
                    let x = x.add(16);
                    *narrow = _mm512_dpbusd_epi32(*narrow, _mm512_loadu_si512(x.cast()), odd);
                }
            }
            let step = _mm_loadu_si128(lanes.as_ptr().add(4 * g).cast());
            let step = _mm512_broadcast_i32x4(step);
            for (narrow, sum) in narrow.into_iter().zip(sum.iter_mut()) {
                sum[g] = _mm512_dpwssd_epi32(sum[g], narrow, step);
            }
        }
    }
}
