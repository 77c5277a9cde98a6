//! The interface of the microkernels, which each instruction set implements in `arch/`.
//!
//! Vocabulary is that of BLIS: W is packed into panels of NR output channels and at most KC inputs,
//! x into micro-panels of at most MR tokens. A microkernel multiplies one panel with one
//! micro-panel.

use super::params::{GroupParams, TokenParams};
pub(super) use super::params::{KC, NR};
use crate::PackedWeight;
use crate::weights::layout::{TILE_K, TILE_N, Tile};
use std::ops::Range;

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

/// The operands of [`Microkernel::direct`]: one group of k (all k of a two-level weight), all
/// tokens.
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
    /// The most tokens of a call.
    const MAX_TOKENS: usize;

    /// Returns `sum qa * w8` over all k of 16 rows and `TOKENS` tokens. `HALVES` is 2 if a tile
    /// holds two groups.
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
    /// Returns the tiles of the rows, `[ceil(K/64)]`, in chunks of the tiles of a group: of one
    /// tile if it holds two.
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

    /// Returns the part of a tiled array that belongs to the rows, `[group][16 rows]`.
    #[inline(always)]
    pub fn of_rows<T>(&self, tiled: &'a [T]) -> &'a [T] {
        let len = self.w.groups() * TILE_N;
        &tiled[self.row_tile * len..][..len]
    }

    /// Returns the steps of the rows, `[group][16 rows]`.
    #[inline(always)]
    pub fn steps(&self) -> &'a [u8] {
        self.of_rows(self.w.tiled_steps().unwrap_or_default())
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
