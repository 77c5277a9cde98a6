//! The parameters of the groups: a scale and a sum for each row and group.

use super::Grouping;
use super::layout::{TILE_K, TILE_N, Tile};
use half::{bf16, f16};
use rayon::prelude::*;

/// The number type of weight scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScaleType {
    /// IEEE binary32.
    F32,
    /// IEEE binary16, the type of most INT4 checkpoints.
    F16,
    /// bfloat16.
    Bf16,
}

/// Weight scales in their original type, so that no bit is lost.
#[derive(Clone, Debug, PartialEq)]
pub enum Scales {
    /// IEEE binary32.
    F32(Vec<f32>),
    /// IEEE binary16.
    F16(Vec<f16>),
    /// bfloat16.
    Bf16(Vec<bf16>),
}

impl Scales {
    pub(super) fn zeros(scale_type: ScaleType, len: usize) -> Self {
        match scale_type {
            ScaleType::F32 => Self::F32(vec![0.0; len]),
            ScaleType::F16 => Self::F16(vec![f16::ZERO; len]),
            ScaleType::Bf16 => Self::Bf16(vec![bf16::ZERO; len]),
        }
    }

    /// Returns the number type.
    pub fn scale_type(&self) -> ScaleType {
        match self {
            Self::F32(_) => ScaleType::F32,
            Self::F16(_) => ScaleType::F16,
            Self::Bf16(_) => ScaleType::Bf16,
        }
    }

    /// Returns the number of scales.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(v) => v.len(),
            Self::F16(v) => v.len(),
            Self::Bf16(v) => v.len(),
        }
    }

    /// Returns whether there are no scales.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns scale `i` in f32, exactly.
    ///
    /// # Panics
    /// If `i` is out of range.
    #[inline]
    pub fn get(&self, i: usize) -> f32 {
        match self {
            Self::F32(v) => v[i],
            Self::F16(v) => v[i].to_f32(),
            Self::Bf16(v) => v[i].to_f32(),
        }
    }

    /// Returns the bytes, in the machine's byte order.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::F32(v) => bytemuck::cast_slice(v),
            Self::F16(v) => bytemuck::cast_slice(v),
            Self::Bf16(v) => bytemuck::cast_slice(v),
        }
    }

    /// Returns `len` scales, of which scale `i` is scale `at(i)` of these.
    pub(crate) fn pick(&self, len: usize, at: impl Fn(usize) -> usize) -> Self {
        match self {
            Self::F32(v) => Self::F32((0..len).map(|i| v[at(i)]).collect()),
            Self::F16(v) => Self::F16((0..len).map(|i| v[at(i)]).collect()),
            Self::Bf16(v) => Self::Bf16((0..len).map(|i| v[at(i)]).collect()),
        }
    }

    /// Sets scale `to` to scale `from` of `source`, which has the same type.
    pub(super) fn copy_from(&mut self, to: usize, source: &Self, from: usize) {
        match (self, source) {
            (Self::F32(a), Self::F32(b)) => a[to] = b[from],
            (Self::F16(a), Self::F16(b)) => a[to] = b[from],
            (Self::Bf16(a), Self::Bf16(b)) => a[to] = b[from],
            _ => unreachable!("both have the same scale type"),
        }
    }
}

/// `sum(qw - zw)` of each row and group, `[ceil(N/16)][groups][16]`.
///
/// The sum of a group of at most 128 k is at most 128 * 16 in magnitude. The sum of a row may need
/// 32 bits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum GroupSums {
    Grouped(Vec<i16>),
    PerChannel(Vec<i32>),
}

impl GroupSums {
    pub(super) fn new(
        n: usize,
        k: usize,
        grouping: Grouping,
        tiles: &[Tile],
        zeros: Option<&[i8]>,
    ) -> Self {
        let (groups, k_tiles) = (grouping.groups(k), k.div_ceil(TILE_K));
        let sums: Vec<i32> = (0..n.div_ceil(TILE_N) * groups)
            .into_par_iter()
            .flat_map_iter(|at| {
                let (row_tile, group) = (at / groups, at % groups);
                let tiles = &tiles[row_tile * k_tiles..][..k_tiles];
                let range = grouping.range(group, k);
                (0..TILE_N).map(move |row| {
                    let zw = zeros.map_or(0, |z| i32::from(z[at * TILE_N + row]));
                    range
                        .clone()
                        .map(|k| i32::from(tiles[k / TILE_K].get(row, k % TILE_K)) - zw)
                        .sum()
                })
            })
            .collect();
        match grouping {
            Grouping::PerChannel => Self::PerChannel(sums),
            _ => Self::Grouped(sums.into_iter().map(|s| s as i16).collect()),
        }
    }
}
