//! Quantization of plain weights, straight into tiles.
//!
//! [`Quantize`] holds the options. `search` chooses the grid of each row and group, [`WeightGrid`]
//! rounds to it, and `tiles` writes the codes of 16 rows at a time.

mod grid;
mod search;
mod tiles;
mod two_level;

use super::layout::{TILE_K, TILE_N, Tile};
use super::{Grouping, PackedWeight, ScaleType, Scheme};
use crate::{Error, MatRef, Result};
pub(super) use grid::{GroupValues, WeightGrid};
pub(super) use search::{Candidates, Channel};
pub(super) use tiles::{GroupError, RowTile, pack_tiles};

/// Whether the grid of a group is centered on zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Symmetry {
    /// `sw = absmax / 7`, no zero point.
    Symmetric,
    /// `sw = (max(0, hi) - min(0, lo)) / 15` and a zero point: all 16 values are used.
    Asymmetric,
}

/// How the scales, group steps and zero points of a weight are chosen.
///
/// A scale is rounded to its stored type first, so that the errors are those of the stored weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Clipping {
    /// The extremes of each group are covered: the scale is that of [`Symmetry`]. Of a two-level
    /// weight, `sw = absmax / 112` over the channel, and `sg` is the smallest step that covers the
    /// group.
    #[default]
    AbsMax,
    /// The least squared error, per channel and group. The result is never worse than that of
    /// [`Clipping::AbsMax`].
    ///
    /// - [`Scheme::Grouped`]: 20 scales, from the scale that covers the group down to 0.525 times
    ///   that; asymmetric, each with three adjacent zero points.
    /// - [`Scheme::TwoLevel`]: `sw = absmax / top` for the tops 60..=127, and for each the group
    ///   steps from the smallest one that covers the group down to half of it; asymmetric, each
    ///   with the two zero points that center the grid on the extremes best.
    ///
    /// Of equal errors, the larger scale and the larger step are taken.
    SquaredError,
}

impl Clipping {
    /// All ways.
    pub const ALL: [Clipping; 2] = [Self::AbsMax, Self::SquaredError];
}

impl std::str::FromStr for Clipping {
    type Err = Error;

    /// Parses the name that [`Display`](std::fmt::Display) writes.
    ///
    /// # Errors
    /// [`Error::Range`] for another text.
    fn from_str(text: &str) -> Result<Self> {
        let named = |clipping: &Clipping| clipping.to_string() == text;
        (Self::ALL.into_iter().find(named)).ok_or_else(|| Error::Range {
            what: "clipping",
            value: format!("`{text}`"),
            range: "absmax, search",
        })
    }
}

impl std::fmt::Display for Clipping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::AbsMax => "absmax",
            Self::SquaredError => "search",
        })
    }
}

/// The parameters of round-to-nearest quantization to INT4.
///
/// The scale is rounded to its stored type before `qw = clamp(rint(w / sw))`, so that `qw` is
/// nearest on the grid that is stored. A group of zeros has scale 0. Of a weight of
/// [`Scheme::TwoLevel`], `qw` is nearest on the grid of `sg * sw` among the codes with a valid
/// `w8`; a channel of zeros has scale 0, a group of zeros step 1. Zero is exact.
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
    /// The segments of k that share a scale or a step.
    pub(super) grouping: Grouping,
    pub(super) scheme: Scheme,
    pub(super) clipping: Clipping,
    symmetry: Symmetry,
    /// BF16 by default: it has the range of f32, so that no scale overflows or vanishes.
    scale_type: ScaleType,
}

impl Quantize {
    /// Symmetric quantization to [`Scheme::Grouped`] with BF16 scales and [`Clipping::AbsMax`].
    pub const fn new(grouping: Grouping) -> Self {
        Self {
            grouping,
            scheme: Scheme::Grouped,
            clipping: Clipping::AbsMax,
            symmetry: Symmetry::Symmetric,
            scale_type: ScaleType::Bf16,
        }
    }

    /// The segments of k that share a scale, or a step of a two-level weight.
    pub const fn grouping(&self) -> Grouping {
        self.grouping
    }

    /// The arithmetic of the weight: [`Scheme::Grouped`] by default.
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// How scales and steps are chosen: [`Clipping::AbsMax`] by default.
    pub const fn clipping(&self) -> Clipping {
        self.clipping
    }

    /// The symmetry: symmetric by default.
    pub const fn symmetry(&self) -> Symmetry {
        self.symmetry
    }

    /// The type of the scales: BF16 by default.
    pub const fn scale_type(&self) -> ScaleType {
        self.scale_type
    }

    /// Sets the arithmetic of the weight.
    #[must_use]
    pub const fn with_scheme(mut self, scheme: Scheme) -> Self {
        self.scheme = scheme;
        self
    }

    /// Sets how scales and steps are chosen.
    ///
    /// ```
    /// use w4ax::{Clipping, Grouping, MatRef, Quantize, Scheme};
    /// # fn main() -> w4ax::Result<()> {
    /// let plain: Vec<f32> = (0..16 * 64).map(|i| (i * i % 97) as f32 / 97.0 - 0.5).collect();
    /// let search = Quantize::new(Grouping::G32).with_clipping(Clipping::SquaredError);
    /// let weight = search.with_scheme(Scheme::TwoLevel).pack(MatRef::new(&plain, 16, 64)?)?;
    /// assert_eq!(weight.scheme(), Scheme::TwoLevel);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub const fn with_clipping(mut self, clipping: Clipping) -> Self {
        self.clipping = clipping;
        self
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
        let groups = self.grouping.groups(k);
        let params = match self.scheme {
            Scheme::Grouped => groups * (scale + zero),
            Scheme::TwoLevel => groups * (1 + zero) + scale,
        };
        tiles + rows * TILE_N * params
    }

    /// Quantizes and packs `w[N, K]` (f32, BF16 or F16), on all threads of the current rayon pool.
    ///
    /// # Errors
    /// [`Error::NotFinite`] for a NaN or an infinity in `w`, [`Error::Range`] if a scale is too
    /// large for F16, a per-channel or two-level K is above [`super::MAX_PER_CHANNEL_K`], or a
    /// two-level weight is not grouped, [`Error::Shape`] if N or K is 0.
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
        let candidates = Candidates::from(self.clipping);
        let costs = vec![1.0; k];
        pack_tiles(self, [n, k], progress, |rows, tile| {
            let mut plain = vec![0f64; k];
            for (r, row) in rows.enumerate() {
                for (at, (to, &from)) in plain.iter_mut().zip(w.row(row)).enumerate() {
                    let from: f32 = from.into();
                    if !from.is_finite() {
                        return Err(GroupError::NotFinite(row * k + at, from));
                    }
                    *to = from.into();
                }
                let channel = self.channel(&plain, &costs, candidates)?;
                for g in 0..grouping.groups(k) {
                    let range = grouping.range(g, k);
                    let group = GroupValues::new(&plain[range.clone()], &costs[range.clone()]);
                    let grid = self.grid_of(channel, &group, candidates)?;
                    tile.set_grid(r, g, &grid);
                    for k in range {
                        tile.set_code(r, k, grid.code(plain[k]));
                    }
                }
            }
            Ok(())
        })
    }
}
