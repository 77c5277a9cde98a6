//! The GEMV microkernel: codes times the tiles of W as they are in memory.
//!
//! A vector of a tile is one g; its lanes (t, r) hold rows g and g + 8 and are multiplied with the
//! codes of the same lanes. The lanes of a row are added at the end of a group.

use super::RowParams;
use super::integer::rescale;
use crate::cpu::microkernel::{GEMV_WORDS, GemvGroup, GemvKernel};
use crate::weights::layout::TILE_N;
use std::arch::x86_64::*;

/// The GEMV microkernel.
pub(in crate::cpu) struct CodesGemv;

impl GemvKernel for CodesGemv {
    #[inline(always)]
    unsafe fn group<const TOKENS: usize, const HALVES: usize>(
        group: GemvGroup<'_>,
        acc: &mut [[f32; TILE_N]; TOKENS],
    ) {
        group.check(TOKENS, HALVES);
        // SAFETY: eight vectors are one tile, and `check` has checked the lengths of the slices.
        unsafe {
            let mask = _mm512_set1_epi8(0xF0u8 as i8);
            let mut sum = [[_mm512_setzero_si512(); 8]; TOKENS];
            for (i, tile) in group.tiles.iter().enumerate() {
                for g in 0..8 {
                    let words = _mm512_load_si512(tile.0.as_ptr().add(16 * g).cast());
                    // 16 * qw of the even nibbles and of the odd ones.
                    let even = _mm512_and_si512(_mm512_slli_epi32::<4>(words), mask);
                    let odd = _mm512_and_si512(words, mask);
                    for (t, sum) in sum.iter_mut().enumerate() {
                        let x = group.x.as_ptr().add(i * group.stride + t * GEMV_WORDS);
                        sum[g] = _mm512_dpbusd_epi32(sum[g], _mm512_loadu_si512(x.cast()), even);
                        let x = x.add(16);
                        sum[g] = _mm512_dpbusd_epi32(sum[g], _mm512_loadu_si512(x.cast()), odd);
                    }
                }
            }
            for (half, tokens) in group.tokens.into_iter().flatten().enumerate() {
                let params = RowParams::load(group.w, group.at + half * TILE_N);
                for t in 0..TOKENS {
                    let sum = _mm512_srai_epi32::<4>(row_sums::<HALVES>(&sum[t], half));
                    let acc = acc[t].as_mut_ptr();
                    let next = rescale(sum, &tokens[t], &params, _mm512_loadu_ps(acc));
                    _mm512_storeu_ps(acc, next);
                }
            }
        }
    }
}

/// Adds the lanes of each of 16 rows: of half `half` of k, or of both if `HALVES` is 1.
///
/// # Safety
/// The machine supports the instruction set.
#[inline(always)]
pub(super) unsafe fn row_sums<const HALVES: usize>(sum: &[__m512i; 8], half: usize) -> __m512i {
    // SAFETY: arithmetic.
    unsafe {
        let mut pairs = [_mm512_setzero_si512(); 4];
        for (j, pair) in pairs.iter_mut().enumerate() {
            // Words 0 and 1 are the first half of k, words 2 and 3 the second.
            let first = _mm512_unpacklo_epi64(sum[j], sum[j + 4]);
            let second = _mm512_unpackhi_epi64(sum[j], sum[j + 4]);
            *pair = match (HALVES, half) {
                (1, _) => _mm512_add_epi32(first, second),
                (_, 0) => first,
                _ => second,
            };
        }
        sum_lanes(pairs)
    }
}

/// Adds the lanes t and returns 16 rows. 128 bits of vector j hold, for one t, rows j, j + 8, j + 4
/// and j + 12.
///
/// # Safety
/// The machine supports the instruction set.
#[inline(always)]
unsafe fn sum_lanes(v: [__m512i; 4]) -> __m512i {
    // SAFETY: arithmetic.
    unsafe {
        let order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 1, 5, 9, 13, 3, 7, 11, 15);
        let sum = fold(fold(v[0], v[1]), fold(v[2], v[3]));
        _mm512_permutexvar_epi32(order, sum)
    }
}

/// Adds neighboring 128-bit quarters: `[a0 + a1, a2 + a3, b0 + b1, b2 + b3]`.
///
/// # Safety
/// The machine supports the instruction set.
#[inline(always)]
unsafe fn fold(a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: arithmetic.
    unsafe {
        _mm512_add_epi32(
            _mm512_shuffle_i32x4::<0x88>(a, b),
            _mm512_shuffle_i32x4::<0xDD>(a, b),
        )
    }
}
