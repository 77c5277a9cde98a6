//! The GEMV microkernel of a two-level weight: as [`super::gemv`], but the sums of a group are
//! multiplied with the steps of their rows lane by lane, and accumulate over all of K.
//!
//! The sum of a lane over the 128 k of a group is `sum qa*qw` of 16 products, at most 32,640 (16 *
//! 255 * 8) in magnitude, which fits 16 bits: one `dpwssd` multiplies it with the step and adds it.
//! The zero points are subtracted once per group, row by row.
//!
//! One token has registers for the sums of all vectors of a tile. More tokens pass through the
//! tiles twice, half of each tile at a time; the rows of a tile fit the L1 cache.

use super::gemv::row_sums;
use crate::cpu::microkernel::{GEMV_WORDS, GemvRows, TwoLevelGemvKernel};
use crate::weights::layout::{TILE_N, Tile};
use std::arch::x86_64::*;

/// The GEMV microkernel.
pub(in crate::cpu) struct CodesGemv;

impl TwoLevelGemvKernel for CodesGemv {
    const MAX_TOKENS: usize = 4;

    #[inline(always)]
    unsafe fn sums<const TOKENS: usize, const HALVES: usize>(
        rows: GemvRows<'_>,
    ) -> [[i32; TILE_N]; TOKENS] {
        let mut total = [[0i32; TILE_N]; TOKENS];
        // SAFETY: the caller's promise; a total is one vector.
        unsafe {
            let mut sum = [[_mm512_setzero_si512(); 8]; TOKENS];
            match TOKENS {
                1 => pass::<TOKENS, HALVES, 8>(&rows, 0, &mut sum),
                _ => {
                    pass::<TOKENS, HALVES, 4>(&rows, 0, &mut sum);
                    pass::<TOKENS, HALVES, 4>(&rows, 4, &mut sum);
                }
            }
            let zeros = zero_sums::<TOKENS>(&rows);
            for (t, total) in total.iter_mut().enumerate() {
                // Both may have wrapped; their sum is in range.
                let sum = _mm512_add_epi32(row_sums::<1>(&sum[t], 0), zeros[t]);
                _mm512_storeu_si512(total.as_mut_ptr().cast(), sum);
            }
        }
        total
    }
}

/// Returns `-sum over groups of sg * zg * sum qa` of 16 rows for each token.
///
/// # Safety
/// The machine supports the instruction set.
#[inline(always)]
unsafe fn zero_sums<const TOKENS: usize>(rows: &GemvRows<'_>) -> [__m512i; TOKENS] {
    // SAFETY: a chunk has 16 bytes.
    unsafe {
        let mut sum = [_mm512_setzero_si512(); TOKENS];
        let Some(zeros) = rows.w.tiled_zeros() else {
            return sum;
        };
        let zeros = rows.of_rows(zeros).chunks_exact(TILE_N);
        for (group, (steps, zeros)) in rows.steps().chunks_exact(TILE_N).zip(zeros).enumerate() {
            let step = _mm512_cvtepu8_epi32(_mm_loadu_si128(steps.as_ptr().cast()));
            let zero = _mm512_cvtepi8_epi32(_mm_loadu_si128(zeros.as_ptr().cast()));
            // In the high 16 bits, where the words of the tokens have `-sum qa`.
            let product = _mm512_slli_epi32::<16>(_mm512_mullo_epi16(zero, step));
            for (t, sum) in sum.iter_mut().enumerate() {
                let codes = _mm512_set1_epi32(rows.token(group, t).pair as i32);
                *sum = _mm512_dpwssd_epi32(*sum, product, codes);
            }
        }
        sum
    }
}

/// Writes the sums of `VECTORS` vectors of each tile, from vector `first` on, without the zero
/// points.
///
/// # Safety
/// The machine supports the instruction set.
#[inline(always)]
unsafe fn pass<const TOKENS: usize, const HALVES: usize, const VECTORS: usize>(
    rows: &GemvRows<'_>,
    first: usize,
    to: &mut [[__m512i; 8]; TOKENS],
) {
    let groups = rows.groups(TOKENS);
    let steps = rows.steps();
    let mut x = rows.x.as_ptr();
    // SAFETY: `groups` has checked the lengths of the slices.
    unsafe {
        let mut sum = [[_mm512_setzero_si512(); VECTORS]; TOKENS];
        for (i, tiles) in groups.enumerate() {
            let steps = std::array::from_fn(|half| match half < HALVES {
                true => steps_of_group(steps, i * HALVES + half),
                false => _mm512_setzero_si512(),
            });
            match *tiles {
                [ref a, ref b] => {
                    let group = Group::<2>([a, b]);
                    group.add::<TOKENS, HALVES, VECTORS>(first, (x, rows.stride), steps, &mut sum);
                }
                [ref tile] => {
                    let group = Group::<1>([tile]);
                    group.add::<TOKENS, HALVES, VECTORS>(first, (x, rows.stride), steps, &mut sum);
                }
                _ => unreachable!("a group has at most two tiles"),
            }
            x = x.wrapping_add(tiles.len() * rows.stride);
        }
        for (to, sum) in to.iter_mut().zip(&sum) {
            to[first..first + VECTORS].copy_from_slice(sum);
        }
    }
}

/// Returns the steps of 16 rows in a group; 0 if K ends before it.
///
/// # Safety
/// The machine supports the instruction set.
#[inline(always)]
unsafe fn steps_of_group(steps: &[u8], group: usize) -> __m512i {
    // SAFETY: the slice has 16 bytes.
    unsafe {
        match steps.get(group * TILE_N..(group + 1) * TILE_N) {
            Some(steps) => _mm512_cvtepu8_epi32(_mm_loadu_si128(steps.as_ptr().cast())),
            None => _mm512_setzero_si512(),
        }
    }
}

/// The tiles of a group of 128 or 64, or the one of two groups of 32.
struct Group<'a, const TILES: usize>([&'a Tile; TILES]);

impl<const TILES: usize> Group<'_, TILES> {
    /// Adds the products of vectors `first..first + VECTORS` of the tiles to `sum`, times `steps`,
    /// `[half of k]`.
    ///
    /// # Safety
    /// The machine supports the instruction set; `x` has `TOKENS` times [`GEMV_WORDS`] words for
    /// each tile, `stride` apart.
    #[inline(always)]
    unsafe fn add<const TOKENS: usize, const HALVES: usize, const VECTORS: usize>(
        self,
        first: usize,
        (x, stride): (*const u32, usize),
        steps: [__m512i; 2],
        sum: &mut [[__m512i; VECTORS]; TOKENS],
    ) {
        // SAFETY: eight vectors are one tile; the caller's promise.
        unsafe {
            let mask = _mm512_set1_epi8(0xF0u8 as i8);
            // Lanes of a vector: row g and row g + 8 of the first half of k, then of the second,
            // four times. In registers: a load from a vector that was just stored would wait.
            let mut lanes = match HALVES {
                1 => _mm512_set4_epi32(8, 0, 8, 0),
                _ => _mm512_set4_epi32(24, 16, 8, 0),
            };
            lanes = _mm512_add_epi32(lanes, _mm512_set1_epi32(first as i32));
            for g in 0..VECTORS {
                let mut narrow = [_mm512_setzero_si512(); TOKENS];
                for (i, tile) in self.0.into_iter().enumerate() {
                    let words = _mm512_load_si512(tile.0.as_ptr().add(16 * (first + g)).cast());
                    // 16 * qw of the even nibbles and of the odd ones.
                    let even = _mm512_and_si512(_mm512_slli_epi32::<4>(words), mask);
                    let odd = _mm512_and_si512(words, mask);
                    for (t, narrow) in narrow.iter_mut().enumerate() {
                        let x = x.add(i * stride + t * GEMV_WORDS);
                        *narrow = _mm512_dpbusd_epi32(*narrow, _mm512_loadu_si512(x.cast()), even);
                        let x = x.add(16);
                        *narrow = _mm512_dpbusd_epi32(*narrow, _mm512_loadu_si512(x.cast()), odd);
                    }
                }
                let step = match HALVES {
                    1 => _mm512_permutexvar_epi32(lanes, steps[0]),
                    _ => _mm512_permutex2var_epi32(steps[0], lanes, steps[1]),
                };
                lanes = _mm512_add_epi32(lanes, _mm512_set1_epi32(1));
                for (narrow, sum) in narrow.into_iter().zip(sum.iter_mut()) {
                    let narrow = _mm512_srai_epi32::<4>(narrow);
                    sum[g] = _mm512_dpwssd_epi32(sum[g], narrow, step);
                }
            }
        }
    }
}
