//! A packed weight: its parts, and what it unpacks to.

use super::layout::{TILE_K, TILE_N, Tile};
use super::{GroupSums, Grouping, KOrder, Scales, Scheme};
use crate::{Error, Result};

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
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) grouping: Grouping,
    /// `[ceil(N/16)][ceil(K/64)]`.
    pub(super) tiles: Vec<Tile>,
    /// `[ceil(N/16)][groups][16]`: the 16 rows of a tile are contiguous. Rows beyond N hold 0. Of
    /// a two-level weight one scale per channel, `[ceil(N/16)][16]`.
    pub(super) scales: Scales,
    /// `[ceil(N/16)][groups][16]`; `None` when symmetric.
    pub(super) zeros: Option<Vec<i8>>,
    /// The group steps of a two-level weight, `[ceil(N/16)][groups][16]`; `None` when grouped.
    pub(super) steps: Option<Vec<u8>>,
    /// As `scales`: the sum of `qw - zw`, or of `w8`, over the valid k. Derived, not saved.
    pub(super) sums: GroupSums,
    /// The k of the matrix by position in the tiles; `None` if they are in the order of the matrix.
    pub(super) order: Option<KOrder>,
}

/// The index of row `row`, group `group` in the `[ceil(N/16)][groups][16]` arrays.
pub(super) fn group_index(row: usize, group: usize, groups: usize) -> usize {
    ((row / TILE_N) * groups + group) * TILE_N + row % TILE_N
}

impl PackedWeight {
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

    /// Returns the arithmetic of the weight.
    pub fn scheme(&self) -> Scheme {
        match self.steps {
            None => Scheme::Grouped,
            Some(_) => Scheme::TwoLevel,
        }
    }

    /// Returns the grouping of the scales, or of the steps of a two-level weight.
    pub fn grouping(&self) -> Grouping {
        self.grouping
    }

    /// Returns the grouping by which quantized activations of this weight share a grid:
    /// [`PackedWeight::grouping`], or [`Grouping::PerChannel`] (one grid per token) for a two-level
    /// weight.
    pub fn activation_grouping(&self) -> Grouping {
        self.scheme().activation_grouping(self.grouping)
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

    /// Returns the scales in tiled order, `[ceil(N/16)][groups][16]`; `[ceil(N/16)][16]` for a
    /// two-level weight.
    pub fn tiled_scales(&self) -> &Scales {
        &self.scales
    }

    /// Returns the zero points in tiled order, `[ceil(N/16)][groups][16]`; `None` if symmetric.
    pub fn tiled_zeros(&self) -> Option<&[i8]> {
        self.zeros.as_deref()
    }

    /// Returns the group steps in tiled order, `[ceil(N/16)][groups][16]`, 0 in rows beyond N;
    /// `None` for a grouped weight.
    pub fn tiled_steps(&self) -> Option<&[u8]> {
        self.steps.as_deref()
    }

    /// The zero points that the sums of the integer products lack, by the index of the scales:
    /// `None` for a two-level weight, which is unpacked to `w8`.
    pub(crate) fn sum_zeros(&self) -> Option<&[i8]> {
        match self.scheme() {
            Scheme::Grouped => self.tiled_zeros(),
            Scheme::TwoLevel => None,
        }
    }

    /// `sum(qw - zw)` over each group's k, `[ceil(N/16)][groups][16]`; `sum(w8)` over all k,
    /// `[ceil(N/16)][16]`, for a two-level weight.
    pub(crate) fn tiled_sums(&self) -> &GroupSums {
        &self.sums
    }

    /// Scale, zero point and sum at index `at` of the tiled scales. The zero point is that of
    /// [`PackedWeight::sum_zeros`].
    pub(crate) fn sum_params(&self, at: usize) -> (f32, i32, i32) {
        (
            self.scales.get(at),
            self.sum_zeros().map_or(0, |zeros| zeros[at].into()),
            match &self.sums {
                GroupSums::Grouped(v) => v[at].into(),
                GroupSums::PerChannel(v) => v[at],
            },
        )
    }

    /// Steps and zero points of 16 rows from index `at` of the tiled steps of a two-level weight
    /// on.
    ///
    /// # Panics
    /// If the weight is grouped or `at` is out of range.
    #[inline(always)]
    pub(crate) fn steps_at(&self, at: usize) -> ([i32; TILE_N], [i32; TILE_N]) {
        let rows = at..at + TILE_N;
        let steps = self.steps.as_ref().map(|steps| &steps[rows.clone()]);
        let steps: Option<&[u8; TILE_N]> = steps.and_then(|steps| steps.try_into().ok());
        let zeros = self.zeros.as_ref().map(|zeros| &zeros[rows]);
        let zeros: Option<&[i8; TILE_N]> = zeros.and_then(|zeros| zeros.try_into().ok());
        (
            steps.expect("a two-level weight").map(i32::from),
            zeros.map_or([0; TILE_N], |zeros| zeros.map(i32::from)),
        )
    }

    /// Returns `sw` of a row and group, exact in f32 for every stored type. All groups of a row of
    /// a two-level weight have the same scale.
    ///
    /// Groups are those of the packed weight: with an order, group `g` holds the k `order[i]` for
    /// `i` in `grouping.range(g, K)`.
    ///
    /// # Panics
    /// If `row` or `group` is out of range.
    pub fn scale(&self, row: usize, group: usize) -> f32 {
        assert!(row < self.n && group < self.groups());
        self.scales.get(match self.scheme() {
            Scheme::Grouped => group_index(row, group, self.groups()),
            Scheme::TwoLevel => row,
        })
    }

    /// Returns the group step `sg` of a row and group, 1 for a grouped weight. Groups are as in
    /// [`PackedWeight::scale`].
    ///
    /// # Panics
    /// If `row` or `group` is out of range.
    pub fn step(&self, row: usize, group: usize) -> u8 {
        assert!(row < self.n && group < self.groups());
        let at = group_index(row, group, self.groups());
        self.steps.as_ref().map_or(1, |steps| steps[at])
    }

    /// Returns `zw` (`zg`) of a row and group, 0 if symmetric. Groups are as in
    /// [`PackedWeight::scale`].
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

    /// Returns `f32(qw - zw) * sw`, or `f32(w8) * sw` for a two-level weight, rounded once,
    /// row-major `[N, K]`, in the order of the matrix.
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
            let step = f32::from(self.step(row, g));
            for k in self.grouping.range(g, self.k) {
                let q = f32::from(tiles[k / TILE_K].get(row % TILE_N, k % TILE_K));
                out[k] = (q - zw) * step * sw; // The first product is exact.
            }
        }
    }

    /// Returns the packed size in bytes: tiles, scales, steps and zero points, with their padding.
    pub fn packed_bytes(&self) -> usize {
        size_of_val(self.tiles.as_slice())
            + self.scales.bytes().len()
            + self.zeros.as_ref().map_or(0, Vec::len)
            + self.steps.as_ref().map_or(0, Vec::len)
    }
}
