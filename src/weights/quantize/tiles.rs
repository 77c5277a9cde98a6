//! Quantization of a whole matrix, 16 rows at a time, straight into tiles.

use super::super::layout::{TILE_K, TILE_N, Tile};
use super::super::pack::{Parts, check_shape};
use super::super::{PackedWeight, ScaleType, Scales, Scheme};
use super::grid::WeightGrid;
use super::{Quantize, Symmetry};
use crate::{Error, Result};
use half::{bf16, f16};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The output of the quantization of 16 rows.
pub(in crate::weights) struct RowTile<'a> {
    tiles: &'a mut [Tile],
    /// `[groups][16]`; `[16]` with `steps`.
    scales: &'a mut [f32],
    /// `[groups][16]`.
    zeros: &'a mut [i8],
    /// `[groups][16]`.
    steps: &'a mut [u8],
    scheme: Scheme,
}

impl RowTile<'_> {
    /// Sets the code of row `r` of the 16, at `k`. Each is set once.
    pub fn set_code(&mut self, r: usize, k: usize, code: i8) {
        self.tiles[k / TILE_K].put(r, k % TILE_K, code);
    }

    /// Sets the grid of row `r` of the 16, group `g`.
    pub fn set_grid(&mut self, r: usize, g: usize, grid: &WeightGrid) {
        let at = g * TILE_N + r;
        self.scales[match self.scheme {
            Scheme::Grouped => at,
            Scheme::TwoLevel => r,
        }] = grid.scale;
        self.zeros[at] = grid.zero;
        self.steps[at] = grid.step;
    }
}

/// Packs a weight `[n, k]`; `quantize` quantizes 16 rows at a time. Uses all threads of the current
/// rayon pool.
pub(in crate::weights) fn pack_tiles(
    options: &Quantize,
    [n, k]: [usize; 2],
    progress: impl Fn(usize, usize) + Sync,
    quantize: impl Fn(Range<usize>, &mut RowTile<'_>) -> std::result::Result<(), GroupError> + Sync,
) -> Result<PackedWeight> {
    let (grouping, scheme) = (options.grouping, options.scheme);
    check_shape(n, k, grouping, scheme)?;
    let (row_tiles, k_tiles) = (n.div_ceil(TILE_N), k.div_ceil(TILE_K));
    let params = grouping.groups(k) * TILE_N;
    let row_scales = match scheme {
        Scheme::Grouped => params,
        Scheme::TwoLevel => TILE_N,
    };
    let mut tiles = vec![Tile::ZERO; row_tiles * k_tiles];
    let mut scales = vec![0f32; row_tiles * row_scales];
    let mut zeros = vec![0i8; row_tiles * params];
    let mut steps = vec![0u8; row_tiles * params];
    let done = AtomicUsize::new(0);
    tiles
        .par_chunks_mut(k_tiles)
        .zip(scales.par_chunks_mut(row_scales))
        .zip(zeros.par_chunks_mut(params))
        .zip(steps.par_chunks_mut(params))
        .enumerate()
        .try_for_each(|(row_tile, (((tiles, scales), zeros), steps))| {
            let rows = row_tile * TILE_N..((row_tile + 1) * TILE_N).min(n);
            let mut tile = RowTile {
                tiles,
                scales,
                zeros,
                steps,
                scheme,
            };
            quantize(rows.clone(), &mut tile)?;
            progress(
                done.fetch_add(rows.len(), Ordering::Relaxed) + rows.len(),
                n,
            );
            Ok(())
        })
        .map_err(GroupError::into_error)?;
    PackedWeight::from_parts(Parts {
        n,
        k,
        grouping,
        tiles,
        scales: stored(options.scale_type, scales),
        zeros: (options.symmetry == Symmetry::Asymmetric).then_some(zeros),
        steps: (scheme == Scheme::TwoLevel).then_some(steps),
    })
}

/// Returns scales in the type that holds them exactly.
fn stored(scale_type: ScaleType, scales: Vec<f32>) -> Scales {
    match scale_type {
        ScaleType::F32 => Scales::F32(scales),
        ScaleType::F16 => Scales::F16(scales.into_iter().map(f16::from_f32).collect()),
        ScaleType::Bf16 => Scales::Bf16(scales.into_iter().map(bf16::from_f32).collect()),
    }
}

/// An error in the values of a matrix.
#[derive(Debug)]
pub(in crate::weights) enum GroupError {
    /// The index in the matrix, and the value.
    NotFinite(usize, f32),
    /// A scale that its type cannot hold.
    Scale(f32),
}

impl GroupError {
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
