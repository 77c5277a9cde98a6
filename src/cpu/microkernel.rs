//! The interface of the microkernels, which each instruction set implements in `arch/`.
//!
//! Vocabulary is that of BLIS: W is packed into panels of NR output channels and at most KC inputs,
//! x into micro-panels of at most MR tokens. A microkernel multiplies one panel with one
//! micro-panel.

use crate::numerics::{TokenGroup, widen};
use crate::weights::layout::{TILE_K, TILE_N, Tile};
use crate::weights::{GroupSums, PackedWeight, Scales};
use std::ops::Range;

/// Output channels of a panel: two tiles.
pub(super) const NR: usize = 2 * TILE_N;

/// The most inputs of a panel.
pub(super) const KC: usize = 128;

/// Words of x for one tile of k and one token in the layout of [`GemvKernel`].
pub(super) const GEMV_WORDS: usize = TILE_K / 2;

/// An instruction set: its microkernels, and a function that is compiled for it.
pub(super) trait Arch {
    /// Quantized activations. With `TWO_LEVEL` panels hold `w8`, or what its step completes.
    type Integer<const TWO_LEVEL: bool>: Microkernel;
    /// BF16 activations. With `TWO_LEVEL` panels hold `w8`.
    type Float<const TWO_LEVEL: bool>: Microkernel;
    /// A few quantized tokens, grouped weights.
    type Gemv: GemvKernel;
    /// A few quantized tokens, two-level weights.
    type TwoLevelGemv: TwoLevelGemvKernel;

    /// Runs the task in a function that is compiled for the instruction set.
    ///
    /// # Safety
    /// The machine supports the instruction set.
    unsafe fn enter<T: Task>(task: T) -> T::Output;
}

/// Code that is compiled once for each instruction set.
pub(super) trait Task {
    type Output;

    /// Every implementation is `#[inline(always)]`, so that it is compiled for the instruction set
    /// of its caller.
    ///
    /// # Safety
    /// The machine supports the instruction set of `A`.
    unsafe fn run<A: Arch>(self) -> Self::Output;
}

/// The group steps and zero points of a group of a two-level weight, for NR rows. Rows beyond N
/// hold 0.
#[derive(Clone, Copy)]
pub(super) struct StepParams {
    /// `sg`, `[NR]`.
    pub step: [i32; NR],
    /// `zg`, `[NR]`.
    pub zero: [i32; NR],
    /// `sg` in both 16-bit halves, `[NR]`.
    pub step_pair: [u32; NR],
    /// `sg * (8 + zg)` modulo 256 in all four bytes, `[NR]`.
    pub offset_bytes: [u32; NR],
    /// `sg` in f32, `[NR]`.
    pub step_f32: [f32; NR],
    /// `zg * sg` in f32, `[NR]`.
    pub offset_f32: [f32; NR],
}

impl StepParams {
    pub const ZERO: Self = Self {
        step: [0; NR],
        zero: [0; NR],
        step_pair: [0; NR],
        offset_bytes: [0; NR],
        step_f32: [0.0; NR],
        offset_f32: [0.0; NR],
    };

    /// Loads the parameters of the group of `k`, 16 rows for each of at most two row tiles: those of
    /// integer panels, or the f32 ones.
    #[inline(always)]
    pub fn load(
        &mut self,
        w: &PackedWeight,
        row_tiles: impl Iterator<Item = usize>,
        k: usize,
        integer: bool,
    ) {
        let (groups, size) = (w.groups(), w.grouping().size().unwrap_or(TILE_K));
        // The padding of K, whose activations are 0, may begin a group that does not exist.
        let group = (k / size).min(groups - 1);
        for (i, row_tile) in row_tiles.enumerate() {
            let (steps, zeros) = w.steps_at((row_tile * groups + group) * TILE_N);
            let to = i * TILE_N..(i + 1) * TILE_N;
            if integer {
                let pairs = std::array::from_fn(|row| (steps[row] | steps[row] << 16) as u32);
                let offsets = std::array::from_fn(|row| {
                    let offset = (steps[row] * (8 + zeros[row])) as u32 & 0xFF;
                    offset.wrapping_mul(0x0101_0101)
                });
                copy_rows(&mut self.step[to.clone()], &steps);
                copy_rows(&mut self.zero[to.clone()], &zeros);
                copy_rows(&mut self.step_pair[to.clone()], &pairs);
                copy_rows(&mut self.offset_bytes[to], &offsets);
            } else {
                let step_f32 = steps.map(|step| step as f32);
                let offset_f32 = std::array::from_fn(|row| (zeros[row] * steps[row]) as f32);
                copy_rows(&mut self.step_f32[to.clone()], &step_f32);
                copy_rows(&mut self.offset_f32[to], &offset_f32);
            }
        }
    }
}

/// Copies 16 rows.
#[inline(always)]
fn copy_rows<T: Copy>(to: &mut [T], from: &[T; TILE_N]) {
    to.copy_from_slice(from);
}

/// The parameters of the weights of one group of k and NR rows, or of all k of a two-level weight.
/// Rows beyond N hold 0.
pub(super) struct GroupParams {
    /// `sw`, `[NR]`.
    pub scale: [f32; NR],
    /// `zw`, `[NR]`; 0 for a two-level weight.
    pub zero: [i32; NR],
    /// `sum(qw - zw)` or `sum(w8)`, `[NR]`.
    pub sum: [i32; NR],
    /// The steps and zero points of a two-level weight, for each group of a panel.
    pub steps: [StepParams; KC / 32],
    /// The k of a panel that share an element of `steps`: 32, 64 or 128.
    pub step_k: usize,
    /// Whether all zero points of a two-level weight are 0.
    pub symmetric: bool,
    /// `sum(qw - zw)` in the low 16 bits and `zw` in the high ones, `[NR]`. Valid if `narrow`.
    pub pair: [u32; NR],
    /// Whether a group has at most 128 k. Both of its sums then fit 16 bits, and one multiply-add
    /// of pairs applies both corrections.
    pub narrow: bool,
}

impl GroupParams {
    pub const ZERO: Self = Self {
        scale: [0.0; NR],
        zero: [0; NR],
        sum: [0; NR],
        steps: [StepParams::ZERO; KC / 32],
        step_k: KC,
        symmetric: false,
        pair: [0; NR],
        narrow: false,
    };

    /// Returns the steps and zero points of 32 k number `segment` of the panel.
    #[inline(always)]
    pub fn steps_of(&self, segment: usize) -> &StepParams {
        &self.steps[32 * segment / self.step_k]
    }

    /// Loads 16 rows from index `at` of the tiled scales of `w` into rows `row..row + 16` (`row` is
    /// 0 or 16).
    #[inline(always)]
    pub fn load(&mut self, w: &PackedWeight, at: usize, row: usize) {
        let (from, to) = (at..at + TILE_N, row..row + TILE_N);
        let scale = &mut self.scale[to.clone()];
        match w.tiled_scales() {
            Scales::F32(v) => scale.copy_from_slice(&v[from.clone()]),
            Scales::Bf16(v) => {
                for (to, from) in scale.iter_mut().zip(&v[from.clone()]) {
                    *to = widen(*from);
                }
            }
            Scales::F16(v) => {
                for (to, from) in scale.iter_mut().zip(&v[from.clone()]) {
                    *to = finite_f16_to_f32(from.to_bits());
                }
            }
        }
        if let Some(zeros) = w.sum_zeros() {
            for (to, &from) in self.zero[to.clone()].iter_mut().zip(&zeros[from.clone()]) {
                *to = i32::from(from);
            }
        }
        match w.tiled_sums() {
            GroupSums::Grouped(v) => {
                self.narrow = true;
                for (to, &from) in self.sum[to.clone()].iter_mut().zip(&v[from]) {
                    *to = i32::from(from);
                }
                for at in to {
                    self.pair[at] = pair(self.sum[at], self.zero[at]);
                }
            }
            GroupSums::PerChannel(v) => self.sum[to].copy_from_slice(&v[from]),
        }
    }
}

/// The parameters of the activations of one token and group.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct TokenParams {
    /// For unquantized activations, `scale` is the power of two that multiplies the sum of the
    /// group.
    pub group: TokenGroup,
    /// `-zero` in the low 16 bits and `-sum` in the high ones, the counterpart of
    /// [`GroupParams::pair`].
    pub pair: u32,
}

impl TokenParams {
    #[inline(always)]
    pub fn new(group: TokenGroup) -> Self {
        Self {
            group,
            pair: pair(-group.zero, -group.sum),
        }
    }
}

/// Two 16-bit numbers in one word, for a multiply-add of pairs.
#[inline(always)]
fn pair(low: i32, high: i32) -> u32 {
    low as u32 & 0xFFFF | (high as u32) << 16
}

/// Converts a finite binary16 to f32, exactly and in a form that vectorizes: exponent and mantissa
/// are shifted into place, and one exact product corrects the bias of the exponent, of subnormals
/// too.
#[inline(always)]
fn finite_f16_to_f32(bits: u16) -> f32 {
    let magnitude =
        f32::from_bits(u32::from(bits & 0x7FFF) << 13) * f32::from_bits((127 + 112) << 23);
    f32::from_bits(magnitude.to_bits() | u32::from(bits & 0x8000) << 16)
}

/// The operands of one call of a microkernel: a panel of W and a micro-panel of x.
pub(super) struct MicroTile<'a> {
    /// `[word of k][NR]`.
    pub panel: &'a [u32],
    /// `[word of k][token]`.
    pub x: &'a [u32],
    /// The parameters of the tokens in this group, `[token]`.
    pub tokens: &'a [TokenParams],
    pub params: &'a GroupParams,
    /// The sums of the group in i32 or f32, `[token][NR]`: read if `resume`, written unless `last`.
    pub sums: &'a mut [u32],
    /// Whether the group began with an earlier panel.
    pub resume: bool,
    /// Whether the group ends with this panel: its sums are then rescaled into `acc`.
    pub last: bool,
    /// `[token][NR]`.
    pub acc: &'a mut [f32],
}

impl MicroTile<'_> {
    /// Checks the lengths of all slices and returns the number of tokens.
    ///
    /// # Panics
    /// If a slice does not have the length of its shape.
    #[inline(always)]
    pub fn check(&self) -> usize {
        let tokens = self.tokens.len();
        let words = self.panel.len() / NR;
        assert!(
            self.panel.len() == words * NR
                && self.x.len() == words * tokens
                && self.sums.len() == tokens * NR
                && self.acc.len() == tokens * NR
        );
        tokens
    }
}

/// The operands of [`Microkernel::direct`]: one group of k (all k of a two-level weight), all tokens.
pub(super) struct DirectGroup<'a> {
    pub w: &'a PackedWeight,
    /// The row tile of each tile.
    pub row_tiles: [usize; 2],
    /// All k tiles of both row tiles.
    pub tiles: [&'a [Tile]; 2],
    /// The k of the group. Both ends are multiples of 32.
    pub k: Range<usize>,
    /// `[word of k][token]`.
    pub x: &'a [u32],
    /// `[token]`.
    pub tokens: &'a [TokenParams],
    pub params: &'a GroupParams,
    /// `[token][NR]`.
    pub acc: &'a mut [f32],
}

/// A GEMM microkernel: multiplies a panel of unpacked weights with micro-panels of tokens.
///
/// # Safety
/// All methods: the machine supports the instruction set of the implementing type.
pub(super) trait Microkernel {
    /// k of one 4-byte word: 4 (codes and 8-bit weights), 2 (BF16) or 1 (f32).
    const K_PER_WORD: usize;

    /// The largest number of tokens for which [`Microkernel::direct`] is faster than panels; 0 if
    /// it is not implemented.
    const MAX_DIRECT: usize = 0;

    /// [`GroupParams::load`]. An implementation may leave out what it does not read.
    #[inline(always)]
    unsafe fn load_params(params: &mut GroupParams, w: &PackedWeight, at: usize, row: usize) {
        params.load(w, at, row);
    }

    /// Unpacks 32 k (half `half` of each tile) into a panel `[32 / K_PER_WORD][NR]`. They are 32 k
    /// number `segment` of the whole panel, by which a two-level weight finds its parameters.
    unsafe fn unpack(
        tiles: [&Tile; 2],
        half: usize,
        params: &GroupParams,
        segment: usize,
        panel: &mut [u32],
    );

    /// Computes a whole group of at most [`Microkernel::MAX_DIRECT`] tokens, unpacking weights in
    /// registers.
    unsafe fn direct(_: DirectGroup<'_>) {
        unreachable!("MAX_DIRECT is 0");
    }

    /// `sums[token][row] (+)= sum over k of panel[k][row] * x[token][k]`. With the last panel of
    /// the group, `acc[token][row] = fma(value of the group, scale of the group, acc[token][row])`.
    ///
    /// At most MR tokens (`Isa::mr`).
    unsafe fn multiply(tile: MicroTile<'_>);
}

/// A GEMV microkernel for a few quantized tokens: reads the tiles of W once, from memory to
/// registers.
///
/// # Safety
/// The machine supports the instruction set of the implementing type.
pub(super) trait GemvKernel {
    /// Computes one group of 16 rows and `TOKENS` tokens, rescaled into `acc[TOKENS][16]`.
    ///
    /// The group is all tiles of `group`, or, with `HALVES` = 2, the two groups of its one tile.
    unsafe fn group<const TOKENS: usize, const HALVES: usize>(
        group: GemvGroup<'_>,
        acc: &mut [[f32; TILE_N]; TOKENS],
    );
}

/// The operands of a [`GemvKernel`].
pub(super) struct GemvGroup<'a> {
    pub w: &'a PackedWeight,
    /// Index of the first of the 16 rows of the (first) group in the tiled arrays of `w`.
    pub at: usize,
    pub tiles: &'a [Tile],
    /// x in the layout of `pack::pack_gemv`, from the first tile and token on: `[tile, stride words
    /// apart][token][GEMV_WORDS]`.
    pub x: &'a [u32],
    /// Words from one tile of `x` to the next.
    pub stride: usize,
    /// The parameters of the tokens in each group, `[token]`; the second is `None` if K ends before
    /// it.
    pub tokens: [Option<&'a [TokenParams]>; 2],
}

impl GemvGroup<'_> {
    /// Checks the lengths of all slices.
    ///
    /// # Panics
    /// If a slice is too short.
    #[inline(always)]
    pub fn check(&self, tokens: usize, halves: usize) {
        assert!(
            self.x.len() >= (self.tiles.len() - 1) * self.stride + tokens * GEMV_WORDS
                && self.tokens[0].is_some_and(|t| t.len() == tokens)
                && self.tokens[1].is_none_or(|t| t.len() == tokens && halves == 2)
        );
    }
}

/// A GEMV microkernel for a few quantized tokens and a two-level weight.
///
/// # Safety
/// The machine supports the instruction set of the implementing type.
pub(super) trait TwoLevelGemvKernel {
    /// Returns `sum qa * w8` over all k of 16 rows and `TOKENS` tokens. `HALVES` is 2 if a tile holds
    /// two groups.
    unsafe fn sums<const TOKENS: usize, const HALVES: usize>(
        rows: GemvRows<'_>,
    ) -> [[i32; TILE_N]; TOKENS];
}

/// The operands of a [`TwoLevelGemvKernel`]: all k of 16 rows.
pub(super) struct GemvRows<'a> {
    pub w: &'a PackedWeight,
    pub row_tile: usize,
    /// x in the layout of `pack::pack_gemv`, from the first token on: `[tile, stride words
    /// apart][token][GEMV_WORDS]`.
    pub x: &'a [u32],
    /// Words from one tile of `x` to the next.
    pub stride: usize,
    /// The parameters of the tokens, of which `sum` is that of a group, from the first token on:
    /// `[group, token_stride apart][token]`.
    pub tokens: &'a [TokenParams],
    /// Elements from one group of `tokens` to the next.
    pub token_stride: usize,
}

impl<'a> GemvRows<'a> {
    /// Returns the tiles of the rows, `[ceil(K/64)]`, in chunks of the tiles of a group: of one tile
    /// if it holds two.
    ///
    /// # Panics
    /// If a slice is too short.
    #[inline(always)]
    pub fn groups(&self, tokens: usize) -> std::slice::Chunks<'a, Tile> {
        let (k_tiles, groups) = (self.w.k().div_ceil(TILE_K), self.w.groups());
        assert!(
            self.x.len() >= (k_tiles - 1) * self.stride + tokens * GEMV_WORDS
                && self.tokens.len() >= (groups - 1) * self.token_stride + tokens
        );
        let size = self.w.grouping().size().unwrap_or(TILE_K);
        self.w.tiles()[self.row_tile * k_tiles..][..k_tiles].chunks(size.div_ceil(TILE_K))
    }

    /// Returns the index of group `group` of the rows in the tiled steps of the weight, `None` if K
    /// ends before it.
    #[inline(always)]
    pub fn index(&self, group: usize) -> Option<usize> {
        let groups = self.w.groups();
        (group < groups).then(|| (self.row_tile * groups + group) * TILE_N)
    }

    /// Returns the parameters of a token in a group.
    #[inline(always)]
    pub fn token(&self, group: usize, token: usize) -> &TokenParams {
        &self.tokens[group * self.token_stride + token]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn converts_every_finite_f16_exactly() {
        for bits in (0..=u16::MAX).filter(|b| b & 0x7C00 != 0x7C00) {
            let expected = f16::from_bits(bits).to_f32();
            assert_eq!(finite_f16_to_f32(bits).to_bits(), expected.to_bits());
        }
    }
}
