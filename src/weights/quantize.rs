//! Round-to-nearest quantization of plain weights, straight into tiles.

use super::layout::{TILE_K, TILE_N, Tile};
use super::pack::{Parts, check_shape};
use super::{Grouping, PackedWeight, ScaleType, Scales, Scheme};
use crate::{Error, MatRef, Result};
use half::{bf16, f16};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Whether the grid of a group is centered on zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Symmetry {
    /// `sw = absmax / 7`, no zero point.
    Symmetric,
    /// `sw = (max(0, hi) - min(0, lo)) / 15` and a zero point: all 16 values are used.
    Asymmetric,
}

/// The parameters of round-to-nearest quantization to INT4.
///
/// The scale is rounded to its stored type before `qw = clamp(rint(w / sw))`, so that `qw` is
/// nearest on the grid that is stored. A group of zeros has scale 0.
///
/// ```
/// use w4ax::{Grouping, MatRef, Quantize, Symmetry};
/// # fn main() -> w4ax::Result<()> {
/// let plain: Vec<f32> = (0..32 * 128).map(|i| (i % 31) as f32 / 16.0).collect();
/// let quantize = Quantize::new(Grouping::G128).with_symmetry(Symmetry::Asymmetric);
/// let weight = quantize.pack(MatRef::new(&plain, 32, 128)?)?;
/// let dequantized = weight.dequantize();
/// let errors = dequantized.iter().zip(&plain).map(|(a, b)| (a - b).abs());
/// let worst = errors.fold(0.0, f32::max);
/// assert!(worst <= 0.07); // Half a step of (30 / 16) / 15, and the scale's rounding.
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantize {
    /// The segments of k that share a scale.
    pub(super) grouping: Grouping,
    symmetry: Symmetry,
    /// BF16 by default: it has the range of f32, so that no scale overflows or vanishes.
    scale_type: ScaleType,
}

/// The grid of one row and group: `w ~ (q - zero) * scale`.
pub(super) struct WeightGrid {
    scale: f32,
    zero: i8,
}

impl WeightGrid {
    /// Returns the nearest code. The quotient of two f32 cannot overflow in f64.
    pub fn code(&self, w: f64) -> i8 {
        if self.scale == 0.0 {
            return 0;
        }
        let step = (w / f64::from(self.scale)).round_ties_even();
        (step + f64::from(self.zero)).clamp(-8.0, 7.0) as i8
    }

    /// Returns the value of a code.
    pub fn value(&self, code: i8) -> f64 {
        f64::from(code - self.zero) * f64::from(self.scale)
    }
}

/// The output of the quantization of 16 rows.
pub(super) struct RowTile<'a> {
    tiles: &'a mut [Tile],
    /// `[groups][16]`.
    scales: &'a mut [f32],
    /// `[groups][16]`.
    zeros: &'a mut [i8],
}

impl RowTile<'_> {
    /// Sets the code of row `r` of the 16, at `k`. Each is set once.
    pub fn set_code(&mut self, r: usize, k: usize, code: i8) {
        self.tiles[k / TILE_K].put(r, k % TILE_K, code);
    }

    /// Sets the grid of row `r` of the 16, group `g`.
    pub fn set_grid(&mut self, r: usize, g: usize, grid: &WeightGrid) {
        self.scales[g * TILE_N + r] = grid.scale;
        self.zeros[g * TILE_N + r] = grid.zero;
    }
}

impl Quantize {
    /// Symmetric quantization with BF16 scales.
    pub const fn new(grouping: Grouping) -> Self {
        Self {
            grouping,
            symmetry: Symmetry::Symmetric,
            scale_type: ScaleType::Bf16,
        }
    }

    /// The segments of k that share a scale.
    pub const fn grouping(&self) -> Grouping {
        self.grouping
    }

    /// The symmetry: symmetric by default.
    pub const fn symmetry(&self) -> Symmetry {
        self.symmetry
    }

    /// The type of the scales: BF16 by default.
    pub const fn scale_type(&self) -> ScaleType {
        self.scale_type
    }

    /// Sets the symmetry.
    #[must_use]
    pub const fn with_symmetry(mut self, symmetry: Symmetry) -> Self {
        self.symmetry = symmetry;
        self
    }

    /// Sets the type of the scales.
    #[must_use]
    pub const fn with_scale_type(mut self, scale_type: ScaleType) -> Self {
        self.scale_type = scale_type;
        self
    }

    /// Returns the packed size in bytes of a weight `[n, k]`, as [`PackedWeight::packed_bytes`].
    ///
    /// ```
    /// use w4ax::{Grouping, MatRef, Quantize};
    /// # fn main() -> w4ax::Result<()> {
    /// let quantize = Quantize::new(Grouping::G128);
    /// let weight = quantize.pack(MatRef::new(&[0.5f32; 20 * 300], 20, 300)?)?;
    /// assert_eq!(quantize.packed_bytes(20, 300), weight.packed_bytes());
    /// # Ok(())
    /// # }
    /// ```
    pub const fn packed_bytes(&self, n: usize, k: usize) -> usize {
        let rows = n.div_ceil(TILE_N);
        let tiles = rows * k.div_ceil(TILE_K) * size_of::<Tile>();
        let scale = match self.scale_type {
            ScaleType::F32 => 4,
            ScaleType::F16 | ScaleType::Bf16 => 2,
        };
        let zero = match self.symmetry {
            Symmetry::Symmetric => 0,
            Symmetry::Asymmetric => 1,
        };
        tiles + rows * self.grouping.groups(k) * TILE_N * (scale + zero)
    }

    /// Quantizes and packs `w[N, K]` (f32, BF16 or F16), on all threads of the current rayon pool.
    ///
    /// # Errors
    /// [`Error::NotFinite`] for a NaN or an infinity in `w`, [`Error::Range`] if a scale is too
    /// large for F16 or a per-channel K is above [`super::MAX_PER_CHANNEL_K`], [`Error::Shape`] if
    /// N or K is 0.
    pub fn pack<T>(&self, w: MatRef<'_, T>) -> Result<PackedWeight>
    where
        T: Copy + Into<f32> + Sync,
    {
        self.pack_with_progress(w, |_, _| ())
    }

    /// [`Quantize::pack`] with calls of `progress(rows done, all rows)` from the worker threads,
    /// once per 16 rows.
    ///
    /// The counts are exact but may arrive out of order.
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

    /// Packs a weight; `quantize` quantizes 16 rows at a time. Uses all threads of the current
    /// rayon pool.
    pub(super) fn pack_tiles(
        &self,
        n: usize,
        k: usize,
        progress: impl Fn(usize, usize) + Sync,
        quantize: impl Fn(Range<usize>, &mut RowTile<'_>) -> std::result::Result<(), GroupError> + Sync,
    ) -> Result<PackedWeight> {
        check_shape(n, k, self.grouping, Scheme::Grouped)?;
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
        PackedWeight::from_parts(Parts {
            n,
            k,
            grouping: self.grouping,
            tiles,
            scales,
            zeros,
            steps: None,
        })
    }

    /// Returns the grid that covers a group.
    fn grid_of(&self, w: &[f32]) -> std::result::Result<WeightGrid, GroupError> {
        if let Some(index) = w.iter().position(|v| !v.is_finite()) {
            return Err(GroupError::NotFinite(index, w[index]));
        }
        let lo = w.iter().fold(0f32, |a, &v| a.min(v));
        let hi = w.iter().fold(0f32, |a, &v| a.max(v));
        self.grid(lo, hi)
    }

    /// Returns the grid that covers `lo <= 0` and `hi >= 0`.
    pub(super) fn grid(&self, lo: f32, hi: f32) -> std::result::Result<WeightGrid, GroupError> {
        if hi == 0.0 && lo == 0.0 {
            return Ok(WeightGrid {
                scale: 0.0,
                zero: 0,
            });
        }
        let exact = match self.symmetry {
            Symmetry::Symmetric => hi.max(-lo) / 7.0,
            // Two divisions, because the difference may overflow.
            Symmetry::Asymmetric => hi / 15.0 - lo / 15.0,
        };
        // A scale that rounds to zero becomes the smallest positive one, which is the nearest grid.
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
            // The code of zero in 0..15, shifted to -8..7 like all codes.
            Symmetry::Asymmetric => {
                let step = (f64::from(-lo) / f64::from(scale)).round_ties_even();
                step.clamp(0.0, 15.0) - 8.0
            }
        };
        Ok(WeightGrid {
            scale,
            zero: zero as i8,
        })
    }
}

/// An error in a group. Its index is relative to the start of the group.
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
                range: "a value in the range of the scale type (at most 65504 for F16)",
            },
        }
    }
}
