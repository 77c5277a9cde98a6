//! Codes past the tiles as they lie in memory: two vectors of a tile are one g, their lanes (t, r) with rows g and g + 8,
//! and meet the codes of the same lanes. Rows come together only when a group ends.

use crate::cpu::kernel::Stream;
use crate::weights::layout::{TILE_N, Tile};
use std::arch::x86_64::*;

pub(in crate::cpu) struct Codes;

impl Stream for Codes {
    // A nibble with its sign bit turned is qw + 8, never negative: no sign to extend.
    const OFFSET: i32 = 8;

    #[inline(always)]
    unsafe fn dot<const TOKENS: usize, const HALVES: usize>(
        tiles: &[Tile],
        x: [&[u32]; TOKENS],
        stride: usize,
    ) -> [[[i32; TILE_N]; HALVES]; TOKENS] {
        assert!(x.iter().all(|x| x.len() >= (tiles.len() - 1) * stride + 32));
        let mut sums = [[[0; TILE_N]; HALVES]; TOKENS];
        // SAFETY: eight pairs of vectors are one tile, and for each tile 32 words of every x are there (asserted).
        unsafe {
            let (sign, low) = (_mm256_set1_epi8(0x88u8 as i8), _mm256_set1_epi8(0x0F));
            let ones = _mm256_set1_epi16(1);
            let mut sum = [[_mm256_setzero_si256(); 8]; TOKENS];
            for (i, tile) in tiles.iter().enumerate() {
                for g in 0..8 {
                    let words = tile.0.as_ptr().add(16 * g);
                    let first = _mm256_xor_si256(_mm256_load_si256(words.cast()), sign);
                    let second = _mm256_xor_si256(_mm256_load_si256(words.add(8).cast()), sign);
                    // The order of x: even quads of lanes t = 0, 1, then 2, 3; odd ones.
                    let weights = [
                        _mm256_and_si256(first, low),
                        _mm256_and_si256(second, low),
                        _mm256_and_si256(_mm256_srli_epi32::<4>(first), low),
                        _mm256_and_si256(_mm256_srli_epi32::<4>(second), low),
                    ];
                    for (sum, x) in sum.iter_mut().zip(x) {
                        let x = x.as_ptr().add(i * stride);
                        // Four times two products of at most 255 * 15: 30,600 fits.
                        let mut narrow = _mm256_setzero_si256();
                        for (n, w) in weights.into_iter().enumerate() {
                            let x = _mm256_loadu_si256(x.add(8 * n).cast());
                            narrow = _mm256_add_epi16(narrow, _mm256_maddubs_epi16(x, w));
                        }
                        sum[g] = _mm256_add_epi32(sum[g], _mm256_madd_epi16(narrow, ones));
                    }
                }
            }
            for (to, sum) in sums.iter_mut().zip(sum) {
                let mut first = [_mm256_setzero_si256(); 4];
                let mut second = first;
                for j in 0..4 {
                    first[j] = _mm256_unpacklo_epi64(sum[j], sum[j + 4]);
                    second[j] = _mm256_unpackhi_epi64(sum[j], sum[j + 4]);
                }
                if HALVES == 1 {
                    for (first, second) in first.iter_mut().zip(second) {
                        *first = _mm256_add_epi32(*first, second);
                    }
                } else {
                    across(second, &mut to[HALVES - 1]);
                }
                across(first, &mut to[0]);
            }
        }
        sums
    }
}

/// Adds the lanes t up. Each 128 bits of vector j hold, for two t, rows j, j + 8, j + 4, j + 12; out come the 16 rows.
///
/// # Safety
/// The machine has the instruction set.
#[inline(always)]
unsafe fn across(of: [__m256i; 4], rows: &mut [i32; TILE_N]) {
    // SAFETY: 16 rows are four vectors of four.
    unsafe {
        let (p, q) = (fold(of[0], of[1]), fold(of[2], of[3]));
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let first = _mm256_permutevar8x32_epi32(_mm256_unpacklo_epi32(p, q), order);
        let second = _mm256_permutevar8x32_epi32(_mm256_unpackhi_epi32(p, q), order);
        let to = rows.as_mut_ptr();
        _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(first));
        _mm_storeu_si128(to.add(8).cast(), _mm256_extracti128_si256::<1>(first));
        _mm_storeu_si128(to.add(4).cast(), _mm256_castsi256_si128(second));
        _mm_storeu_si128(to.add(12).cast(), _mm256_extracti128_si256::<1>(second));
    }
}

/// 128 bits each: `[a0 + a1, b0 + b1]`.
///
/// # Safety
/// The machine has the instruction set.
#[inline(always)]
unsafe fn fold(a: __m256i, b: __m256i) -> __m256i {
    // SAFETY: arithmetic.
    unsafe {
        _mm256_add_epi32(
            _mm256_permute2x128_si256::<0x20>(a, b),
            _mm256_permute2x128_si256::<0x31>(a, b),
        )
    }
}
