//! Codes past the tiles as they lie in memory: a vector of a tile is one g, its lanes (t, r) with rows g and g + 8, and
//! meets the codes of the same lanes. Rows come together only when a group ends.

use super::RowsBeside;
use super::integer::rescale;
use crate::cpu::microkernel::{STREAM_WORDS, Stream, StreamGroup};
use crate::weights::layout::TILE_N;
use std::arch::x86_64::*;

pub(in crate::cpu) struct Codes;

impl Stream for Codes {
    #[inline(always)]
    unsafe fn group<const TOKENS: usize, const HALVES: usize>(
        of: StreamGroup<'_>,
        acc: &mut [[f32; TILE_N]; TOKENS],
    ) {
        of.check(TOKENS, HALVES);
        // SAFETY: eight vectors are one tile, and `check` has compared the lengths of the slices that are walked here.
        unsafe {
            let mask = _mm512_set1_epi8(0xF0u8 as i8);
            let mut sum = [[_mm512_setzero_si512(); 8]; TOKENS];
            for (i, tile) in of.tiles.iter().enumerate() {
                for g in 0..8 {
                    let words = _mm512_load_si512(tile.0.as_ptr().add(16 * g).cast());
                    // 16 * qw of the even and of the odd nibbles.
                    let even = _mm512_and_si512(_mm512_slli_epi32::<4>(words), mask);
                    let odd = _mm512_and_si512(words, mask);
                    for (t, sum) in sum.iter_mut().enumerate() {
                        let x = of.x.as_ptr().add(i * of.stride + t * STREAM_WORDS);
                        sum[g] = _mm512_dpbusd_epi32(sum[g], _mm512_loadu_si512(x.cast()), even);
                        let x = x.add(16);
                        sum[g] = _mm512_dpbusd_epi32(sum[g], _mm512_loadu_si512(x.cast()), odd);
                    }
                }
            }
            for (half, tokens) in of.tokens.into_iter().flatten().enumerate() {
                let beside = RowsBeside::load(of.w, of.at + half * TILE_N);
                for t in 0..TOKENS {
                    let mut pairs = [_mm512_setzero_si512(); 4];
                    for (j, pair) in pairs.iter_mut().enumerate() {
                        // The words of the first half, 0 and 1, then those of the second, 2 and 3.
                        let first = _mm512_unpacklo_epi64(sum[t][j], sum[t][j + 4]);
                        let second = _mm512_unpackhi_epi64(sum[t][j], sum[t][j + 4]);
                        *pair = match (HALVES, half) {
                            (1, _) => _mm512_add_epi32(first, second),
                            (_, 0) => first,
                            _ => second,
                        };
                    }
                    let acc = acc[t].as_mut_ptr();
                    let next = rescale(across(pairs), &tokens[t], &beside, _mm512_loadu_ps(acc));
                    _mm512_storeu_ps(acc, next);
                }
            }
        }
    }
}

/// Adds the lanes t up. Each 128 bits of vector j hold, for one t, rows j, j + 8, j + 4, j + 12; out come the 16 rows.
///
/// # Safety
/// The machine has the instruction set.
#[inline(always)]
unsafe fn across(of: [__m512i; 4]) -> __m512i {
    // SAFETY: arithmetic.
    unsafe {
        let order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 1, 5, 9, 13, 3, 7, 11, 15);
        let sum = fold(fold(of[0], of[1]), fold(of[2], of[3]));
        _mm512_permutexvar_epi32(order, sum)
    }
}

/// 128 bits each: `[a0 + a1, a2 + a3, b0 + b1, b2 + b3]`.
///
/// # Safety
/// The machine has the instruction set.
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
