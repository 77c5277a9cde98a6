//! u8 codes times `16 * qw` in i32: `dpbusd` does not saturate, and 65,536 * 255 * 128 fits.

use super::{Lanes, RowsBeside};
use crate::cpu::microkernel::Token;
use crate::cpu::workspace::BLOCK_N;
use std::arch::x86_64::*;

/// Words: four codes; four weights.
pub(in crate::cpu) struct Codes;

impl Lanes for Codes {
    const K_PER_WORD: usize = 4;

    #[inline(always)]
    unsafe fn unpack(words: [__m512i; 4], _: &[i32], panel: *mut u32) {
        // SAFETY: eight words of BLOCK_N from here on are the panel's.
        unsafe {
            let mask = _mm512_set1_epi8(0xF0u8 as i8);
            for (t, words) in words.into_iter().enumerate() {
                let even = _mm512_and_si512(_mm512_slli_epi32::<4>(words), mask);
                let odd = _mm512_and_si512(words, mask);
                _mm512_storeu_si512(panel.add(2 * t * BLOCK_N).cast(), even);
                _mm512_storeu_si512(panel.add((2 * t + 1) * BLOCK_N).cast(), odd);
            }
        }
    }

    #[inline(always)]
    unsafe fn step(sum: __m512i, x: __m512i, w: __m512i) -> __m512i {
        // SAFETY: arithmetic.
        unsafe { _mm512_dpbusd_epi32(sum, x, w) }
    }

    #[inline(always)]
    unsafe fn rescale(sum: __m512i, token: &Token, beside: &RowsBeside, acc: __m512) -> __m512 {
        // SAFETY: passed on.
        unsafe { rescale(sum, token, beside, acc) }
    }
}

/// `fma(f32(d), sa*sw, acc)`; `sum` is `16 * sum qa*qw`.
///
/// # Safety
/// The machine has the instruction set.
#[inline(always)]
pub(super) unsafe fn rescale(
    sum: __m512i,
    token: &Token,
    beside: &RowsBeside,
    acc: __m512,
) -> __m512 {
    // SAFETY: arithmetic.
    unsafe {
        let (sum, group) = (_mm512_srai_epi32::<4>(sum), &token.group);
        let d = if beside.narrow {
            _mm512_dpwssd_epi32(sum, _mm512_set1_epi32(token.pair as i32), beside.pair)
        } else {
            let za = _mm512_mullo_epi32(_mm512_set1_epi32(group.zero), beside.sum);
            let zw = _mm512_mullo_epi32(_mm512_set1_epi32(group.sum), beside.zero);
            _mm512_sub_epi32(_mm512_sub_epi32(sum, za), zw)
        };
        let step = _mm512_mul_ps(_mm512_set1_ps(group.scale), beside.scale);
        _mm512_fmadd_ps(_mm512_cvtepi32_ps(d), step, acc)
    }
}
