//! The microkernel for f32 activations: products with `qw - zw` or `w8`, k ascending.

use super::{by_tokens, transpose};
use crate::cpu::microkernel::NR;
use crate::cpu::microkernel::{MicroTile, Microkernel};
use crate::cpu::params::GroupParams;
use crate::weights::layout::Tile;
use std::arch::x86_64::*;

/// The microkernel. A word is one activation or one weight.
pub(in crate::cpu) struct Floats<const TWO_LEVEL: bool>;

impl<const TWO_LEVEL: bool> Microkernel for Floats<TWO_LEVEL> {
    const K_PER_WORD: usize = 1;

    #[inline(always)]
    unsafe fn unpack(
        tiles: [&Tile; 2],
        half: usize,
        params: &GroupParams,
        segment: usize,
        panel: &mut [u32],
    ) {
        assert!(panel.len() == 32 * NR);
        let steps = params.steps_of(segment);
        // SAFETY: the panel holds 32 words of 4 vectors (asserted).
        unsafe {
            for (i, tile) in tiles.into_iter().enumerate() {
                for (t, words) in transpose(tile, half).into_iter().enumerate() {
                    for (rows, words) in words.into_iter().enumerate() {
                        let at = 16 * i + 8 * rows;
                        let zero = _mm256_loadu_si256(params.zero.as_ptr().add(at).cast());
                        let step = _mm256_loadu_ps(steps.step_f32.as_ptr().add(at));
                        let offset = _mm256_loadu_ps(steps.offset_f32.as_ptr().add(at));
                        for nibble in 0..8 {
                            // Shift the nibble to the top, then back with its sign.
                            let up = _mm_cvtsi32_si128(28 - 4 * nibble);
                            let q = _mm256_srai_epi32::<28>(_mm256_sll_epi32(words, up));
                            let w = match TWO_LEVEL {
                                false => _mm256_cvtepi32_ps(_mm256_sub_epi32(q, zero)),
                                // Exact: `w8` is an integer of at most 8 bits.
                                true => _mm256_fmsub_ps(_mm256_cvtepi32_ps(q), step, offset),
                            };
                            let nibble = nibble as usize;
                            let k =
                                16 * ((nibble >> 1) & 1) + 8 * (nibble & 1) + 2 * t + (nibble >> 2);
                            _mm256_storeu_ps(panel.as_mut_ptr().add(k * NR + at).cast(), w);
                        }
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply(micro: MicroTile<'_>) {
        // SAFETY: the caller's promise.
        unsafe { by_tokens!(multiply, micro) }
    }
}

/// Multiplies `T` tokens, 16 rows at a time. The 2 * T sums stay in registers.
///
/// # Safety
/// The machine supports the instruction set; the operands are checked and have `T` tokens.
#[inline(always)]
unsafe fn multiply<const T: usize>(micro: MicroTile<'_>) {
    // SAFETY: `check` has checked the lengths of all slices.
    unsafe {
        for part in 0..2 {
            let sums = micro.sums.as_mut_ptr().cast::<f32>().add(16 * part);
            let mut sum = [[_mm256_setzero_ps(); 2]; T];
            if micro.resume {
                for (at, sum) in sum.as_flattened_mut().iter_mut().enumerate() {
                    *sum = _mm256_loadu_ps(sums.add(at / 2 * NR + at % 2 * 8));
                }
            }
            for word in 0..micro.panel.len() / NR {
                let panel = micro.panel.as_ptr().add(word * NR + 16 * part).cast();
                let (low, high) = (_mm256_loadu_ps(panel), _mm256_loadu_ps(panel.add(8)));
                for (token, sum) in sum.iter_mut().enumerate() {
                    let x = f32::from_bits(*micro.x.as_ptr().add(word * T + token));
                    let x = _mm256_set1_ps(x);
                    sum[0] = _mm256_fmadd_ps(x, low, sum[0]);
                    sum[1] = _mm256_fmadd_ps(x, high, sum[1]);
                }
            }
            for (at, sum) in sum.as_flattened().iter().enumerate() {
                let row = at / 2 * NR + at % 2 * 8;
                if micro.last {
                    let scale = micro.params.scale.as_ptr().add(16 * part + at % 2 * 8);
                    let acc = micro.acc.as_mut_ptr().add(16 * part + row);
                    let next = _mm256_fmadd_ps(*sum, _mm256_loadu_ps(scale), _mm256_loadu_ps(acc));
                    _mm256_storeu_ps(acc, next);
                } else {
                    _mm256_storeu_ps(sums.add(row), *sum);
                }
            }
        }
    }
}
