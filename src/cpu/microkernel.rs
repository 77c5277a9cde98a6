//! What an instruction set brings: the inner steps of a GEMM, for integers and for floats.

use super::workspace::BLOCK_N;
use crate::numerics::{TokenGroup, widen};
use crate::weights::layout::{TILE_N, Tile};
use crate::weights::{GroupSums, Scales};
use crate::{PackedWeight, weights::layout::TILE_K};
use std::ops::Range;

/// The numbers that belong to one group of k and a block of two tiles of rows. What the second tile would hold is 0 where
/// there is none.
pub(super) struct Beside {
    /// `sw`.
    pub scale: [f32; BLOCK_N],
    /// `zw`.
    pub zero: [i32; BLOCK_N],
    /// `sum(qw - zw)`.
    pub sum: [i32; BLOCK_N],
    /// `sum(qw - zw)` in the low 16 bits and `zw` in the high ones, if `narrow`.
    pub pair: [u32; BLOCK_N],
    /// A group of at most 128 k: both sums of a group fit 16 bits, and so one multiply-add of pairs takes both corrections.
    pub narrow: bool,
}

impl Beside {
    pub const ZERO: Self = Self {
        scale: [0.0; BLOCK_N],
        zero: [0; BLOCK_N],
        sum: [0; BLOCK_N],
        pair: [0; BLOCK_N],
        narrow: false,
    };

    /// Reads the 16 rows from `at` on of `w`'s tiled arrays, to be rows `row`.. here (0 or 16).
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
        if let Some(zeros) = w.tiled_zeros() {
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

/// What a token has for one group.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Token {
    /// Unquantized activations: `scale` is what the group's sum is multiplied with, a power of two.
    pub group: TokenGroup,
    /// `-zero` in the low 16 bits and `-sum` in the high ones, to go with [`Beside::pair`].
    pub pair: u32,
}

impl Token {
    #[inline(always)]
    pub fn new(group: TokenGroup) -> Self {
        Self {
            group,
            pair: pair(-group.zero, -group.sum),
        }
    }
}

/// Two numbers of 16 bits in one word, for a multiply-add of pairs.
#[inline(always)]
fn pair(low: i32, high: i32) -> u32 {
    low as u32 & 0xFFFF | (high as u32) << 16
}

/// A finite binary16 as f32, exact, in a form that vectorizes: exponent and mantissa move to their places and one exact
/// product mends the exponent's bias, subnormals too.
#[inline(always)]
fn finite_f16_to_f32(bits: u16) -> f32 {
    let magnitude =
        f32::from_bits(u32::from(bits & 0x7FFF) << 13) * f32::from_bits((127 + 112) << 23);
    f32::from_bits(magnitude.to_bits() | u32::from(bits & 0x8000) << 16)
}

/// One panel times one strip of tokens. All slices are exactly as long as their layouts say.
pub(super) struct Strip<'a> {
    /// `[word][BLOCK_N]`, words of four bytes; their number is the panel's k over `K_PER_WORD`.
    pub panel: &'a [u32],
    /// `[word][token]`.
    pub x: &'a [u32],
    /// The tokens' numbers of this group.
    pub tokens: &'a [Token],
    pub beside: &'a Beside,
    /// `[token][BLOCK_N]`, i32 or f32: the group's sums before this panel if `resume`; after it, unless `last`.
    pub sums: &'a mut [u32],
    pub resume: bool,
    /// The group ends with this panel: its sums are rescaled into `acc`.
    pub last: bool,
    /// `[token][BLOCK_N]`.
    pub acc: &'a mut [f32],
}

impl Strip<'_> {
    /// The strip's tokens; panics if a slice is not as long as it must be.
    #[inline(always)]
    pub fn check(&self) -> usize {
        let tokens = self.tokens.len();
        let words = self.panel.len() / BLOCK_N;
        assert!(
            self.panel.len() == words * BLOCK_N
                && self.x.len() == words * tokens
                && self.sums.len() == tokens * BLOCK_N
                && self.acc.len() == tokens * BLOCK_N
        );
        tokens
    }
}

/// One group times all tokens, for [`Kernel::direct`].
pub(super) struct Direct<'a> {
    /// The k tiles of both tiles of rows, all of them.
    pub tiles: [&'a [Tile]; 2],
    /// The group's k, a multiple of 32 at both ends.
    pub k: Range<usize>,
    /// `[word of the group][token]`.
    pub x: &'a [u32],
    pub tokens: &'a [Token],
    pub beside: &'a Beside,
    /// `[token][BLOCK_N]`.
    pub acc: &'a mut [f32],
}

/// The inner steps for more than a few tokens: weights are unpacked once into a panel that all tokens read.
///
/// # Safety
/// All methods: the machine has the instruction set of the implementing type.
pub(super) trait Kernel {
    /// k of one word of four bytes: 4 (codes and weights of 8 bits), 2 (BF16) or 1 (f32).
    const K_PER_WORD: usize;

    /// As [`Beside::load`]; what the kernel itself does not read may be left out.
    #[inline(always)]
    unsafe fn load(beside: &mut Beside, w: &PackedWeight, at: usize, row: usize) {
        beside.load(w, at, row);
    }

    /// Unpacks 32 k (half `half` of each tile) to a panel of `32 / K_PER_WORD` words.
    unsafe fn unpack(tiles: [&Tile; 2], half: usize, beside: &Beside, panel: &mut [u32]);

    /// The most tokens for which [`Kernel::direct`] is faster than panels; 0 if there is none.
    const DIRECT: usize = 0;

    /// A whole group of one or a few tokens, weights from registers to products without a panel between.
    unsafe fn direct(_: Direct<'_>) {
        unreachable!("no direct way");
    }

    /// `sums[token][row] (+)= sum over k of panel[k][row] * x[token][k]`; with the group's last panel
    /// `acc[token][row] = fma(group's value, group's scale, acc[token][row])`. At most `Isa::strip` tokens.
    unsafe fn multiply(strip: Strip<'_>);
}

/// The inner step for a few tokens: weights go from memory to registers, once.
///
/// # Safety
/// The machine has the instruction set of the implementing type.
pub(super) trait Stream {
    /// One group of 16 rows: all k of all tiles, or the `HALVES` = 2 groups of the one tile, times `TOKENS` tokens, rescaled
    /// into `acc[token][row]`.
    unsafe fn group<const TOKENS: usize, const HALVES: usize>(
        of: StreamGroup<'_>,
        acc: &mut [[f32; TILE_N]; TOKENS],
    );
}

/// What a [`Stream`] reads.
pub(super) struct StreamGroup<'a> {
    pub w: &'a PackedWeight,
    /// Where the 16 numbers of the (first) group begin in the tiled arrays of `w`.
    pub at: usize,
    pub tiles: &'a [Tile],
    /// The words of the tokens in question and the first tile, as `operand::stream` lays codes: a token's `STREAM_WORDS`
    /// after another's, a tile's `stride` after another's.
    pub x: &'a [u32],
    pub stride: usize,
    /// The tokens' numbers of each group; the second is missing where K ends before it.
    pub tokens: [Option<&'a [Token]>; 2],
}

impl StreamGroup<'_> {
    /// Panics if a slice is shorter than it must be.
    #[inline(always)]
    pub fn check(&self, tokens: usize, halves: usize) {
        assert!(
            self.x.len() >= (self.tiles.len() - 1) * self.stride + tokens * STREAM_WORDS
                && self.tokens[0].is_some_and(|t| t.len() == tokens)
                && self.tokens[1].is_none_or(|t| t.len() == tokens && halves == 2)
        );
    }
}

/// Words of a tile and token in the order of `operand::stream`.
pub(super) const STREAM_WORDS: usize = TILE_K / 2;

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn every_finite_f16_converts_exactly() {
        for bits in (0..=u16::MAX).filter(|b| b & 0x7C00 != 0x7C00) {
            let expected = f16::from_bits(bits).to_f32();
            assert_eq!(finite_f16_to_f32(bits).to_bits(), expected.to_bits());
        }
    }
}
