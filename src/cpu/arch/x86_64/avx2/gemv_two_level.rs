//! The GEMV microkernel of a two-level weight: as [`super::gemv`], with the steps of the rows in
//! the `pmaddwd` that widens the sums, which then accumulate over all of K.
//!
//! A nibble with its sign bit flipped is `qw + 8`. The sum of a tile is `sg * sum qa*(qw + 8)`;
//! what it exceeds `sum qa*w8` by, `sg * (8 + zg) * sum qa`, is subtracted once per group, row by
//! row.

use super::gemv::{narrow_sums, offset_weights, row_sums};
use crate::cpu::microkernel::{GEMV_WORDS, GemvRows, TwoLevelGemvKernel};
use crate::weights::layout::TILE_N;
use std::arch::x86_64::*;

/// The GEMV microkernel.
pub(in crate::cpu) struct CodesGemv;

/// The steps of a group, or of the two groups of a tile, as the lanes of a tile need them.
struct Steps {
    /// The step in both 16-bit halves, `[g][row g, row g + 8 of the first half of k, then of the
    /// second]`.
    lanes: [[u32; 4]; 8],
    /// `sg * (8 + zg)`, `[group of the tile][row]`.
    offsets: [[i32; TILE_N]; 2],
}

impl Steps {
    /// Loads the steps of group `first`, and, with `HALVES` = 2, of the next one.
    #[inline(always)]
    fn load<const HALVES: usize>(rows: &GemvRows<'_>, first: usize) -> Self {
        let mut steps = Self {
            lanes: [[0; 4]; 8],
            offsets: [[0; TILE_N]; 2],
        };
        for half in 0..HALVES {
            let Some(at) = rows.index(first + half) else {
                continue;
            };
            let (step, zero) = rows.w.steps_at(at);
            for row in 0..TILE_N {
                steps.lanes[row % 8][2 * half + row / 8] = (step[row] | step[row] << 16) as u32;
                steps.offsets[half][row] = step[row] * (8 + zero[row]);
            }
        }
        if HALVES == 1 {
            for lanes in &mut steps.lanes {
                (lanes[2], lanes[3]) = (lanes[0], lanes[1]);
            }
        }
        steps
    }
}

impl TwoLevelGemvKernel for CodesGemv {
    const MAX_TOKENS: usize = 3;

    #[inline(always)]
    unsafe fn sums<const TOKENS: usize, const HALVES: usize>(
        rows: GemvRows<'_>,
    ) -> [[i32; TILE_N]; TOKENS] {
        let groups = rows.groups(TOKENS);
        let mut total = [[0i32; TILE_N]; TOKENS];
        let mut x = rows.x.as_ptr();
        // SAFETY: eight pairs of vectors are one tile, and `groups` has checked the lengths of the
        // slices.
        unsafe {
            let mut sum = [[_mm256_setzero_si256(); 8]; TOKENS];
            for (i, tiles) in groups.enumerate() {
                let steps = Steps::load::<HALVES>(&rows, i * HALVES);
                for tile in tiles {
                    for g in 0..8 {
                        let weights = offset_weights(tile, g);
                        let step = _mm_loadu_si128(steps.lanes[g].as_ptr().cast());
                        let step = _mm256_broadcastsi128_si256(step);
                        for (t, sum) in sum.iter_mut().enumerate() {
                            let narrow = narrow_sums(x.add(t * GEMV_WORDS), weights);
                            sum[g] = _mm256_add_epi32(sum[g], _mm256_madd_epi16(narrow, step));
                        }
                    }
                    x = x.wrapping_add(rows.stride);
                }
                for (t, total) in total.iter_mut().enumerate() {
                    for half in 0..HALVES {
                        if rows.index(i * HALVES + half).is_some() {
                            let codes = rows.token(i * HALVES + half, t).group.sum;
                            for (total, offset) in total.iter_mut().zip(&steps.offsets[half]) {
                                *total = total.wrapping_sub(offset.wrapping_mul(codes));
                            }
                        }
                    }
                }
            }
            for (total, sum) in total.iter_mut().zip(&sum) {
                // Both may have wrapped; their sum is in range.
                for (total, sum) in total.iter_mut().zip(row_sums::<1>(sum, 0)) {
                    *total = total.wrapping_add(sum as i32);
                }
            }
        }
        total
    }
}
