//! The constructors of a packed weight from values that are already quantized.

use super::layout::{TILE_K, TILE_N, Tile};
use super::packed::group_index;
use super::{GroupSums, Grouping, MAX_PER_CHANNEL_K, PackedWeight, Scales, Scheme};
use crate::{Error, MatRef, Result};
use rayon::prelude::*;

/// Checks N, K and the grouping of a weight.
pub(super) fn check_shape(n: usize, k: usize, grouping: Grouping, scheme: Scheme) -> Result<()> {
    if n == 0 || k == 0 {
        return Err(Error::shape("weight", [n.max(1), k.max(1)], [n, k]));
    }
    let too_long = |what| Error::Range {
        what,
        value: k.to_string(),
        range: "1..=65536 (its integer sums must fit 32 bits)",
    };
    match (scheme, grouping) {
        (Scheme::TwoLevel, Grouping::PerChannel) => Err(Error::Range {
            what: "grouping of a two-level weight",
            value: grouping.to_string(),
            range: "g32, g64, g128",
        }),
        (Scheme::TwoLevel, _) if k > MAX_PER_CHANNEL_K => Err(too_long("K of a two-level weight")),
        (Scheme::Grouped, Grouping::PerChannel) if k > MAX_PER_CHANNEL_K => {
            Err(too_long("K of a per-channel weight"))
        }
        _ => Ok(()),
    }
}

/// The parts of a packed weight in tiled order, not yet checked.
pub(super) struct Parts {
    pub n: usize,
    pub k: usize,
    pub grouping: Grouping,
    /// `[ceil(N/16)][ceil(K/64)]`.
    pub tiles: Vec<Tile>,
    /// `[ceil(N/16)][groups][16]`, or `[ceil(N/16)][16]` with `steps`.
    pub scales: Scales,
    /// `[ceil(N/16)][groups][16]`.
    pub zeros: Option<Vec<i8>>,
    /// `[ceil(N/16)][groups][16]`; `None` for a grouped weight.
    pub steps: Option<Vec<u8>>,
}

impl Parts {
    fn scheme(&self) -> Scheme {
        match self.steps {
            None => Scheme::Grouped,
            Some(_) => Scheme::TwoLevel,
        }
    }

    /// Checks the ranges of the scales, zero points and steps.
    fn check(&self) -> Result<()> {
        check_shape(self.n, self.k, self.grouping, self.scheme())?;
        let scales = &self.scales;
        if let Some(index) = (0..scales.len()).find(|&i| !scales.get(i).is_finite()) {
            return Err(Error::NotFinite {
                what: "weight scales",
                index,
                value: f64::from(scales.get(index)),
            });
        }
        if let Some(z) = self.zeros.iter().flatten().find(|z| !(-8..=8).contains(*z)) {
            return Err(Error::Range {
                what: "zero point",
                value: z.to_string(),
                range: "-8..=8",
            });
        }
        let groups = self.grouping.groups(self.k);
        let row = |at: usize| at / (groups * TILE_N) * TILE_N + at % TILE_N;
        let steps = self.steps.iter().flatten().enumerate();
        let mut steps = steps.filter(|&(at, _)| row(at) < self.n).map(|(_, s)| s);
        if let Some(step) = steps.find(|s| !(1..=Scheme::MAX_STEP).contains(*s)) {
            return Err(Error::Range {
                what: "group step",
                value: step.to_string(),
                range: "1..=16",
            });
        }
        // The padding of a partial tile, `qw = 0`, is unpacked with the values beside it.
        let steps = self.steps.iter().flatten();
        let mut products = (steps.zip(self.zeros.iter().flatten()))
            .map(|(&step, &zero)| i32::from(step) * i32::from(zero));
        if let Some(product) = products.find(|product| product.abs() > Scheme::MAX_W8) {
            return Err(Error::Range {
                what: "zero point times group step",
                value: product.to_string(),
                range: "-127..=127",
            });
        }
        Ok(())
    }
}

/// Checks that every value is an INT4.
fn check_values(q: MatRef<'_, i8>) -> Result<()> {
    for row in 0..q.rows() {
        if let Some(v) = q.row(row).iter().find(|v| !(-8..8).contains(*v)) {
            return Err(Error::Range {
                what: "quantized weight",
                value: v.to_string(),
                range: "-8..=7",
            });
        }
    }
    Ok(())
}

/// Packs checked values into tiles, `[ceil(N/16)][ceil(K/64)]`.
fn pack_tiles(q: MatRef<'_, i8>) -> Vec<Tile> {
    let (n, k_tiles) = (q.rows(), q.cols().div_ceil(TILE_K));
    let mut tiles = vec![Tile::ZERO; n.div_ceil(TILE_N) * k_tiles];
    let row_tiles = tiles.par_chunks_mut(k_tiles).enumerate();
    row_tiles.for_each(|(at, tiles)| {
        for row in at * TILE_N..n.min((at + 1) * TILE_N) {
            for (k, &v) in q.row(row).iter().enumerate() {
                tiles[k / TILE_K].put(row % TILE_N, k % TILE_K, v);
            }
        }
    });
    tiles
}

/// Returns the values `[n, groups]` in tiled order, `[ceil(N/16)][groups][16]`, 0 beyond N.
fn tiled<T: Copy + Default>(values: &[T], n: usize, groups: usize) -> Vec<T> {
    let mut tiled = vec![T::default(); n.next_multiple_of(TILE_N) * groups];
    for (i, &value) in values.iter().enumerate() {
        tiled[group_index(i / groups, i % groups, groups)] = value;
    }
    tiled
}

/// As [`tiled`], for scales.
fn tiled_scales(scales: &Scales, n: usize, groups: usize) -> Scales {
    match scales {
        Scales::F32(v) => Scales::F32(tiled(v, n, groups)),
        Scales::F16(v) => Scales::F16(tiled(v, n, groups)),
        Scales::Bf16(v) => Scales::Bf16(tiled(v, n, groups)),
    }
}

/// Checks the length of `[n, groups]` parameters.
fn check_len(what: &'static str, len: usize, n: usize, groups: usize) -> Result<()> {
    match len == n * groups {
        true => Ok(()),
        false => Err(Error::shape(what, [n, groups], [len])),
    }
}

impl PackedWeight {
    /// Packs INT4 values that are already quantized, such as those of a checkpoint, as a weight of
    /// [`Scheme::Grouped`].
    ///
    /// `q` is `[N, K]` with values in [-8, 7]; `scales` `[N, groups]` and `zeros` `[N, groups]` (in
    /// [-8, 8]) are row-major, `groups = grouping.groups(K)`. Nothing is rounded:
    /// [`PackedWeight::unpack`] and [`PackedWeight::scale`] return the same bits.
    ///
    /// # Errors
    /// [`Error::Shape`] or [`Error::Buffer`] for shapes that do not fit together, [`Error::Range`]
    /// for a value outside its range or a per-channel K over [`MAX_PER_CHANNEL_K`],
    /// [`Error::NotFinite`] for a scale.
    pub fn from_quantized(
        q: MatRef<'_, i8>,
        grouping: Grouping,
        scales: &Scales,
        zeros: Option<&[i8]>,
    ) -> Result<Self> {
        let (n, k) = (q.rows(), q.cols());
        check_shape(n, k, grouping, Scheme::Grouped)?;
        let groups = grouping.groups(k);
        check_len("scales", scales.len(), n, groups)?;
        zeros.map_or(Ok(()), |z| check_len("zero points", z.len(), n, groups))?;
        check_values(q)?;
        Self::from_parts(Parts {
            n,
            k,
            grouping,
            tiles: pack_tiles(q),
            scales: tiled_scales(scales, n, groups),
            zeros: zeros.map(|z| tiled(z, n, groups)),
            steps: None,
        })
    }

    /// Packs INT4 values that are already quantized as a weight of [`Scheme::TwoLevel`]: a value is
    /// `w8 * sw` with the integer `w8 = (qw - zg) * sg`.
    ///
    /// `q` is `[N, K]` with values in [-8, 7]; the group steps `steps` `[N, groups]` (in 1..=16)
    /// and `zeros` `[N, groups]` (in [-8, 8], `zg * sg` in [-127, 127]) are row-major, `groups =
    /// grouping.groups(K)`; `scales` is `[N]`. Nothing is rounded.
    ///
    /// # Errors
    /// [`Error::Shape`] for shapes that do not fit together, [`Error::Range`] for a value outside
    /// its range, [`Grouping::PerChannel`] or a K over [`MAX_PER_CHANNEL_K`], [`Error::Weight8`] if
    /// a `w8` is not in [-127, 127], [`Error::NotFinite`] for a scale.
    ///
    /// ```
    /// use w4ax::{Grouping, MatRef, PackedWeight, Scales, Scheme};
    /// # fn main() -> w4ax::Result<()> {
    /// let q = [1i8, -3]; // qw, [1, 2]
    /// let scales = Scales::F32(vec![0.5]); // sw, [1]
    /// let view = MatRef::new(&q, 1, 2)?;
    /// let w = PackedWeight::from_two_level(view, Grouping::G32, &[9], &scales, Some(&[-2]))?;
    /// assert_eq!((w.scheme(), w.step(0, 0)), (Scheme::TwoLevel, 9));
    /// assert_eq!(w.dequantize(), [(1.0 + 2.0) * 9.0 * 0.5, (-3.0 + 2.0) * 9.0 * 0.5]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_two_level(
        q: MatRef<'_, i8>,
        grouping: Grouping,
        steps: &[u8],
        scales: &Scales,
        zeros: Option<&[i8]>,
    ) -> Result<Self> {
        let (n, k) = (q.rows(), q.cols());
        check_shape(n, k, grouping, Scheme::TwoLevel)?;
        let groups = grouping.groups(k);
        if scales.len() != n {
            return Err(Error::shape("scales", [n], [scales.len()]));
        }
        check_len("group steps", steps.len(), n, groups)?;
        zeros.map_or(Ok(()), |z| check_len("zero points", z.len(), n, groups))?;
        check_values(q)?;
        Self::from_parts(Parts {
            n,
            k,
            grouping,
            tiles: pack_tiles(q),
            scales: tiled_scales(scales, n, 1),
            zeros: zeros.map(|z| tiled(z, n, groups)),
            steps: Some(tiled(steps, n, groups)),
        })
    }

    /// The last step of every constructor: checks the ranges that the arithmetic relies on, and
    /// derives the sums.
    pub(super) fn from_parts(parts: Parts) -> Result<Self> {
        parts.check()?;
        let sums = GroupSums::new(&parts)?;
        Ok(Self {
            n: parts.n,
            k: parts.k,
            grouping: parts.grouping,
            tiles: parts.tiles,
            scales: parts.scales,
            zeros: parts.zeros,
            steps: parts.steps,
            sums,
            order: None,
        })
    }
}
