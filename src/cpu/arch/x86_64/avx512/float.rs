//! f32 activations times `qw - zw`, k ascending.

use super::{Lanes, RowsBeside};
use crate::cpu::microkernel::Token;
use crate::cpu::workspace::BLOCK_N;
use std::arch::x86_64::*;

/// Words: one activation; one weight.
pub(in crate::cpu) struct Floats;

impl Lanes for Floats {
    const K_PER_WORD: usize = 1;

    #[inline(always)]
    unsafe fn unpack(words: [__m512i; 4], zero: &[i32], panel: *mut u32) {
        // SAFETY: 32 words of BLOCK_N from here on are the panel's, and 16 zero points are given.
        unsafe {
            // `permutexvar` looks at the low four bits of a lane only: an INT4 becomes its f32 in one step.
            let values = _mm512_setr_ps(
                0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, -8.0, -7.0, -6.0, -5.0, -4.0, -3.0, -2.0,
                -1.0,
            );
            let zero = _mm512_cvtepi32_ps(_mm512_loadu_si512(zero.as_ptr().cast()));
            for (t, words) in words.into_iter().enumerate() {
                for nibble in 0..8 {
                    let k = 16 * ((nibble >> 1) & 1) + 8 * (nibble & 1) + 2 * t + (nibble >> 2);
                    let down = _mm_cvtsi32_si128(4 * nibble as i32);
                    let words = _mm512_srl_epi32(words, down);
                    let w = _mm512_sub_ps(_mm512_permutexvar_ps(words, values), zero);
                    _mm512_storeu_ps(panel.add(k * BLOCK_N).cast(), w);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn step(sum: __m512i, x: __m512i, w: __m512i) -> __m512i {
        // SAFETY: arithmetic.
        unsafe {
            let (sum, x, w) = (
                _mm512_castsi512_ps(sum),
                _mm512_castsi512_ps(x),
                _mm512_castsi512_ps(w),
            );
            _mm512_castps_si512(_mm512_fmadd_ps(x, w, sum))
        }
    }

    #[inline(always)]
    unsafe fn rescale(sum: __m512i, _: &Token, beside: &RowsBeside, acc: __m512) -> __m512 {
        // SAFETY: arithmetic.
        unsafe { _mm512_fmadd_ps(_mm512_castsi512_ps(sum), beside.scale, acc) }
    }
}
