//! The microkernel for f32 activations: products with `qw - zw` or `w8`, k
//! ascending.

use super::{RowParams, UnpackParams, VectorOps, load_512};
use crate::cpu::microkernel::NR;
use crate::cpu::params::TokenParams;
use std::arch::x86_64::*;

/// The constants of decoding 16 rows to f32, in registers.
#[derive(Clone, Copy)]
pub(super) struct Decoder {
    /// The f32 of each INT4.
    values: __m512,
    /// `zw` of a grouped weight.
    zero: __m512,
    /// `sg` of a two-level weight.
    step: __m512,
    /// `zg * sg`.
    offset: __m512,
}

impl Decoder {
    /// # Safety
    /// The machine supports the instruction set.
    #[inline(always)]
    pub unsafe fn new(params: UnpackParams<'_>) -> Self {
        // SAFETY: arithmetic.
        unsafe {
            Self {
                values: _mm512_setr_ps(
                    0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, -8.0, -7.0, -6.0, -5.0, -4.0, -3.0,
                    -2.0, -1.0,
                ),
                zero: _mm512_cvtepi32_ps(load_512(params.zero)),
                step: _mm512_castsi512_ps(load_512(params.step_f32)),
                offset: _mm512_castsi512_ps(load_512(params.offset_f32)),
            }
        }
    }

    /// `qw - zw`, or `w8` of a two-level weight, of the low nibbles. Both are exact: integers of at
    /// most 8 bits.
    ///
    /// # Safety
    /// The machine supports the instruction set.
    #[inline(always)]
    pub unsafe fn decode<const TWO_LEVEL: bool>(&self, words: __m512i) -> __m512 {
        // SAFETY: arithmetic.
        unsafe {
            // `permutexvar` reads only the low four bits of a lane: one instruction converts an
            // INT4 to f32.
            let q = _mm512_permutexvar_ps(words, self.values);
            match TWO_LEVEL {
                false => _mm512_sub_ps(q, self.zero),
                true => self.scale(q),
            }
        }
    }

    /// `w8` of `qw` in f32.
    ///
    /// # Safety
    /// The machine supports the instruction set.
    #[inline(always)]
    pub unsafe fn scale(&self, q: __m512) -> __m512 {
        // SAFETY: arithmetic.
        unsafe { _mm512_fmsub_ps(q, self.step, self.offset) }
    }
}

/// The microkernel. A word is one activation or one weight.
pub(in crate::cpu) struct Floats<const TWO_LEVEL: bool>;

impl<const TWO_LEVEL: bool> VectorOps for Floats<TWO_LEVEL> {
    const K_PER_WORD: usize = 1;
    const TWO_LEVEL: bool = TWO_LEVEL;

    #[inline(always)]
    unsafe fn unpack(words: [__m512i; 4], params: UnpackParams<'_>, panel: *mut u32) {
        // SAFETY: the panel holds `[32][NR]` words.
        unsafe {
            let decoder = Decoder::new(params);
            for (t, words) in words.into_iter().enumerate() {
                for nibble in 0..8 {
                    let k = 16 * ((nibble >> 1) & 1) + 8 * (nibble & 1) + 2 * t + (nibble >> 2);
                    let down = _mm_cvtsi32_si128(4 * nibble as i32);
                    let words = _mm512_srl_epi32(words, down);
                    let w = decoder.decode::<TWO_LEVEL>(words);
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
