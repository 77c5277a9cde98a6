//! The GEMV microkernel of a two-level weight: as [`super::gemv`], with one multiply-add per tile and
//! vector that multiplies the sums with the steps of their rows. They then accumulate over all of K.
//!
//! A nibble with its sign bit flipped is `qw + 8`. The sum of a tile is `sg * sum qa*(qw + 8)`; what
//! it exceeds `sum qa*w8` by, `sg * (8 + zg) * sum qa`, is subtracted once per group, row by row.

use super::gemv::row_sums;
use crate::cpu::microkernel::{GEMV_WORDS, GemvRows, TwoLevelGemvKernel};
use crate::weights::layout::TILE_N;
use std::arch::x86_64::*;

/// The GEMV microkernel.
pub(in crate::cpu) struct CodesGemv;

/// The steps of a group, or of the two groups of a tile, as pairs of 16-bit numbers: `sg` in the low
/// half and `-sg * (8 + zg)` in the high one. `dpwssd` multiplies with either.
struct Steps {
    /// `[group of the tile]`, 16 rows each.
    rows: [__m512i; 2],
    /// `[g][row g, row g + 8 of the first half of k, then of the second]`, as the lanes of a tile.
    lanes: [u32; 32],
}

impl Steps {
    /// Loads the steps of group `first`, and, with `HALVES` = 2, of the next one.
    ///
    /// # Safety
    /// The machine supports the instruction set.
    #[inline(always)]
    unsafe fn load<const HALVES: usize>(rows: &GemvRows<'_>, first: usize) -> Self {
        // SAFETY: the caller's promise; 32 lanes are two vectors.
        unsafe {
            let first_half = pairs(rows, first);
            let second_half = match HALVES {
                1 => first_half,
                _ => pairs(rows, first + 1),
            };
            let order = _mm512_setr_epi32(0, 8, 16, 24, 1, 9, 17, 25, 2, 10, 18, 26, 3, 11, 19, 27);
            let next = _mm512_add_epi32(order, _mm512_set1_epi32(4));
            let mut lanes = [0; 32];
            for (order, lanes) in [order, next].into_iter().zip(lanes.chunks_exact_mut(16)) {
                let pairs = _mm512_permutex2var_epi32(first_half, order, second_half);
                _mm512_storeu_si512(lanes.as_mut_ptr().cast(), pairs);
            }
            Self {
                rows: [first_half, second_half],
                lanes,
            }
        }
    }
}

/// The pairs of 16 rows of a group; 0 if K ends before it.
///
/// # Safety
/// The machine supports the instruction set.
#[inline(always)]
unsafe fn pairs(rows: &GemvRows<'_>, group: usize) -> __m512i {
    let (Some(at), Some(steps)) = (rows.index(group), rows.w.tiled_steps()) else {
        // SAFETY: arithmetic.
        return unsafe { _mm512_setzero_si512() };
    };
    // SAFETY: every slice has 16 elements, or indexing has panicked.
    unsafe {
        let step = _mm_loadu_si128(steps[at..at + TILE_N].as_ptr().cast());
        let step = _mm512_cvtepu8_epi32(step);
        let mut zero = _mm512_set1_epi32(8);
        if let Some(zeros) = rows.w.tiled_zeros() {
            let zeros = _mm_loadu_si128(zeros[at..at + TILE_N].as_ptr().cast());
            zero = _mm512_add_epi32(zero, _mm512_cvtepi8_epi32(zeros));
        }
        // In 16 bits: the high halves are 0.
        let offset = _mm512_mullo_epi16(step, zero);
        let negative = _mm512_sub_epi32(_mm512_setzero_si512(), offset);
        _mm512_or_si512(step, _mm512_slli_epi32::<16>(negative))
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
        // SAFETY: eight vectors are one tile, and `groups` has checked the lengths of the slices.
        unsafe {
            let (mask, eight) = (_mm512_set1_epi8(0x0F), _mm512_set1_epi8(8));
            let mut sum = [[_mm512_setzero_si512(); 8]; TOKENS];
            let mut offset = [_mm512_setzero_si512(); TOKENS];
            for (i, tiles) in groups.enumerate() {
                let steps = Steps::load::<HALVES>(&rows, i * HALVES);
                for half in 0..HALVES {
                    if rows.index(i * HALVES + half).is_some() {
                        for (t, offset) in offset.iter_mut().enumerate() {
                            // At most 128 * 255, which fits 16 bits.
                            let codes = rows.code_sum(i * HALVES + half, t) << 16;
                            let codes = _mm512_set1_epi32(codes);
                            *offset = _mm512_dpwssd_epi32(*offset, codes, steps.rows[half]);
                        }
                    }
                }
                for tile in tiles {
                    for g in 0..8 {
                        let words = _mm512_load_si512(tile.0.as_ptr().add(16 * g).cast());
                        // (words & mask) ^ eight is qw + 8.
                        let even = _mm512_ternarylogic_epi32::<0x6A>(words, mask, eight);
                        let odd = _mm512_srli_epi32::<4>(words);
                        let odd = _mm512_ternarylogic_epi32::<0x6A>(odd, mask, eight);
                        let step = _mm_loadu_si128(steps.lanes.as_ptr().add(4 * g).cast());
                        let step = _mm512_broadcast_i32x4(step);
                        for (t, sum) in sum.iter_mut().enumerate() {
                            let x = x.add(t * GEMV_WORDS);
                            // Eight products of at most 255 * 15: 30,600 fits the low 16 bits, and
                            // the high ones are 0.
                            let narrow = _mm512_setzero_si512();
                            let x_even = _mm512_loadu_si512(x.cast());
                            let narrow = _mm512_dpbusd_epi32(narrow, x_even, even);
                            let x_odd = _mm512_loadu_si512(x.add(16).cast());
                            let narrow = _mm512_dpbusd_epi32(narrow, x_odd, odd);
                            sum[g] = _mm512_dpwssd_epi32(sum[g], narrow, step);
                        }
                    }
                    x = x.wrapping_add(rows.stride);
                }
            }
            for (t, total) in total.iter_mut().enumerate() {
                // Both may have wrapped; their sum is in range.
                let sum = _mm512_add_epi32(row_sums::<1>(&sum[t], 0), offset[t]);
                _mm512_storeu_si512(total.as_mut_ptr().cast(), sum);
            }
        }
        total
    }
}
