//! What an instruction set brings: the inner steps of a GEMM, for integers and for floats.

use super::workspace::BLOCK_N;
use crate::numerics::{TokenGroup, widen};
use crate::weights::layout::{TILE_N, Tile};
use crate::weights::{GroupSums, Scales};
use crate::{PackedWeight, weights::layout::TILE_K};

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

    /// Reads group `group` of `count` tiles of rows (1 or 2) from tile `first` on.
    #[inline(always)]
    pub fn load(&mut self, w: &PackedWeight, first: usize, count: usize, group: usize) {
        for i in 0..count {
            let at = ((first + i) * w.groups() + group) * TILE_N;
            let (from, to) = (at..at + TILE_N, i * TILE_N..(i + 1) * TILE_N);
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
}

/// What a token has for one group.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Token {
    /// Unquantised activations: `scale` is what the group's sum is multiplied with, a power of two.
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

/// A finite binary16 as f32, exact, in a form that vectorises: exponent and mantissa move to their places and one exact
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

/// The inner steps for more than a few tokens: weights are unpacked once into a panel that all tokens read.
///
/// # Safety
/// All methods: the machine has the instruction set of the implementing type.
pub(super) trait Kernel {
    /// k of one word of four bytes: 4 (codes and weights of 8 bits), 2 (BF16) or 1 (f32).
    const K_PER_WORD: usize;

    /// Unpacks 32 k (half `half` of each tile) to a panel of `32 / K_PER_WORD` words.
    unsafe fn unpack(tiles: [&Tile; 2], half: usize, beside: &Beside, panel: &mut [u32]);

    /// `sums[token][row] (+)= sum over k of panel[k][row] * x[token][k]`; with the group's last panel
    /// `acc[token][row] = fma(group's value, group's scale, acc[token][row])`. At most `Isa::strip` tokens.
    unsafe fn multiply(strip: Strip<'_>);
}

/// The inner step for a few tokens: weights go from memory to registers, once.
///
/// # Safety
/// The machine has the instruction set of the implementing type.
pub(super) trait Stream {
    /// What the step adds to every `qw`.
    const OFFSET: i32;

    /// `sums[half][row] = sum over k of (qw[row][k] + OFFSET) * qa[k]`, over all k of all tiles (`HALVES` = 1), or over
    /// each half of the one tile (2). `x`: for tile i the words `[i * stride..][..32]`, codes as `operand::stream` lays them.
    unsafe fn dot<const TOKENS: usize, const HALVES: usize>(
        tiles: &[Tile],
        x: [&[u32]; TOKENS],
        stride: usize,
    ) -> [[[i32; TILE_N]; HALVES]; TOKENS];
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
