//! Plain Rust: what runs where there is no vector path, and what a reader compares the others with.

use super::gemm::{self, Job};
use super::kernel::{Beside, Kernel};
use super::workspace::Scratch;
use crate::numerics::TokenGroup;
use crate::weights::layout::{TILE_N, Tile, activation_position};
use std::ops::Range;

/// # Safety
/// No other call writes the same rows of W's result.
pub(super) unsafe fn columns(job: &Job<'_>, blocks: Range<usize>, scratch: &mut Scratch) {
    // SAFETY: passed on; plain Rust needs no instruction set.
    unsafe { gemm::columns::<Integer, Float>(job, blocks, scratch) }
}

/// u8 codes times INT4 weights in i32. Panel: `[quad][row][4]`, a quad being the four k of four neighbouring codes.
struct Integer;

impl Kernel for Integer {
    type Activation = u8;
    type Panel = i8;
    type Sum = i32;
    const TOKENS: usize = 4;

    unsafe fn unpack<const NT: usize>(
        tiles: [&Tile; NT],
        half: usize,
        _: &Beside<NT>,
        panel: *mut i8,
    ) {
        // SAFETY: the caller's panel holds 32 * NT * 16 weights.
        let panel = unsafe { std::slice::from_raw_parts_mut(panel, 32 * NT * TILE_N) };
        for (i, tile) in tiles.into_iter().enumerate() {
            for k in 0..32 {
                let (quad, byte) = (activation_position(k) / 4, activation_position(k) % 4);
                for row in 0..TILE_N {
                    panel[((quad * NT + i) * TILE_N + row) * 4 + byte] =
                        tile.get(row, 32 * half + k);
                }
            }
        }
    }

    unsafe fn dot<const NT: usize>(
        panel: *const i8,
        k: usize,
        x: *const u8,
        stride: usize,
        tokens: usize,
        sums: *mut i32,
        resume: bool,
    ) {
        let width = NT * TILE_N;
        // SAFETY: the caller's pointers reach that far.
        let (panel, sums) = unsafe {
            (
                std::slice::from_raw_parts(panel, k * width),
                std::slice::from_raw_parts_mut(sums, tokens * width),
            )
        };
        for (token, sums) in sums.chunks_exact_mut(width).enumerate() {
            // SAFETY: as above.
            let x = unsafe { std::slice::from_raw_parts(x.add(token * stride), k) };
            if !resume {
                sums.fill(0);
            }
            for (panel, x) in panel.chunks_exact(4 * width).zip(x.chunks_exact(4)) {
                for (sum, w) in sums.iter_mut().zip(panel.chunks_exact(4)) {
                    for (w, x) in w.iter().zip(x) {
                        *sum += i32::from(*w) * i32::from(*x);
                    }
                }
            }
        }
    }

    unsafe fn rescale<const NT: usize>(
        sums: *const i32,
        tokens: usize,
        groups: *const TokenGroup,
        stride: usize,
        beside: &Beside<NT>,
        acc: *mut f32,
    ) {
        let width = NT * TILE_N;
        for token in 0..tokens {
            // SAFETY: the caller's pointers reach `tokens` tokens.
            let (group, sums, acc) = unsafe {
                (
                    &*groups.add(token * stride),
                    std::slice::from_raw_parts(sums.add(token * width), width),
                    std::slice::from_raw_parts_mut(acc.add(token * width), width),
                )
            };
            for row in 0..width {
                let (tile, lane) = (row / TILE_N, row % TILE_N);
                let d = sums[row]
                    - group.zero * beside.sum[tile][lane]
                    - group.sum * beside.zero[tile][lane];
                acc[row] = (d as f32).mul_add(group.scale * beside.scale[tile][lane], acc[row]);
            }
        }
    }
}

/// f32 activations times `qw - zw`, k ascending. Panel: `[k][row]`.
struct Float;

impl Kernel for Float {
    type Activation = f32;
    type Panel = f32;
    type Sum = f32;
    const TOKENS: usize = 4;

    unsafe fn unpack<const NT: usize>(
        tiles: [&Tile; NT],
        half: usize,
        beside: &Beside<NT>,
        panel: *mut f32,
    ) {
        // SAFETY: the caller's panel holds 32 * NT * 16 weights.
        let panel = unsafe { std::slice::from_raw_parts_mut(panel, 32 * NT * TILE_N) };
        for (i, tile) in tiles.into_iter().enumerate() {
            for k in 0..32 {
                for row in 0..TILE_N {
                    let q = i32::from(tile.get(row, 32 * half + k)) - beside.zero[i][row];
                    panel[(k * NT + i) * TILE_N + row] = q as f32;
                }
            }
        }
    }

    unsafe fn dot<const NT: usize>(
        panel: *const f32,
        k: usize,
        x: *const f32,
        stride: usize,
        tokens: usize,
        sums: *mut f32,
        resume: bool,
    ) {
        let width = NT * TILE_N;
        // SAFETY: the caller's pointers reach that far.
        let (panel, sums) = unsafe {
            (
                std::slice::from_raw_parts(panel, k * width),
                std::slice::from_raw_parts_mut(sums, tokens * width),
            )
        };
        for (token, sums) in sums.chunks_exact_mut(width).enumerate() {
            // SAFETY: as above.
            let x = unsafe { std::slice::from_raw_parts(x.add(token * stride), k) };
            if !resume {
                sums.fill(0.0);
            }
            for (panel, x) in panel.chunks_exact(width).zip(x) {
                for (sum, w) in sums.iter_mut().zip(panel) {
                    *sum = x.mul_add(*w, *sum);
                }
            }
        }
    }

    unsafe fn rescale<const NT: usize>(
        sums: *const f32,
        tokens: usize,
        _: *const TokenGroup,
        _: usize,
        beside: &Beside<NT>,
        acc: *mut f32,
    ) {
        let width = NT * TILE_N;
        for at in 0..tokens * width {
            let (tile, lane) = (at % width / TILE_N, at % TILE_N);
            // SAFETY: the caller's pointers reach `tokens` tokens.
            unsafe {
                let acc = &mut *acc.add(at);
                *acc = (*sums.add(at)).mul_add(beside.scale[tile][lane], *acc);
            }
        }
    }
}
