//! INT4 weights: quantized, packed once, unpacked, saved and loaded.
//!
//! A weight is `W[N, K]`, like `nn.Linear`: N output channels, K inputs. Each value is `(qw - zw) *
//! sw` with `qw` in [-8, 7], an integer zero point `zw` in [-8, 8] (0 when symmetric) and a scale
//! `sw` for each output channel and group of k ([`Grouping`]). [`PackedWeight`] holds them in the
//! layout of [`layout`], which every backend reads directly.
//!
//! # Ways to a packed weight
//! - [`Quantize`]: round to nearest; [`Gptq`]: GPTQ (arXiv 2210.17323), with a [`Hessian`] of
//!   calibration activations.
//! - [`PackedWeight::from_quantized`]: INT4 values of a checkpoint, unchanged
//!   ([`crate::checkpoint`]).
//! - [`PackedFile`]: a file of this crate, all in memory; [`PackedReader`], [`PackedWriter`]: one
//!   weight at a time.

mod file;
mod gptq;
mod grouping;
pub mod layout;
mod order;
mod quantize;
mod reader;
mod scales;
mod writer;

pub use file::PackedFile;
pub use gptq::{Gptq, Hessian};
pub use grouping::Grouping;
pub use order::KOrder;
pub use quantize::{Quantize, Symmetry};
pub use reader::PackedReader;
pub use scales::{ScaleType, Scales};

use crate::{Error, MatRef, Result};
use layout::{TILE_K, TILE_N, Tile};
use rayon::prelude::*;
/// The version of safetensors whose [`TensorView`](safetensors::tensor::TensorView)
/// [`PackedWriter::tensor`] takes.
pub use safetensors;
pub(crate) use scales::GroupSums;
pub use writer::PackedWriter;

/// The largest K of a per-channel weight: its integer sums must fit 32 bits.
pub const MAX_PER_CHANNEL_K: usize = 65_536;

/// A weight matrix `[N, K]` in INT4, in the packed layout.
///
/// ```
/// use w4ax::{Grouping, MatRef, PackedWeight, Quantize};
/// # fn main() -> w4ax::Result<()> {
/// let (n, k) = (100, 300);
/// let w: Vec<f32> = (0..n * k).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect();
/// let packed = Quantize::new(Grouping::G128).pack(MatRef::new(&w, n, k)?)?;
/// assert_eq!((packed.n(), packed.k(), packed.groups()), (100, 300, 3));
/// assert!(packed.packed_bytes() < n * k * 2 / 3);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct PackedWeight {
    n: usize,
    k: usize,
    grouping: Grouping,
    /// `[ceil(N/16)][ceil(K/64)]`.
    tiles: Vec<Tile>,
    /// `[ceil(N/16)][groups][16]`: the 16 rows of a tile are contiguous. Rows beyond N hold 0.
    scales: Scales,
    /// As `scales`; `None` when symmetric.
    zeros: Option<Vec<i8>>,
    /// As `scales`: `sum(qw - zw)` over the group's valid k. Derived, not saved.
    sums: GroupSums,
    /// The k of the matrix by position in the tiles; `None` if they are in the order of the matrix.
    order: Option<KOrder>,
}

/// Checks N and K of a weight.
fn check_shape(n: usize, k: usize, grouping: Grouping) -> Result<()> {
    if n == 0 || k == 0 {
        return Err(Error::shape("weight", [n.max(1), k.max(1)], [n, k]));
    }
    if grouping == Grouping::PerChannel && k > MAX_PER_CHANNEL_K {
        return Err(Error::Range {
            what: "K of a per-channel weight",
            value: k.to_string(),
            range: "1..=65536 (its integer sums must fit 32 bits)",
        });
    }
    Ok(())
}

/// The index of row `row`, group `group` in the `[ceil(N/16)][groups][16]` arrays.
fn group_index(row: usize, group: usize, groups: usize) -> usize {
    ((row / TILE_N) * groups + group) * TILE_N + row % TILE_N
}

impl PackedWeight {
    /// Packs INT4 values that are already quantized, such as those of a checkpoint.
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
        check_shape(n, k, grouping)?;
        let groups = grouping.groups(k);
        for (what, len) in [
            ("scales", Some(scales.len())),
            ("zero points", zeros.map(<[_]>::len)),
        ] {
            if len.is_some_and(|len| len != n * groups) {
                return Err(Error::shape(what, [n, groups], [len.unwrap_or(0)]));
            }
        }
        for row in 0..n {
            if let Some(v) = q.row(row).iter().find(|v| !(-8..8).contains(*v)) {
                return Err(Error::Range {
                    what: "quantized weight",
                    value: v.to_string(),
                    range: "-8..=7",
                });
            }
        }
        let padded = n.div_ceil(TILE_N) * TILE_N * groups;
        let mut tiled_scales = Scales::zeros(scales.scale_type(), padded);
        let mut tiled_zeros = zeros.map(|_| vec![0i8; padded]);
        for row in 0..n {
            for g in 0..groups {
                let at = group_index(row, g, groups);
                tiled_scales.copy_from(at, scales, row * groups + g);
                if let (Some(to), Some(from)) = (&mut tiled_zeros, zeros) {
                    to[at] = from[row * groups + g];
                }
            }
        }
        let k_tiles = k.div_ceil(TILE_K);
        let mut tiles = vec![Tile::ZERO; n.div_ceil(TILE_N) * k_tiles];
        let row_tiles = tiles.par_chunks_mut(k_tiles).enumerate();
        row_tiles.for_each(|(at, tiles)| {
            for row in at * TILE_N..n.min((at + 1) * TILE_N) {
                for (k, &v) in q.row(row).iter().enumerate() {
                    tiles[k / TILE_K].put(row % TILE_N, k % TILE_K, v);
                }
            }
        });
        Self::from_parts(n, k, grouping, tiles, tiled_scales, tiled_zeros)
    }

    /// The last step of every constructor: checks the ranges that the arithmetic relies on, and
    /// derives the sums.
    fn from_parts(
        n: usize,
        k: usize,
        grouping: Grouping,
        tiles: Vec<Tile>,
        scales: Scales,
        zeros: Option<Vec<i8>>,
    ) -> Result<Self> {
        check_shape(n, k, grouping)?;
        if let Some(index) = (0..scales.len()).find(|&i| !scales.get(i).is_finite()) {
            return Err(Error::NotFinite {
                what: "weight scales",
                index,
                value: f64::from(scales.get(index)),
            });
        }
        if let Some(z) = zeros.iter().flatten().find(|z| !(-8..=8).contains(*z)) {
            return Err(Error::Range {
                what: "zero point",
                value: z.to_string(),
                range: "-8..=8",
            });
        }
        let sums = GroupSums::new(n, k, grouping, &tiles, zeros.as_deref());
        Ok(Self {
            n,
            k,
            grouping,
            tiles,
            scales,
            zeros,
            sums,
            order: None,
        })
    }

    /// The same packed values as a weight whose position `i` along K holds k `order[i]` of the
    /// matrix (GPTQ's `desc_act`).
    ///
    /// A GEMM with such a weight gathers its activations ([`Gemm`](crate::Gemm)). The order of the
    /// matrix itself is dropped.
    ///
    /// # Errors
    /// [`Error::Shape`] if the order does not have K elements.
    pub fn with_order(self, order: KOrder) -> Result<Self> {
        let len = order.as_slice().len();
        if len != self.k {
            return Err(Error::shape("order of k", [self.k], [len]));
        }
        let order = (!order.is_identity()).then_some(order);
        Ok(Self { order, ..self })
    }

    /// Returns the order of k, `None` if it is the order of the matrix.
    pub fn order(&self) -> Option<&KOrder> {
        self.order.as_ref()
    }

    /// Returns N, the number of output channels.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Returns K, the number of inputs.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Returns the grouping of the scales.
    pub fn grouping(&self) -> Grouping {
        self.grouping
    }

    /// Returns the number of groups.
    pub fn groups(&self) -> usize {
        self.grouping.groups(self.k)
    }

    /// Returns whether the weight has no zero points.
    pub fn is_symmetric(&self) -> bool {
        self.zeros.is_none()
    }

    /// Returns the tiles, `[ceil(N/16)][ceil(K/64)]`, aligned to 128 bytes.
    pub fn tiles(&self) -> &[Tile] {
        &self.tiles
    }

    /// Returns the scales in tiled order, `[ceil(N/16)][groups][16]`.
    pub fn tiled_scales(&self) -> &Scales {
        &self.scales
    }

    /// Returns the zero points in tiled order, `[ceil(N/16)][groups][16]`; `None` if symmetric.
    pub fn tiled_zeros(&self) -> Option<&[i8]> {
        self.zeros.as_deref()
    }

    /// `sum(qw - zw)` over each group's k, `[ceil(N/16)][groups][16]`.
    pub(crate) fn tiled_sums(&self) -> &GroupSums {
        &self.sums
    }

    /// Scale, zero point and sum at index `at` of the tiled arrays.
    pub(crate) fn group_params(&self, at: usize) -> (f32, i32, i32) {
        (
            self.scales.get(at),
            self.zeros.as_ref().map_or(0, |zeros| zeros[at].into()),
            match &self.sums {
                GroupSums::Grouped(v) => v[at].into(),
                GroupSums::PerChannel(v) => v[at],
            },
        )
    }

    /// Returns `sw` of a row and group, exact in f32 for every stored type.
    ///
    /// Groups are those of the packed weight: with an order, group `g` holds the k `order[i]` for
    /// `i` in `grouping.range(g, K)`.
    ///
    /// # Panics
    /// If `row` or `group` is out of range.
    pub fn scale(&self, row: usize, group: usize) -> f32 {
        assert!(row < self.n && group < self.groups());
        self.scales.get(group_index(row, group, self.groups()))
    }

    /// Returns `zw` of a row and group, 0 if symmetric. Groups are as in [`PackedWeight::scale`].
    ///
    /// # Panics
    /// If `row` or `group` is out of range.
    pub fn zero(&self, row: usize, group: usize) -> i8 {
        assert!(row < self.n && group < self.groups());
        let at = group_index(row, group, self.groups());
        self.zeros.as_ref().map_or(0, |z| z[at])
    }

    /// Returns `qw`, row-major `[N, K]`, in the order of the matrix.
    pub fn unpack(&self) -> Vec<i8> {
        let mut out = vec![0; self.n * self.k];
        let mut packed = vec![0; self.k];
        for (row, out) in out.chunks_mut(self.k).enumerate() {
            self.row_in_order(out, &mut packed, |to| {
                let tiles = self.row_tiles(row);
                for (k, q) in to.iter_mut().enumerate() {
                    *q = tiles[k / TILE_K].get(row % TILE_N, k % TILE_K);
                }
            });
        }
        out
    }

    /// The tiles of a row.
    fn row_tiles(&self, row: usize) -> &[Tile] {
        let k_tiles = self.k.div_ceil(TILE_K);
        &self.tiles[row / TILE_N * k_tiles..][..k_tiles]
    }

    /// Has `write` write a row in the packed order, and puts it into the order of the matrix in
    /// `out`.
    fn row_in_order<T: Copy>(&self, out: &mut [T], packed: &mut [T], write: impl FnOnce(&mut [T])) {
        match &self.order {
            None => write(out),
            Some(order) => {
                write(packed);
                order.scatter_row(packed, out);
            }
        }
    }

    /// Returns `f32(qw - zw) * sw`, rounded once, row-major `[N, K]`, in the order of the matrix.
    pub fn dequantize(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.n * self.k];
        let mut packed = vec![0.0; self.k];
        for (row, out) in out.chunks_mut(self.k).enumerate() {
            self.row_in_order(out, &mut packed, |to| self.dequantize_packed_row(row, to));
        }
        out
    }

    /// Writes one row of [`PackedWeight::dequantize`] to `out[K]`. Allocates K values if the weight
    /// has an order.
    ///
    /// # Panics
    /// If `row` is out of range or `out` does not have K values.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.n && out.len() == self.k);
        let mut packed = vec![0.0; self.order.as_ref().map_or(0, |_| self.k)];
        self.row_in_order(out, &mut packed, |to| self.dequantize_packed_row(row, to));
    }

    /// One row in the packed order.
    fn dequantize_packed_row(&self, row: usize, out: &mut [f32]) {
        let tiles = self.row_tiles(row);
        for g in 0..self.groups() {
            let (sw, zw) = (self.scale(row, g), f32::from(self.zero(row, g)));
            for k in self.grouping.range(g, self.k) {
                let q = f32::from(tiles[k / TILE_K].get(row % TILE_N, k % TILE_K));
                out[k] = (q - zw) * sw;
            }
        }
    }

    /// Returns the packed size in bytes: tiles, scales and zero points, with their padding.
    pub fn packed_bytes(&self) -> usize {
        size_of_val(self.tiles.as_slice())
            + self.scales.bytes().len()
            + self.zeros.as_ref().map_or(0, Vec::len)
    }
}
