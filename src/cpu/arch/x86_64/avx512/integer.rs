//! The microkernel for u8 codes: products with `16 * qw` in i32. `dpbusd` does not saturate, and
//! 65,536 * 255 * 128 fits.

use super::{RowParams, VectorOps};
use crate::cpu::microkernel::NR;
use crate::cpu::microkernel::TokenParams;
use std::arch::x86_64::*;

/// The microkernel. A word is four codes or four weights.
pub(in crate::cpu) struct Codes;

impl VectorOps for Codes {
    const K_PER_WORD: usize = 4;

    #[inline(always)]
    unsafe fn unpack(words: [__m512i; 4], _: &[i32], panel: *mut u32) {
        // SAFETY: the panel holds `[8][NR]` words.
        unsafe {
            let mask = _mm512_set1_epi8(0xF0u8 as i8);
            for (t, words) in words.into_iter().enumerate() {
                let even = _mm512_and_si512(_mm512_slli_epi32::<4>(words), mask);
                let odd = _mm512_and_si512(words, mask);
                _mm512_storeu_si512(panel.add(2 * t * NR).cast(), even);
                _mm512_storeu_si512(panel.add((2 * t + 1) * NR).cast(), odd);
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply_add(sum: __m512i, x: __m512i, w: __m512i) -> __m512i {
        // SAFETY: arithmetic.
        unsafe { _mm512_dpbusd_epi32(sum, x, w) }
    }

    #[inline(always)]
    unsafe fn rescale(
        sum: __m512i,
        token: &TokenParams,
        params: &RowParams,
        acc: __m512,
    ) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { rescale(sum, token, params, acc) }
    }
}

/// Computes `fma(f32(d), sa*sw, acc)` of 16 rows; `sum` is `16 * sum qa*qw`.
///
/// # Safety
/// The machine supports the instruction set.
#[inline(always)]
pub(super) unsafe fn rescale(
    sum: __m512i,
    token: &TokenParams,
    params: &RowParams,
    acc: __m512,
) -> __m512 {
    // SAFETY: arithmetic.
    unsafe {
        let (sum, group) = (_mm512_srai_epi32::<4>(sum), &token.group);
        let d = if params.narrow {
            _mm512_dpwssd_epi32(sum, _mm512_set1_epi32(token.pair as i32), params.pair)
        } else {
            let za = _mm512_mullo_epi32(_mm512_set1_epi32(group.zero), params.sum);
            let zw = _mm512_mullo_epi32(_mm512_set1_epi32(group.sum), params.zero);
            _mm512_sub_epi32(_mm512_sub_epi32(sum, za), zw)
        };
        let step = _mm512_mul_ps(_mm512_set1_ps(group.scale), params.scale);
        _mm512_fmadd_ps(_mm512_cvtepi32_ps(d), step, acc)
    }
}
