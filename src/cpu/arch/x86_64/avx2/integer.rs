//! The microkernel for u8 codes: products with `qw`.
//!
//! `maddubs` adds two products in i16. Their sum is at most 2 * 255 * 8 and does not saturate (with
//! `16 * qw` or `w8` it would). Eight such sums still fit i16 before they are widened.
//!
//! Of a two-level weight the panel holds `qw - zg`, and the `pmaddwd` that widens multiplies with
//! the step in place of 1. `qw - zg` is at most 16 in magnitude, or 8 if the weight is symmetric.

use super::{by_tokens, transpose};
use crate::cpu::microkernel::NR;
use crate::cpu::microkernel::{MicroTile, Microkernel};
use crate::cpu::params::{GroupParams, TokenParams};
use crate::weights::layout::Tile;
use std::arch::x86_64::*;

/// The microkernel. A word is four codes or four weights.
pub(in crate::cpu) struct Codes<const TWO_LEVEL: bool>;

/// Words whose products with values of at most 8 are summed in i16: 8 * 2 * 255 * 8 = 32,640.
const NARROW: usize = 8;

/// Words whose products with values of at most 16 are summed in i16: 4 * 2 * 255 * 16 = 32,640.
const NARROW_WITH_ZERO: usize = 4;

/// Words of 32 k, which have one step.
const SEGMENT: usize = 8;

impl<const TWO_LEVEL: bool> Microkernel for Codes<TWO_LEVEL> {
    const K_PER_WORD: usize = 4;

    #[inline(always)]
    unsafe fn unpack(
        tiles: [&Tile; 2],
        half: usize,
        params: &GroupParams,
        segment: usize,
        panel: &mut [u32],
    ) {
        assert!(panel.len() == 8 * NR);
        let zeros = &params.steps_of(segment).zero;
        // SAFETY: the panel holds 8 words of 4 vectors (asserted).
        unsafe {
            let low = _mm256_set1_epi8(0x0F);
            // A table lookup sign-extends a nibble in one instruction.
            let values = _mm256_broadcastsi128_si256(_mm_setr_epi8(
                0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1,
            ));
            // The low byte of each number, four times.
            let in_all_bytes = _mm256_broadcastsi128_si256(_mm_setr_epi8(
                0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12,
            ));
            for (i, tile) in tiles.into_iter().enumerate() {
                for (t, words) in transpose(tile, half).into_iter().enumerate() {
                    for (rows, words) in words.into_iter().enumerate() {
                        let at = 16 * i + 8 * rows;
                        let even = _mm256_and_si256(words, low);
                        let odd = _mm256_and_si256(_mm256_srli_epi32::<4>(words), low);
                        let mut even = _mm256_shuffle_epi8(values, even);
                        let mut odd = _mm256_shuffle_epi8(values, odd);
                        if TWO_LEVEL {
                            let zero = _mm256_loadu_si256(zeros.as_ptr().add(at).cast());
                            let zero = _mm256_shuffle_epi8(zero, in_all_bytes);
                            even = _mm256_sub_epi8(even, zero);
                            odd = _mm256_sub_epi8(odd, zero);
                        }
                        let to = panel.as_mut_ptr().add(2 * t * NR + at);
                        _mm256_storeu_si256(to.cast(), even);
                        _mm256_storeu_si256(to.add(NR).cast(), odd);
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply(micro: MicroTile<'_>) {
        // SAFETY: the caller's promise.
        unsafe { by_tokens!(multiply<TWO_LEVEL>, micro) }
    }
}

/// Multiplies `T` tokens, 16 rows at a time. The 2 * T sums in i16 stay in registers, those in i32
/// in `sums`.
///
/// # Safety
/// The machine supports the instruction set; the operands are checked and have `T` tokens.
#[inline(always)]
unsafe fn multiply<const T: usize, const TWO_LEVEL: bool>(micro: MicroTile<'_>) {
    // SAFETY: `check` has checked the lengths of all slices.
    unsafe {
        let ones = _mm256_set1_epi16(1);
        let words = micro.panel.len() / NR;
        let block = match TWO_LEVEL && !micro.params.symmetric {
            false => NARROW,
            true => NARROW_WITH_ZERO,
        };
        for part in 0..2 {
            let sums = micro.sums.as_mut_ptr().add(16 * part);
            let mut resume = micro.resume;
            for first in (0..words).step_by(block) {
                let mut narrow = [[_mm256_setzero_si256(); 2]; T];
                for word in first..words.min(first + block) {
                    let panel = micro.panel.as_ptr().add(word * NR + 16 * part);
                    let low = _mm256_loadu_si256(panel.cast());
                    let high = _mm256_loadu_si256(panel.add(8).cast());
                    for (token, narrow) in narrow.iter_mut().enumerate() {
                        let x = *micro.x.as_ptr().add(word * T + token);
                        let x = _mm256_set1_epi32(x as i32);
                        narrow[0] = _mm256_add_epi16(narrow[0], _mm256_maddubs_epi16(x, low));
                        narrow[1] = _mm256_add_epi16(narrow[1], _mm256_maddubs_epi16(x, high));
                    }
                }
                let factors = match TWO_LEVEL {
                    false => [ones; 2],
                    true => {
                        let steps = &micro.params.steps_of(first / SEGMENT).step_pair;
                        let steps = steps.as_ptr().add(16 * part);
                        [
                            _mm256_loadu_si256(steps.cast()),
                            _mm256_loadu_si256(steps.add(8).cast()),
                        ]
                    }
                };
                for (at, narrow) in narrow.as_flattened().iter().enumerate() {
                    let to = sums.add(at / 2 * NR + at % 2 * 8).cast();
                    let mut wide = _mm256_madd_epi16(*narrow, factors[at % 2]);
                    if resume {
                        wide = _mm256_add_epi32(wide, _mm256_loadu_si256(to));
                    }
                    _mm256_storeu_si256(to, wide);
                }
                resume = true;
            }
        }
        if micro.last {
            for (t, token) in micro.tokens.iter().enumerate() {
                let (sums, acc) = (&micro.sums[t * NR..], &mut micro.acc[t * NR..]);
                rescale::<NR>(sums, token, micro.params, acc);
            }
        }
    }
}

/// Computes `fma(f32(d), sa*sw, acc)` for `ROWS` rows.
///
/// # Safety
/// The machine supports the instruction set.
#[inline(always)]
pub(super) unsafe fn rescale<const ROWS: usize>(
    sums: &[u32],
    token: &TokenParams,
    params: &GroupParams,
    acc: &mut [f32],
) {
    assert!(ROWS <= NR && sums.len() >= ROWS && acc.len() >= ROWS);
    // SAFETY: vectors of 8 rows, and ROWS elements in each slice (asserted).
    unsafe {
        let group = &token.group;
        for row in (0..ROWS).step_by(8) {
            let sum = _mm256_loadu_si256(sums.as_ptr().add(row).cast());
            let d = if params.narrow {
                let pair = _mm256_loadu_si256(params.pair.as_ptr().add(row).cast());
                let both = _mm256_madd_epi16(_mm256_set1_epi32(token.pair as i32), pair);
                _mm256_add_epi32(sum, both)
            } else {
                let weights = _mm256_loadu_si256(params.sum.as_ptr().add(row).cast());
                let zero = _mm256_loadu_si256(params.zero.as_ptr().add(row).cast());
                let za = _mm256_mullo_epi32(_mm256_set1_epi32(group.zero), weights);
                let zw = _mm256_mullo_epi32(_mm256_set1_epi32(group.sum), zero);
                _mm256_sub_epi32(_mm256_sub_epi32(sum, za), zw)
            };
            let scale = _mm256_loadu_ps(params.scale.as_ptr().add(row));
            let step = _mm256_mul_ps(_mm256_set1_ps(group.scale), scale);
            let acc = acc.as_mut_ptr().add(row);
            let next = _mm256_fmadd_ps(_mm256_cvtepi32_ps(d), step, _mm256_loadu_ps(acc));
            _mm256_storeu_ps(acc, next);
        }
    }
}
