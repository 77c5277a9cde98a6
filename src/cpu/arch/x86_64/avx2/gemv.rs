//! The GEMV microkernel: codes times the tiles of W as they are in memory.
//!
//! Two vectors of a tile are one g; their lanes (t, r) hold rows g and g + 8 and are multiplied
//! with the codes of the same lanes. The lanes of a row are added at the end of a group.

use super::integer::rescale;
use crate::cpu::microkernel::{GEMV_WORDS, GemvGroup, GemvKernel};
use crate::cpu::params::GroupParams;
use crate::weights::layout::{TILE_N, Tile};
use std::arch::x86_64::*;

/// The GEMV microkernel.
pub(in crate::cpu) struct CodesGemv;

/// A nibble with its sign bit flipped is qw + 8, which is not negative: no sign extension is
/// needed.
const OFFSET: i32 = 8;

/// Returns `qw + 8` of rows g and g + 8 of a tile, in the order of x: even quads of lanes t = 0, 1
/// and of t = 2, 3, then odd quads.
///
/// # Safety
/// The machine supports the instruction set.
#[inline(always)]
pub(super) unsafe fn offset_weights(tile: &Tile, g: usize) -> [__m256i; 4] {
    // SAFETY: eight pairs of vectors are one tile.
    unsafe {
        let (sign, low) = (_mm256_set1_epi8(0x88u8 as i8), _mm256_set1_epi8(0x0F));
        let words = tile.0.as_ptr().add(16 * g);
        let first = _mm256_xor_si256(_mm256_load_si256(words.cast()), sign);
        let second = _mm256_xor_si256(_mm256_load_si256(words.add(8).cast()), sign);
        [
            _mm256_and_si256(first, low),
            _mm256_and_si256(second, low),
            _mm256_and_si256(_mm256_srli_epi32::<4>(first), low),
            _mm256_and_si256(_mm256_srli_epi32::<4>(second), low),
        ]
    }
}

/// Returns the products of the codes of a token with [`offset_weights`], eight to an i16.
///
/// # Safety
/// The machine supports the instruction set; `x` has [`GEMV_WORDS`] words.
#[inline(always)]
pub(super) unsafe fn narrow_sums(x: *const u32, weights: [__m256i; 4]) -> __m256i {
    // SAFETY: four vectors are GEMV_WORDS words.
    unsafe {
        // Four sums of two products of at most 255 * 15: 30,600 fits i16.
        let mut narrow = _mm256_setzero_si256();
        for (n, w) in weights.into_iter().enumerate() {
            let x = _mm256_loadu_si256(x.add(8 * n).cast());
            narrow = _mm256_add_epi16(narrow, _mm256_maddubs_epi16(x, w));
        }
        narrow
    }
}

impl GemvKernel for CodesGemv {
    #[inline(always)]
    unsafe fn group<const TOKENS: usize, const HALVES: usize>(
        group: GemvGroup<'_>,
        acc: &mut [[f32; TILE_N]; TOKENS],
    ) {
        group.check(TOKENS, HALVES);
        // SAFETY: eight pairs of vectors are one tile, and `check` has checked the lengths of the
        // slices.
        unsafe {
            let ones = _mm256_set1_epi16(1);
            let mut sum = [[_mm256_setzero_si256(); 8]; TOKENS];
            for (i, tile) in group.tiles.iter().enumerate() {
                for g in 0..8 {
                    let weights = offset_weights(tile, g);
                    for (t, sum) in sum.iter_mut().enumerate() {
                        let x = group.x.as_ptr().add(i * group.stride + t * GEMV_WORDS);
                        let narrow = narrow_sums(x, weights);
                        sum[g] = _mm256_add_epi32(sum[g], _mm256_madd_epi16(narrow, ones));
                    }
                }
            }
            for (half, tokens) in group.tokens.into_iter().flatten().enumerate() {
                let mut params = GroupParams::ZERO;
                params.load(group.w, group.at + half * TILE_N, 0);
                for (zero, pair) in params.zero.iter_mut().zip(&mut params.pair) {
                    *zero += OFFSET;
                    *pair = pair.wrapping_add((OFFSET as u32) << 16);
                }
                for t in 0..TOKENS {
                    let sums = row_sums::<HALVES>(&sum[t], half);
                    rescale::<TILE_N>(&sums, &tokens[t], &params, &mut acc[t]);
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
pub(super) unsafe fn row_sums<const HALVES: usize>(
    sum: &[__m256i; 8],
    half: usize,
) -> [u32; TILE_N] {
    // SAFETY: arithmetic.
    unsafe {
        let mut pairs = [_mm256_setzero_si256(); 4];
        for (j, pair) in pairs.iter_mut().enumerate() {
            // Words 0 and 1 are the first half of k, words 2 and 3 the second.
            let first = _mm256_unpacklo_epi64(sum[j], sum[j + 4]);
            let second = _mm256_unpackhi_epi64(sum[j], sum[j + 4]);
            *pair = match (HALVES, half) {
                (1, _) => _mm256_add_epi32(first, second),
                (_, 0) => first,
                _ => second,
            };
        }
        sum_lanes(pairs)
    }
}

/// Adds the lanes t and returns 16 rows. 128 bits of vector j hold, for one of two t, rows j, j +
/// 8, j + 4 and j + 12.
///
/// # Safety
/// The machine supports the instruction set.
#[inline(always)]
unsafe fn sum_lanes(v: [__m256i; 4]) -> [u32; TILE_N] {
    let mut rows = [0; TILE_N];
    // SAFETY: four vectors of 4 rows are 16 rows.
    unsafe {
        let (p, q) = (fold(v[0], v[1]), fold(v[2], v[3]));
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let first = _mm256_permutevar8x32_epi32(_mm256_unpacklo_epi32(p, q), order);
        let second = _mm256_permutevar8x32_epi32(_mm256_unpackhi_epi32(p, q), order);
        let to: *mut u32 = rows.as_mut_ptr();
        _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(first));
        _mm_storeu_si128(to.add(8).cast(), _mm256_extracti128_si256::<1>(first));
        _mm_storeu_si128(to.add(4).cast(), _mm256_castsi256_si128(second));
        _mm_storeu_si128(to.add(12).cast(), _mm256_extracti128_si256::<1>(second));
    }
    rows
}

/// Adds the 128-bit halves: `[a0 + a1, b0 + b1]`.
///
/// # Safety
/// The machine supports the instruction set.
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
