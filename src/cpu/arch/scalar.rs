//! Plain Rust: what runs where there is no vector path, and what a reader compares the others with.

use crate::cpu::gemm::{Arch, Task};
use crate::cpu::microkernel::{Beside, Kernel, STREAM_WORDS, Stream, StreamGroup, Strip};
use crate::cpu::workspace::BLOCK_N;
use crate::weights::layout::{TILE_N, Tile, activation_position};

pub(in crate::cpu) struct Scalar;

impl Arch for Scalar {
    type Integer = Integer;
    type Float = Float;
    type Stream = Codes;

    unsafe fn enter<T: Task>(task: T) -> T::Output {
        // SAFETY: plain Rust needs no instruction set.
        unsafe { task.run::<Self>() }
    }
}

/// u8 codes times INT4 weights in i32. Panel: `[quad][row][4]`, a quad being the four k of four neighboring codes.
pub(in crate::cpu) struct Integer;

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
        for (t, sums) in sums.chunks_exact_mut(BLOCK_N).enumerate() {
            for (panel, x) in panel.chunks_exact(BLOCK_N).zip(x.chunks_exact(tokens)) {
                let x = x[t].map(i32::from);
                for (sum, w) in sums.iter_mut().zip(panel) {
                    let w = w.map(i32::from);
                    *sum += w[0] * x[0] + w[1] * x[1] + w[2] * x[2] + w[3] * x[3];
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
pub(in crate::cpu) struct Float;

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
        let (panel, x): (&[f32], &[f32]) = (
            bytemuck::cast_slice(strip.panel),
            bytemuck::cast_slice(strip.x),
        );
        let sums: &mut [f32] = bytemuck::cast_slice_mut(strip.sums);
        if !strip.resume {
            sums.fill(0.0);
        }
        for (t, sums) in sums.chunks_exact_mut(BLOCK_N).enumerate() {
            for (panel, x) in panel.chunks_exact(BLOCK_N).zip(x.chunks_exact(tokens)) {
                let x = x[t];
                for (sum, w) in sums.iter_mut().zip(panel) {
                    *sum = x.mul_add(*w, *sum);
                }
            }
        }
        if !strip.last {
            return;
        }
        for (sums, acc) in sums
            .chunks_exact(BLOCK_N)
            .zip(strip.acc.chunks_exact_mut(BLOCK_N))
        {
            for row in 0..BLOCK_N {
                acc[row] = sums[row].mul_add(strip.beside.scale[row], acc[row]);
            }
        }
    }
}

/// Codes past the tiles as they are.
pub(in crate::cpu) struct Codes;

impl Stream for Codes {
    unsafe fn group<const TOKENS: usize, const HALVES: usize>(
        of: StreamGroup<'_>,
        acc: &mut [[f32; TILE_N]; TOKENS],
    ) {
        of.check(TOKENS, HALVES);
        for (t, acc) in acc.iter_mut().enumerate() {
            let mut sums = [[0; TILE_N]; 2];
            for (i, tile) in of.tiles.iter().enumerate() {
                let x = &of.x[i * of.stride + t * STREAM_WORDS..][..STREAM_WORDS];
                for (at, word) in tile.0.iter().enumerate() {
                    let (g, lane) = (at / 16, at % 16);
                    let (row, half) = (g + 8 * (lane & 1), lane >> 1 & 1);
                    let (even, odd) = (x[lane].to_ne_bytes(), x[16 + lane].to_ne_bytes());
                    for (byte, (even, odd)) in even.into_iter().zip(odd).enumerate() {
                        let weights = (word >> (8 * byte)) as u8;
                        let (low, high) = ((weights << 4) as i8 >> 4, weights as i8 >> 4);
                        sums[half % HALVES][row] += i32::from(low) * i32::from(even);
                        sums[half % HALVES][row] += i32::from(high) * i32::from(odd);
                    }
                }
            }
            for (half, tokens) in of.tokens.into_iter().flatten().enumerate() {
                let group = &tokens[t].group;
                for (row, acc) in acc.iter_mut().enumerate() {
                    let (scale, zero, sum) = of.w.beside(of.at + half * TILE_N + row);
                    let d = sums[half][row] - group.zero * sum - group.sum * zero;
                    *acc = (d as f32).mul_add(group.scale * scale, *acc);
                }
            }
        }
    }
}
