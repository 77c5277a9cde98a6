//! Plain Rust: what runs where there is no vector path, and what a reader compares the others with.

use super::gemm::{Arch, Task};
use super::kernel::{Beside, Kernel, Stream, Strip};
use super::workspace::BLOCK_N;
use crate::weights::layout::{TILE_K, TILE_N, Tile, activation_position};

pub(super) struct Scalar;

impl Arch for Scalar {
    type Integer = Integer;
    type Float = Float;
    type Stream = Codes;

    unsafe fn enter<T: Task>(task: T) -> T::Output {
        // SAFETY: plain Rust needs no instruction set.
        unsafe { task.run::<Self>() }
    }
}

/// u8 codes times INT4 weights in i32. Panel: `[quad][row][4]`, a quad being the four k of four neighbouring codes.
pub(super) struct Integer;

impl Kernel for Integer {
    const K_PER_WORD: usize = 4;

    unsafe fn unpack(tiles: [&Tile; 2], half: usize, _: &Beside, panel: &mut [u32]) {
        let panel: &mut [i8] = bytemuck::cast_slice_mut(panel);
        for (i, tile) in tiles.into_iter().enumerate() {
            for k in 0..32 {
                let (quad, byte) = (activation_position(k) / 4, activation_position(k) % 4);
                for row in 0..TILE_N {
                    panel[(quad * BLOCK_N + i * TILE_N + row) * 4 + byte] =
                        tile.get(row, 32 * half + k);
                }
            }
        }
    }

    unsafe fn multiply(strip: Strip<'_>) {
        let tokens = strip.check();
        let panel: &[[i8; 4]] = bytemuck::cast_slice(strip.panel);
        let x: &[[u8; 4]] = bytemuck::cast_slice(strip.x);
        let sums: &mut [i32] = bytemuck::cast_slice_mut(strip.sums);
        if !strip.resume {
            sums.fill(0);
        }
        for (panel, x) in panel.chunks_exact(BLOCK_N).zip(x.chunks_exact(tokens)) {
            for (sums, x) in sums.chunks_exact_mut(BLOCK_N).zip(x) {
                for (sum, w) in sums.iter_mut().zip(panel) {
                    for (w, x) in w.iter().zip(x) {
                        *sum += i32::from(*w) * i32::from(*x);
                    }
                }
            }
        }
        if !strip.last {
            return;
        }
        let acc = strip.acc.chunks_exact_mut(BLOCK_N);
        for ((token, sums), acc) in strip.tokens.iter().zip(sums.chunks_exact(BLOCK_N)).zip(acc) {
            let (group, beside) = (&token.group, strip.beside);
            for row in 0..BLOCK_N {
                let d = sums[row] - group.zero * beside.sum[row] - group.sum * beside.zero[row];
                acc[row] = (d as f32).mul_add(group.scale * beside.scale[row], acc[row]);
            }
        }
    }
}

/// f32 activations times `qw - zw`, k ascending. Panel: `[k][row]`.
pub(super) struct Float;

impl Kernel for Float {
    const K_PER_WORD: usize = 1;

    unsafe fn unpack(tiles: [&Tile; 2], half: usize, beside: &Beside, panel: &mut [u32]) {
        let panel: &mut [f32] = bytemuck::cast_slice_mut(panel);
        for (k, panel) in panel.chunks_exact_mut(BLOCK_N).enumerate() {
            for (row, w) in panel.iter_mut().enumerate() {
                let q = tiles[row / TILE_N].get(row % TILE_N, 32 * half + k);
                *w = (i32::from(q) - beside.zero[row]) as f32;
            }
        }
    }

    unsafe fn multiply(strip: Strip<'_>) {
        let tokens = strip.check();
        let (panel, x): (&[f32], &[f32]) =
            (bytemuck::cast_slice(strip.panel), bytemuck::cast_slice(strip.x));
        let sums: &mut [f32] = bytemuck::cast_slice_mut(strip.sums);
        if !strip.resume {
            sums.fill(0.0);
        }
        for (panel, x) in panel.chunks_exact(BLOCK_N).zip(x.chunks_exact(tokens)) {
            for (sums, x) in sums.chunks_exact_mut(BLOCK_N).zip(x) {
                for (sum, w) in sums.iter_mut().zip(panel) {
                    *sum = x.mul_add(*w, *sum);
                }
            }
        }
        if !strip.last {
            return;
        }
        for (sums, acc) in sums.chunks_exact(BLOCK_N).zip(strip.acc.chunks_exact_mut(BLOCK_N)) {
            for row in 0..BLOCK_N {
                acc[row] = sums[row].mul_add(strip.beside.scale[row], acc[row]);
            }
        }
    }
}

/// Codes past the tiles as they are.
pub(super) struct Codes;

impl Stream for Codes {
    const OFFSET: i32 = 0;

    unsafe fn dot<const TOKENS: usize, const HALVES: usize>(
        tiles: &[Tile],
        x: [&[u32]; TOKENS],
        stride: usize,
    ) -> [[[i32; TILE_N]; HALVES]; TOKENS] {
        let mut sums = [[[0; TILE_N]; HALVES]; TOKENS];
        for (token, sums) in sums.iter_mut().enumerate() {
            for (i, tile) in tiles.iter().enumerate() {
                for k in 0..TILE_K {
                    let (half, byte) = (k / 32, activation_position(k % 32));
                    let (quad, byte) = (byte / 4, byte % 4);
                    let word = x[token][i * stride + quad % 2 * 16 + quad / 2 * 4 + 2 * half];
                    let code = i32::from(word.to_le_bytes()[byte]);
                    for row in 0..TILE_N {
                        sums[half % HALVES][row] += i32::from(tile.get(row, k)) * code;
                    }
                }
            }
        }
        sums
    }
}
