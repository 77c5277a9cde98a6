//! Round-to-nearest quantization of plain weights, straight into tiles.

use super::layout::{TILE_K, TILE_N, Tile};
use super::{Grouping, PackedWeight, ScaleType, Scales, check_shape};
use crate::{Error, MatRef, Result};
use half::{bf16, f16};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Whether a group's grid is centerd on zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Symmetry {
    /// `sw = absmax / 7`, no zero point.
    Symmetric,
    /// `sw = (max(0, hi) - min(0, lo)) / 15` and a zero point: all 16 values are used.
    Asymmetric,
}

/// How to quantize a plain weight to INT4, round to nearest.
///
/// The scale is rounded to its stored type first and `qw = clamp(rint(w / sw))` is taken with the rounded one, so that
/// what is stored is the nearest value of the grid that will be used. A group of zeros has scale 0.
///
/// ```
/// use w4ax::{Grouping, MatRef, Quantize, Symmetry};
/// # fn main() -> w4ax::Result<()> {
/// let plain: Vec<f32> = (0..32 * 128).map(|i| (i % 31) as f32 / 16.0).collect();
/// let quantize = Quantize { symmetry: Symmetry::Asymmetric, ..Quantize::new(Grouping::G128) };
/// let weight = quantize.pack(MatRef::new(&plain, 32, 128)?)?;
/// let worst = weight.dequantize().iter().zip(&plain).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
/// assert!(worst <= 0.07); // Half a step of (30 / 16) / 15, and the scale's rounding.
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantize {
    /// Over which k a scale is shared.
    pub grouping: Grouping,
    /// Symmetric by default.
    pub symmetry: Symmetry,
    /// BF16 by default: its range is that of f32, so no scale overflows or vanishes.
    pub scale_type: ScaleType,
}

/// One group's grid: `w ~ (q - zero) * scale`.
pub(super) struct Grid {
    scale: f32,
    zero: i8,
}

impl Grid {
    /// The nearest code. In f64, where the quotient of two f32 cannot overflow.
    pub fn code(&self, w: f64) -> i8 {
        if self.scale == 0.0 {
            return 0;
        }
        let step = (w / f64::from(self.scale)).round_ties_even();
        (step + f64::from(self.zero)).clamp(-8.0, 7.0) as i8
    }

    /// What a code stands for.
    pub fn value(&self, code: i8) -> f64 {
        f64::from(code - self.zero) * f64::from(self.scale)
    }
}

/// 16 rows of a weight while they are quantized: codes and grids go into their places beside each other.
pub(super) struct RowTile<'a> {
    tiles: &'a mut [Tile],
    /// `[groups][16]`.
    scales: &'a mut [f32],
    zeros: &'a mut [i8],
}

impl RowTile<'_> {
    /// The code of row `r` of the 16, at `k`. Each is set once.
    pub fn set_code(&mut self, r: usize, k: usize, code: i8) {
        self.tiles[k / TILE_K].put(r, k % TILE_K, code);
    }

    /// The grid of row `r` of the 16, group `g`.
    pub fn set_grid(&mut self, r: usize, g: usize, grid: &Grid) {
        self.scales[g * TILE_N + r] = grid.scale;
        self.zeros[g * TILE_N + r] = grid.zero;
    }
}

impl Quantize {
    /// Symmetric, BF16 scales.
    pub const fn new(grouping: Grouping) -> Self {
        Self {
            grouping,
            symmetry: Symmetry::Symmetric,
            scale_type: ScaleType::Bf16,
        }
    }

    /// Another symmetry.
    pub const fn symmetry(mut self, symmetry: Symmetry) -> Self {
        self.symmetry = symmetry;
        self
    }

    /// Another scale type.
    pub const fn scale_type(mut self, scale_type: ScaleType) -> Self {
        self.scale_type = scale_type;
        self
    }

    /// Quantizes and packs `w[N, K]` (f32, BF16 or F16), on all threads of the current rayon pool.
    ///
    /// # Errors
    /// [`Error::NotFinite`] for a NaN or an infinity in `w`, [`Error::Range`] if a scale is too large for F16 or a per-channel K is over [`super::MAX_PER_CHANNEL_K`], [`Error::Shape`] if N or K is 0.
    pub fn pack<T>(&self, w: MatRef<'_, T>) -> Result<PackedWeight>
    where
        T: Copy + Into<f32> + Sync,
    {
        self.pack_with_progress(w, |_, _| ())
    }

    /// As [`Quantize::pack`]; `progress(rows done, rows in all)` is called from the worker threads, once for every 16
    /// rows, with counts that are exact but may arrive out of order.
    ///
    /// # Errors
    /// As [`Quantize::pack`].
    pub fn pack_with_progress<T>(
        &self,
        w: MatRef<'_, T>,
        progress: impl Fn(usize, usize) + Sync,
    ) -> Result<PackedWeight>
    where
        T: Copy + Into<f32> + Sync,
    {
        let (n, k, grouping) = (w.rows(), w.cols(), self.grouping);
        self.pack_tiles(n, k, progress, |rows, tile| {
            let mut plain = vec![0f32; k];
            for (r, row) in rows.enumerate() {
                for (to, &from) in plain.iter_mut().zip(w.row(row)) {
                    *to = from.into();
                }
                for g in 0..grouping.groups(k) {
                    let range = grouping.range(g, k);
                    let grid = self
                        .grid_of(&plain[range.clone()])
                        .map_err(|e| e.at(row * k + range.start))?;
                    tile.set_grid(r, g, &grid);
                    for k in range {
                        tile.set_code(r, k, grid.code(f64::from(plain[k])));
                    }
                }
            }
            Ok(())
        })
    }

    /// Packs a weight whose rows `quantize` quantizes, 16 at a time, on all threads of the current rayon pool.
    pub(super) fn pack_tiles(
        &self,
        n: usize,
        k: usize,
        progress: impl Fn(usize, usize) + Sync,
        quantize: impl Fn(Range<usize>, &mut RowTile<'_>) -> std::result::Result<(), GroupError> + Sync,
    ) -> Result<PackedWeight> {
        check_shape(n, k, self.grouping)?;
        let (row_tiles, k_tiles) = (n.div_ceil(TILE_N), k.div_ceil(TILE_K));
        let groups = self.grouping.groups(k);
        let mut tiles = vec![Tile::ZERO; row_tiles * k_tiles];
        let mut scales = vec![0f32; row_tiles * groups * TILE_N];
        let mut zeros = vec![0i8; scales.len()];
        let done = AtomicUsize::new(0);
        tiles
            .par_chunks_mut(k_tiles)
            .zip(scales.par_chunks_mut(groups * TILE_N))
            .zip(zeros.par_chunks_mut(groups * TILE_N))
            .enumerate()
            .try_for_each(|(row_tile, ((tiles, scales), zeros))| {
                let rows = row_tile * TILE_N..((row_tile + 1) * TILE_N).min(n);
                let mut tile = RowTile {
                    tiles,
                    scales,
                    zeros,
                };
                quantize(rows.clone(), &mut tile)?;
                progress(
                    done.fetch_add(rows.len(), Ordering::Relaxed) + rows.len(),
                    n,
                );
                Ok(())
            })
            .map_err(|e: GroupError| e.into_error())?;
        let scales = match self.scale_type {
            ScaleType::F32 => Scales::F32(scales),
            ScaleType::F16 => Scales::F16(scales.into_iter().map(f16::from_f32).collect()),
            ScaleType::Bf16 => Scales::Bf16(scales.into_iter().map(bf16::from_f32).collect()),
        };
        let zeros = (self.symmetry == Symmetry::Asymmetric).then_some(zeros);
        PackedWeight::from_parts(n, k, self.grouping, tiles, scales, zeros)
    }

    /// The grid that holds all of a group.
    fn grid_of(&self, w: &[f32]) -> std::result::Result<Grid, GroupError> {
        if let Some(index) = w.iter().position(|v| !v.is_finite()) {
            return Err(GroupError::NotFinite(index, w[index]));
        }
        let lo = w.iter().fold(0f32, |a, &v| a.min(v));
        let hi = w.iter().fold(0f32, |a, &v| a.max(v));
        self.grid(lo, hi)
    }

    /// The grid that holds `lo <= 0` and `hi >= 0`.
    pub(super) fn grid(&self, lo: f32, hi: f32) -> std::result::Result<Grid, GroupError> {
        if hi == 0.0 && lo == 0.0 {
            return Ok(Grid {
                scale: 0.0,
                zero: 0,
            });
        }
        let exact = match self.symmetry {
            Symmetry::Symmetric => hi.max(-lo) / 7.0,
            // Two divisions: the difference itself may overflow.
            Symmetry::Asymmetric => hi / 15.0 - lo / 15.0,
        };
        // A scale that rounds to zero becomes the type's smallest: the nearest grid there is.
        let scale = match self.scale_type {
            ScaleType::F32 => exact.max(f32::from_bits(1)),
            ScaleType::F16 => f16::from_f32(exact).max(f16::from_bits(1)).to_f32(),
            ScaleType::Bf16 => bf16::from_f32(exact).max(bf16::from_bits(1)).to_f32(),
        };
        if !scale.is_finite() {
            return Err(GroupError::Scale(exact));
        }
        let zero = match self.symmetry {
            Symmetry::Symmetric => 0.0,
            // The code 0..15 of zero, moved to -8..7 with the codes themselves.
            Symmetry::Asymmetric => {
                let step = (f64::from(-lo) / f64::from(scale)).round_ties_even();
                step.clamp(0.0, 15.0) - 8.0
            }
        };
        Ok(Grid {
            scale,
            zero: zero as i8,
        })
    }
}

/// What can go wrong in a group; the index of its first element is known only outside.
pub(super) enum GroupError {
    NotFinite(usize, f32),
    Scale(f32),
}

impl GroupError {
    fn at(self, start: usize) -> Self {
        match self {
            Self::NotFinite(index, v) => Self::NotFinite(start + index, v),
            scale => scale,
        }
    }

    fn into_error(self) -> Error {
        match self {
            Self::NotFinite(index, v) => Error::NotFinite {
                what: "weight",
                index,
                value: f64::from(v),
            },
            Self::Scale(v) => Error::Range {
                what: "weight scale",
                value: format!("{v:e}"),
                range: "what the type of the scales can hold (65504 in an f16)",
            },
        }
    }
}
