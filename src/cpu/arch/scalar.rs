//! Scalar microkernels in plain Rust, for any architecture. They are the easiest ones to read.

use crate::cpu::microkernel::NR;
use crate::cpu::microkernel::{Arch, Task};
use crate::cpu::microkernel::{
    GEMV_WORDS, GemvGroup, GemvKernel, GemvRows, MicroTile, Microkernel, TwoLevelGemvKernel,
};
use crate::cpu::params::GroupParams;
use crate::weights::layout::{TILE_N, Tile, activation_position};

pub(in crate::cpu) struct Scalar;

impl Arch for Scalar {
    type Integer<const TWO_LEVEL: bool> = Integer<TWO_LEVEL>;
    type Float<const TWO_LEVEL: bool> = Float<TWO_LEVEL>;
    type Gemv = CodesGemv;
    type TwoLevelGemv = CodesGemv;

    unsafe fn enter<T: Task>(task: T) -> T::Output {
        // SAFETY: plain Rust needs no instruction set.
        unsafe { task.run::<Self>() }
    }
}

/// Multiplies u8 codes with INT4 weights, or with `w8`, in i32. The panel is `[quad][row][4]`; a
/// quad is the four k of a word of codes.
pub(in crate::cpu) struct Integer<const TWO_LEVEL: bool>;

impl<const TWO_LEVEL: bool> Microkernel for Integer<TWO_LEVEL> {
    const K_PER_WORD: usize = 4;

    unsafe fn unpack(
        tiles: [&Tile; 2],
        half: usize,
        params: &GroupParams,
        segment: usize,
        panel: &mut [u32],
    ) {
        let steps = params.steps_of(segment);
        let panel: &mut [i8] = bytemuck::cast_slice_mut(panel);
        for (i, tile) in tiles.into_iter().enumerate() {
            for k in 0..32 {
                let (quad, byte) = (activation_position(k) / 4, activation_position(k) % 4);
                for row in 0..TILE_N {
                    let (q, at) = (tile.get(row, 32 * half + k), i * TILE_N + row);
                    panel[(quad * NR + at) * 4 + byte] = match TWO_LEVEL {
                        false => q,
                        // The 8 bits of `w8`. Only the padding of K wraps, whose codes are 0.
                        true => ((i32::from(q) - steps.zero[at]) * steps.step[at]) as i8,
                    };
                }
            }
        }
    }

    unsafe fn multiply(micro: MicroTile<'_>) {
        let tokens = micro.check();
        let panel: &[[i8; 4]] = bytemuck::cast_slice(micro.panel);
        let x: &[[u8; 4]] = bytemuck::cast_slice(micro.x);
        let sums: &mut [i32] = bytemuck::cast_slice_mut(micro.sums);
        if !micro.resume {
            sums.fill(0);
        }
        for (t, sums) in sums.chunks_exact_mut(NR).enumerate() {
            for (panel, x) in panel.chunks_exact(NR).zip(x.chunks_exact(tokens)) {
                let x = x[t].map(i32::from);
                for (sum, w) in sums.iter_mut().zip(panel) {
                    let w = w.map(i32::from);
                    *sum += w[0] * x[0] + w[1] * x[1] + w[2] * x[2] + w[3] * x[3];
                }
            }
        }
        if !micro.last {
            return;
        }
        let acc = micro.acc.chunks_exact_mut(NR);
        for ((token, sums), acc) in micro.tokens.iter().zip(sums.chunks_exact(NR)).zip(acc) {
            let (group, params) = (&token.group, micro.params);
            for row in 0..NR {
                let d = sums[row] - group.zero * params.sum[row] - group.sum * params.zero[row];
                acc[row] = (d as f32).mul_add(group.scale * params.scale[row], acc[row]);
            }
        }
    }
}

/// Multiplies f32 activations with `qw - zw` or `w8`, k ascending. The panel is `[k][row]`.
pub(in crate::cpu) struct Float<const TWO_LEVEL: bool>;

impl<const TWO_LEVEL: bool> Microkernel for Float<TWO_LEVEL> {
    const K_PER_WORD: usize = 1;

    unsafe fn unpack(
        tiles: [&Tile; 2],
        half: usize,
        params: &GroupParams,
        segment: usize,
        panel: &mut [u32],
    ) {
        let steps = params.steps_of(segment);
        let panel: &mut [f32] = bytemuck::cast_slice_mut(panel);
        for (k, panel) in panel.chunks_exact_mut(NR).enumerate() {
            for (row, w) in panel.iter_mut().enumerate() {
                let q = tiles[row / TILE_N].get(row % TILE_N, 32 * half + k);
                *w = match TWO_LEVEL {
                    false => (i32::from(q) - params.zero[row]) as f32,
                    // Both operations are exact.
                    true => f32::from(q) * steps.step_f32[row] - steps.offset_f32[row],
                };
            }
        }
    }

    unsafe fn multiply(micro: MicroTile<'_>) {
        let tokens = micro.check();
        let (panel, x): (&[f32], &[f32]) = (
            bytemuck::cast_slice(micro.panel),
            bytemuck::cast_slice(micro.x),
        );
        let sums: &mut [f32] = bytemuck::cast_slice_mut(micro.sums);
        if !micro.resume {
            sums.fill(0.0);
        }
        for (t, sums) in sums.chunks_exact_mut(NR).enumerate() {
            for (panel, x) in panel.chunks_exact(NR).zip(x.chunks_exact(tokens)) {
                let x = x[t];
                for (sum, w) in sums.iter_mut().zip(panel) {
                    *sum = x.mul_add(*w, *sum);
                }
            }
        }
        if !micro.last {
            return;
        }
        for (sums, acc) in sums.chunks_exact(NR).zip(micro.acc.chunks_exact_mut(NR)) {
            for row in 0..NR {
                acc[row] = sums[row].mul_add(micro.params.scale[row], acc[row]);
            }
        }
    }
}

/// Multiplies u8 codes with the tiles of W.
pub(in crate::cpu) struct CodesGemv;

impl GemvKernel for CodesGemv {
    unsafe fn group<const TOKENS: usize, const HALVES: usize>(
        group: GemvGroup<'_>,
        acc: &mut [[f32; TILE_N]; TOKENS],
    ) {
        group.check(TOKENS, HALVES);
        for (t, acc) in acc.iter_mut().enumerate() {
            let mut sums = [[0; TILE_N]; 2];
            for (i, tile) in group.tiles.iter().enumerate() {
                let x = &group.x[i * group.stride + t * GEMV_WORDS..][..GEMV_WORDS];
                add_products(tile, x, HALVES, &mut sums);
            }
            for (half, tokens) in group.tokens.into_iter().flatten().enumerate() {
                let token = &tokens[t].group;
                for (row, acc) in acc.iter_mut().enumerate() {
                    let (scale, zero, sum) = group.w.sum_params(group.at + half * TILE_N + row);
                    let d = sums[half][row] - token.zero * sum - token.sum * zero;
                    *acc = (d as f32).mul_add(token.scale * scale, *acc);
                }
            }
        }
    }
}

/// Adds the products of a tile and a token's `x[GEMV_WORDS]` to `sums[half][row]`, or to `sums[0]`
/// if `halves` is 1.
fn add_products(tile: &Tile, x: &[u32], halves: usize, sums: &mut [[i32; TILE_N]; 2]) {
    for (at, word) in tile.0.iter().enumerate() {
        let (g, lane) = (at / 16, at % 16);
        let (row, half) = (g + 8 * (lane & 1), lane >> 1 & 1);
        let (even, odd) = (x[lane].to_ne_bytes(), x[16 + lane].to_ne_bytes());
        for (byte, (even, odd)) in even.into_iter().zip(odd).enumerate() {
            let weights = (word >> (8 * byte)) as u8;
            let (low, high) = ((weights << 4) as i8 >> 4, weights as i8 >> 4);
            sums[half % halves][row] += i32::from(low) * i32::from(even);
            sums[half % halves][row] += i32::from(high) * i32::from(odd);
        }
    }
}

impl TwoLevelGemvKernel for CodesGemv {
    const MAX_TOKENS: usize = 3;

    unsafe fn sums<const TOKENS: usize, const HALVES: usize>(
        rows: GemvRows<'_>,
    ) -> [[i32; TILE_N]; TOKENS] {
        let mut total = [[0; TILE_N]; TOKENS];
        let mut x = rows.x.chunks(rows.stride);
        for (i, tiles) in rows.groups(TOKENS).enumerate() {
            let mut sums = [[[0; TILE_N]; 2]; TOKENS];
            for (tile, x) in tiles.iter().zip(x.by_ref()) {
                for (sums, x) in sums.iter_mut().zip(x.chunks(GEMV_WORDS)) {
                    add_products(tile, x, HALVES, sums);
                }
            }
            for (half, at) in (0..HALVES).filter_map(|h| Some((h, rows.index(i * HALVES + h)?))) {
                let (steps, zeros) = rows.w.steps_at(at);
                for (t, total) in total.iter_mut().enumerate() {
                    let codes = rows.token(i * HALVES + half, t).group.sum;
                    for (row, total) in total.iter_mut().enumerate() {
                        *total += steps[row] * (sums[t][half][row] - zeros[row] * codes);
                    }
                }
            }
        }
        total
    }
}
