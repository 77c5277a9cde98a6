//! The microkernel for f32 activations: products with `qw - zw`, k ascending.

use super::{RowParams, VectorOps};
use crate::cpu::microkernel::NR;
use crate::cpu::microkernel::TokenParams;
use std::arch::x86_64::*;

/// The microkernel. A word is one activation or one weight.
pub(in crate::cpu) struct Floats;

impl VectorOps for Floats {
    const K_PER_WORD: usize = 1;

    #[inline(always)]
    unsafe fn unpack(words: [__m512i; 4], zero: &[i32], panel: *mut u32) {
        // SAFETY: the panel holds `[32][NR]` words, and `zero` 16 zero points.
        unsafe {
            // `permutexvar` reads only the low four bits of a lane: one instruction converts an
            // INT4 to f32.
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
                    _mm512_storeu_ps(panel.add(k * NR).cast(), w);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply_add(sum: __m512i, x: __m512i, w: __m512i) -> __m512i {
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
    unsafe fn rescale(sum: __m512i, _: &TokenParams, params: &RowParams, acc: __m512) -> __m512 {
        // SAFETY: arithmetic.
        unsafe { _mm512_fmadd_ps(_mm512_castsi512_ps(sum), params.scale, acc) }
    }
}
