//! AVX2 and FMA: 8 rows a vector.

mod float;
mod gemv;
mod integer;

use crate::cpu::gemm::{Arch, Task};
use crate::weights::layout::Tile;
use std::arch::x86_64::*;

pub(in crate::cpu) struct Avx2;

impl Arch for Avx2 {
    type Integer = integer::Codes;
    type Float = float::Floats;
    type Stream = gemv::Codes;

    #[target_feature(enable = "avx2,fma")]
    unsafe fn enter<T: Task>(task: T) -> T::Output {
        // SAFETY: passed on.
        unsafe { task.run::<Self>() }
    }
}

/// Calls `$multiply::<T>($strip)` for a strip of T tokens, at most six: with two vectors of rows 12 accumulators.
macro_rules! by_tokens {
    ($multiply:ident, $strip:ident) => {
        match $strip.check() {
            1 => $multiply::<1>($strip),
            2 => $multiply::<2>($strip),
            3 => $multiply::<3>($strip),
            4 => $multiply::<4>($strip),
            5 => $multiply::<5>($strip),
            6 => $multiply::<6>($strip),
            _ => unreachable!("a strip has at most 6 tokens"),
        }
    };
}
use by_tokens;

/// Half `half` of four g of a tile from `g` on, lanes t = 2 pair and 2 pair + 1 in 128 bits each: rows g.. (even words) and
/// rows g + 8.. (odd ones).
///
/// A function, not a closure: a closure would be compiled without the instruction set.
///
/// # Safety
/// The machine has the instruction set; `g` is 0 or 4, `pair` 0 or 1.
#[inline(always)]
unsafe fn turn_four(tile: &Tile, half: usize, g: usize, pair: usize) -> [__m256i; 2] {
    // SAFETY: sixteen vectors of 32 bytes are one tile; the rest is arithmetic.
    unsafe {
        let from = tile.0.as_ptr().add(16 * g + 8 * pair);
        let a = _mm256_load_si256(from.cast());
        let b = _mm256_load_si256(from.add(16).cast());
        let c = _mm256_load_si256(from.add(32).cast());
        let d = _mm256_load_si256(from.add(48).cast());
        let (ab, cd) = if half == 0 {
            (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d))
        } else {
            (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d))
        };
        [_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd)]
    }
}

/// Half `half` of a tile, turned: `[t][rows 0-7, rows 8-15]`, each lane the word of lane (g = row & 7, t).
///
/// # Safety
/// The machine has the instruction set.
#[inline(always)]
unsafe fn turn(tile: &Tile, half: usize) -> [[__m256i; 2]; 4] {
    // SAFETY: as `turn_four`.
    unsafe {
        let mut turned = [[_mm256_setzero_si256(); 2]; 4];
        for pair in 0..2 {
            let low = turn_four(tile, half, 0, pair);
            let high = turn_four(tile, half, 4, pair);
            for rows in 0..2 {
                turned[2 * pair][rows] = _mm256_permute2x128_si256::<0x20>(low[rows], high[rows]);
                turned[2 * pair + 1][rows] =
                    _mm256_permute2x128_si256::<0x31>(low[rows], high[rows]);
            }
        }
        turned
    }
}
