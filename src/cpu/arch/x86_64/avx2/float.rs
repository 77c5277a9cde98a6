//! f32 activations times `qw - zw`, k ascending.

use super::{by_tokens, turn};
use crate::cpu::microkernel::{Beside, Kernel, Strip};
use crate::cpu::workspace::BLOCK_N;
use crate::weights::layout::Tile;
use std::arch::x86_64::*;

/// Words: one activation; one weight.
pub(in crate::cpu) struct Floats;

impl Kernel for Floats {
    const K_PER_WORD: usize = 1;

    #[inline(always)]
    unsafe fn unpack(tiles: [&Tile; 2], half: usize, beside: &Beside, panel: &mut [u32]) {
        assert!(panel.len() == 32 * BLOCK_N);
        // SAFETY: the panel holds 32 words of 4 vectors (asserted).
        unsafe {
            for (i, tile) in tiles.into_iter().enumerate() {
                for (t, words) in turn(tile, half).into_iter().enumerate() {
                    for (rows, words) in words.into_iter().enumerate() {
                        let at = 16 * i + 8 * rows;
                        let zero = _mm256_loadu_si256(beside.zero.as_ptr().add(at).cast());
                        for nibble in 0..8 {
                            // The nibble moves to the top; the arithmetic shift brings it back with its sign.
                            let up = _mm_cvtsi32_si128(28 - 4 * nibble);
                            let q = _mm256_srai_epi32::<28>(_mm256_sll_epi32(words, up));
                            let w = _mm256_cvtepi32_ps(_mm256_sub_epi32(q, zero));
                            let nibble = nibble as usize;
                            let k =
                                16 * ((nibble >> 1) & 1) + 8 * (nibble & 1) + 2 * t + (nibble >> 2);
                            _mm256_storeu_ps(panel.as_mut_ptr().add(k * BLOCK_N + at).cast(), w);
                        }
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn multiply(strip: Strip<'_>) {
        // SAFETY: passed on.
        unsafe { by_tokens!(multiply, strip) }
    }
}

/// A strip of `T` tokens, 16 rows at a time: 2 * T sums live in registers.
///
/// # Safety
/// The machine has the instruction set; the strip was checked and has `T` tokens.
#[inline(always)]
unsafe fn multiply<const T: usize>(strip: Strip<'_>) {
    // SAFETY: `check` has compared the lengths of all slices with the layouts that are walked here.
    unsafe {
        for part in 0..2 {
            let sums = strip.sums.as_mut_ptr().cast::<f32>().add(16 * part);
            let mut sum = [[_mm256_setzero_ps(); 2]; T];
            if strip.resume {
                for (at, sum) in sum.as_flattened_mut().iter_mut().enumerate() {
                    *sum = _mm256_loadu_ps(sums.add(at / 2 * BLOCK_N + at % 2 * 8));
                }
            }
            for word in 0..strip.panel.len() / BLOCK_N {
                let panel = strip.panel.as_ptr().add(word * BLOCK_N + 16 * part).cast();
                let (low, high) = (_mm256_loadu_ps(panel), _mm256_loadu_ps(panel.add(8)));
                for (token, sum) in sum.iter_mut().enumerate() {
                    let x = f32::from_bits(*strip.x.as_ptr().add(word * T + token));
                    let x = _mm256_set1_ps(x);
                    sum[0] = _mm256_fmadd_ps(x, low, sum[0]);
                    sum[1] = _mm256_fmadd_ps(x, high, sum[1]);
                }
            }
            for (at, sum) in sum.as_flattened().iter().enumerate() {
                let row = at / 2 * BLOCK_N + at % 2 * 8;
                if strip.last {
                    let scale = strip.beside.scale.as_ptr().add(16 * part + at % 2 * 8);
                    let acc = strip.acc.as_mut_ptr().add(16 * part + row);
                    let next = _mm256_fmadd_ps(*sum, _mm256_loadu_ps(scale), _mm256_loadu_ps(acc));
                    _mm256_storeu_ps(acc, next);
                } else {
                    _mm256_storeu_ps(sums.add(row), *sum);
                }
            }
        }
    }
}
