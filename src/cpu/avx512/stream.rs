//! Codes past the tiles as they lie in memory: a vector of a tile is one g, its lanes (t, r) with rows g and g + 8, and
//! meets the codes of the same lanes. Rows come together only when a group ends.

use crate::cpu::kernel::Stream;
use crate::weights::layout::{TILE_N, Tile};
use std::arch::x86_64::*;

pub(in crate::cpu) struct Codes;

impl Stream for Codes {
    const OFFSET: i32 = 0;

    #[inline(always)]
    unsafe fn dot<const TOKENS: usize, const HALVES: usize>(
        tiles: &[Tile],
        x: [&[u32]; TOKENS],
        stride: usize,
    ) -> [[[i32; TILE_N]; HALVES]; TOKENS] {
        assert!(x.iter().all(|x| x.len() >= (tiles.len() - 1) * stride + 32));
        let mut sums = [[[0; TILE_N]; HALVES]; TOKENS];
        // SAFETY: eight vectors are one tile, and for each tile 32 words of every x are there (asserted).
        unsafe {
            let mask = _mm512_set1_epi8(0xF0u8 as i8);
            let mut sum = [[_mm512_setzero_si512(); 8]; TOKENS];
            for (i, tile) in tiles.iter().enumerate() {
                for g in 0..8 {
                    let words = _mm512_load_si512(tile.0.as_ptr().add(16 * g).cast());
                    // 16 * qw of the even and of the odd nibbles.
                    let even = _mm512_and_si512(_mm512_slli_epi32::<4>(words), mask);
                    let odd = _mm512_and_si512(words, mask);
                    for (sum, x) in sum.iter_mut().zip(x) {
                        let x = x.as_ptr().add(i * stride);
                        sum[g] = _mm512_dpbusd_epi32(sum[g], _mm512_loadu_si512(x.cast()), even);
                        let x = x.add(16);
                        sum[g] = _mm512_dpbusd_epi32(sum[g], _mm512_loadu_si512(x.cast()), odd);
                    }
                }
            }
            for (to, sum) in sums.iter_mut().zip(sum) {
                let mut first = [_mm512_setzero_si512(); 4];
                let mut second = first;
                for j in 0..4 {
                    first[j] = _mm512_unpacklo_epi64(sum[j], sum[j + 4]);
                    second[j] = _mm512_unpackhi_epi64(sum[j], sum[j + 4]);
                }
                if HALVES == 1 {
                    for (first, second) in first.iter_mut().zip(second) {
                        *first = _mm512_add_epi32(*first, second);
                    }
                } else {
                    _mm512_storeu_si512(to[HALVES - 1].as_mut_ptr().cast(), across(second));
                }
                _mm512_storeu_si512(to[0].as_mut_ptr().cast(), across(first));
            }
        }
        sums
    }
}

/// Adds the lanes t up. Each 128 bits of vector j hold, for one t, rows j, j + 8, j + 4, j + 12; out come the 16 rows,
/// their sums without the factor of 16.
///
/// # Safety
/// The machine has the instruction set.
#[inline(always)]
unsafe fn across(of: [__m512i; 4]) -> __m512i {
    // SAFETY: arithmetic.
    unsafe {
        let order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 1, 5, 9, 13, 3, 7, 11, 15);
        let sum = fold(fold(of[0], of[1]), fold(of[2], of[3]));
        _mm512_srai_epi32::<4>(_mm512_permutexvar_epi32(order, sum))
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
