//! The microkernels for AVX2 and FMA: a vector holds 8 rows.

mod float;
mod gemv;
mod gemv_two_level;
mod integer;

use crate::cpu::microkernel::{Arch, Task};
use crate::weights::layout::Tile;
use std::arch::x86_64::*;

pub(in crate::cpu) struct Avx2;

impl Arch for Avx2 {
    type Integer<const TWO_LEVEL: bool> = integer::Codes<TWO_LEVEL>;
    type Float<const TWO_LEVEL: bool> = float::Floats<TWO_LEVEL>;
    type Gemv = gemv::CodesGemv;
    type TwoLevelGemv = gemv_two_level::CodesGemv;

    #[target_feature(enable = "avx2,fma")]
    unsafe fn enter<T: Task>(task: T) -> T::Output {
        // SAFETY: the caller's promise.
        unsafe { task.run::<Self>() }
    }
}

/// Calls `$multiply::<T, ...>($micro)` for T tokens. MR is 6: with two vectors of rows these are 12
/// accumulators.
macro_rules! by_tokens {
    ($multiply:ident $(<$parameter:ident>)?, $micro:ident) => {
        match $micro.check() {
            1 => $multiply::<1 $(, $parameter)?>($micro),
            2 => $multiply::<2 $(, $parameter)?>($micro),
            3 => $multiply::<3 $(, $parameter)?>($micro),
            4 => $multiply::<4 $(, $parameter)?>($micro),
            5 => $multiply::<5 $(, $parameter)?>($micro),
            6 => $multiply::<6 $(, $parameter)?>($micro),
            _ => unreachable!("MR is 6"),
        }
    };
}
use by_tokens;

/// Transposes 4 x 4 words of half `half` of a tile: four g from `g` on. 128-bit lane t' of the
/// result holds lane t = 2 pair + t' of rows g.. (first vector) and of rows g + 8.. (second
/// vector).
///
/// A function and not a closure, which would be compiled without the instruction set.
///
/// # Safety
/// The machine supports the instruction set; `g` is 0 or 4, `pair` 0 or 1.
#[inline(always)]
unsafe fn transpose_x4(tile: &Tile, half: usize, g: usize, pair: usize) -> [__m256i; 2] {
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

/// Transposes half `half` of a tile: `[t][rows 0-7, rows 8-15]`. Each element is the word of lane
/// (g = row & 7, t).
///
/// # Safety
/// The machine supports the instruction set.
#[inline(always)]
unsafe fn transpose(tile: &Tile, half: usize) -> [[__m256i; 2]; 4] {
    // SAFETY: as `transpose_x4`.
    unsafe {
        let mut transposed = [[_mm256_setzero_si256(); 2]; 4];
        for pair in 0..2 {
            let low = transpose_x4(tile, half, 0, pair);
            let high = transpose_x4(tile, half, 4, pair);
            for rows in 0..2 {
                transposed[2 * pair][rows] =
                    _mm256_permute2x128_si256::<0x20>(low[rows], high[rows]);
                transposed[2 * pair + 1][rows] =
                    _mm256_permute2x128_si256::<0x31>(low[rows], high[rows]);
            }
        }
        transposed
    }
}
