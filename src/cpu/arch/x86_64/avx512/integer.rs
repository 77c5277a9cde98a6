//! The microkernel for u8 codes: products with `16 * qw`, or with `w8`, in i32. `dpbusd` does not
//! saturate, and 65,536 * 255 * 128 fits.

use super::{RowParams, UnpackParams, VectorOps, load_512};
use crate::cpu::microkernel::NR;
use crate::cpu::params::TokenParams;
use std::arch::x86_64::*;

/// The microkernel. A word is four codes or four weights.
pub(in crate::cpu) struct Codes<const TWO_LEVEL: bool>;

impl<const TWO_LEVEL: bool> VectorOps for Codes<TWO_LEVEL> {
    const K_PER_WORD: usize = 4;
    const TWO_LEVEL: bool = TWO_LEVEL;

    #[inline(always)]
    unsafe fn unpack(words: [__m512i; 4], params: UnpackParams<'_>, panel: *mut u32) {
        // SAFETY: the panel holds `[8][NR]` words.
        unsafe {
            if TWO_LEVEL {
                return unpack_two_level(words, params, panel);
            }
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
        unsafe {
            let sum = match TWO_LEVEL {
                false => _mm512_srai_epi32::<4>(sum),
                true => sum,
            };
            rescale(sum, token, params, acc)
        }
    }
}

/// Unpacks to `w8`. `qw + 8` and the step are not negative and their product is at most 240, so one
/// product of 16 bits multiplies two bytes without a carry between them. The subtraction of `sg *
/// (8 + zg)` modulo 256 then gives the 8 bits of `w8`.
///
/// # Safety
/// The machine supports the instruction set; the panel holds `[8][NR]` words.
#[inline(always)]
unsafe fn unpack_two_level(words: [__m512i; 4], params: UnpackParams<'_>, panel: *mut u32) {
    // SAFETY: the caller's promise.
    unsafe {
        let (mask, eight) = (_mm512_set1_epi8(0x0F), _mm512_set1_epi8(8));
        let step = load_512(params.step_pair);
        let offset = load_512(params.offset_bytes);
        for (t, words) in words.into_iter().enumerate() {
            for (odd, words) in [words, _mm512_srli_epi32::<4>(words)]
                .into_iter()
                .enumerate()
            {
                // (words & mask) ^ eight is qw + 8.
                let q = _mm512_ternarylogic_epi32::<0x6A>(words, mask, eight);
                let w = _mm512_sub_epi8(_mm512_mullo_epi16(q, step), offset);
                _mm512_storeu_si512(panel.add((2 * t + odd) * NR).cast(), w);
            }
        }
    }
}

/// Computes `fma(f32(d), sa*sw, acc)` of 16 rows; `sum` is `sum qa*qw`, or `sum qa*w8`.
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
        let group = &token.group;
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
