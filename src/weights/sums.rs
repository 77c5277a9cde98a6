//! Sums of the integer weights, which the corrections of zero points need.

use super::layout::{TILE_K, TILE_N};
use super::pack::Parts;
use super::{Grouping, Scheme};
use crate::{Error, Result};
use rayon::prelude::*;

/// The sums of the integer weights of each row, for the zero points of the activations.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum GroupSums {
    /// `sum(qw - zw)` of each row and group, `[ceil(N/16)][groups][16]`: at most 128 * 16 in
    /// magnitude.
    Grouped(Vec<i16>),
    /// The sum of each row, `[ceil(N/16)][16]`: of `qw - zw` of a per-channel weight, of `w8` of a
    /// two-level weight.
    PerChannel(Vec<i32>),
}

impl GroupSums {
    /// Derives the sums of a weight.
    ///
    /// # Errors
    /// [`Error::Weight8`] if a `w8` of a two-level weight is out of range.
    pub(super) fn new(parts: &Parts) -> Result<Self> {
        if let Some(steps) = &parts.steps {
            return two_level(parts, steps).map(Self::PerChannel);
        }
        let sums = grouped(parts);
        Ok(match parts.grouping {
            Grouping::PerChannel => Self::PerChannel(sums),
            _ => Self::Grouped(sums.into_iter().map(|s| s as i16).collect()),
        })
    }
}

/// Returns `sum(qw - zw)` of each row and group, `[ceil(N/16)][groups][16]`.
fn grouped(parts: &Parts) -> Vec<i32> {
    let (grouping, k) = (parts.grouping, parts.k);
    let (groups, k_tiles) = (grouping.groups(k), k.div_ceil(TILE_K));
    let zeros = parts.zeros.as_deref();
    (0..parts.n.div_ceil(TILE_N) * groups)
        .into_par_iter()
        .flat_map_iter(|at| {
            let (row_tile, group) = (at / groups, at % groups);
            let tiles = &parts.tiles[row_tile * k_tiles..][..k_tiles];
            let range = grouping.range(group, k);
            (0..TILE_N).map(move |row| {
                let zw = zeros.map_or(0, |z| i32::from(z[at * TILE_N + row]));
                range
                    .clone()
                    .map(|k| i32::from(tiles[k / TILE_K].get(row, k % TILE_K)) - zw)
                    .sum()
            })
        })
        .collect()
}

/// Returns `sum(w8)` of each row, `[ceil(N/16)][16]`, after a check of every `w8`.
fn two_level(parts: &Parts, steps: &[u8]) -> Result<Vec<i32>> {
    let (grouping, k) = (parts.grouping, parts.k);
    let (groups, k_tiles) = (grouping.groups(k), k.div_ceil(TILE_K));
    let row_sum = |row: usize| -> Result<i32> {
        let tiles = &parts.tiles[row / TILE_N * k_tiles..][..k_tiles];
        let mut sum = 0;
        for group in 0..groups {
            let at = (row / TILE_N * groups + group) * TILE_N + row % TILE_N;
            let zero = parts.zeros.as_ref().map_or(0, |z| i32::from(z[at]));
            for k in grouping.range(group, k) {
                let q = i32::from(tiles[k / TILE_K].get(row % TILE_N, k % TILE_K));
                let value = (q - zero) * i32::from(steps[at]);
                if value.abs() > Scheme::MAX_W8 {
                    return Err(Error::Weight8 { row, k, value });
                }
                sum += value;
            }
        }
        Ok(sum)
    };
    // Collected before the errors are read, so that the first bad value is reported, whatever the
    // order of the threads. The steps of the rows beyond N are 0, and so are their sums.
    let rows: Vec<Result<i32>> = (0..parts.n.next_multiple_of(TILE_N))
        .into_par_iter()
        .map(row_sum)
        .collect();
    rows.into_iter().collect()
}
