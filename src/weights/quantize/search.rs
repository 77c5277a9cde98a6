//! The choice of the grid of a group.

use super::grid::{BestGrid, GroupValues, WeightGrid};
use super::tiles::GroupError;
use super::{Clipping, Quantize, Symmetry};
use crate::ScaleType;
use half::{bf16, f16};

/// Number of candidate scales of a group, from the scale that covers its extremes down to
/// [`SMALLEST`] times that.
const SCALES: usize = 20;
/// The bound of the candidate scales and steps, relative to those that cover the extremes.
pub(super) const SMALLEST: f64 = 0.5;
/// The zero points that represent 0 exactly.
const ZEROS: [i8; 2] = [-8, 7];

pub(super) type Result<T> = std::result::Result<T, GroupError>;

/// The grids from which the one with the least error is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::weights) enum Candidates {
    /// The grid that covers the extremes.
    Covering,
    /// Grids of smaller scales or steps too.
    Clipped,
    /// Scales of the channel and adjacent zero points too.
    All,
}

impl From<Clipping> for Candidates {
    fn from(clipping: Clipping) -> Self {
        match clipping {
            Clipping::AbsMax => Self::Covering,
            Clipping::SquaredError => Self::All,
        }
    }
}

/// What the grids of a row have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::weights) enum Channel {
    /// Nothing.
    Grouped,
    /// The scale of the channel.
    TwoLevel(f32),
}

/// Returns a zero point at which 0 is exact.
pub(super) fn valid_zero(zero: f64) -> i8 {
    zero.clamp(ZEROS[0].into(), ZEROS[1].into()) as i8
}

impl Quantize {
    /// Chooses the grid of a group.
    pub(in crate::weights) fn grid_of(
        &self,
        channel: Channel,
        group: &GroupValues<'_>,
        candidates: Candidates,
    ) -> Result<WeightGrid> {
        match (channel, candidates) {
            (Channel::Grouped, Candidates::Covering) => self.grid(group.lo, group.hi),
            (Channel::Grouped, _) => self.best_grid(group, candidates),
            (Channel::TwoLevel(scale), Candidates::Covering) => {
                Ok(self.covering_step(scale, group))
            }
            (Channel::TwoLevel(scale), _) => Ok(self.best_step(scale, group).1),
        }
    }

    /// Returns the grid with the least error of a weight without a scale per channel.
    fn best_grid(&self, group: &GroupValues<'_>, candidates: Candidates) -> Result<WeightGrid> {
        let moved = (candidates, self.symmetry) == (Candidates::All, Symmetry::Asymmetric);
        let mut best = BestGrid::new(group, self.grid(group.lo, group.hi)?);
        for i in 0..SCALES {
            let share = (1.0 - (1.0 - SMALLEST) * i as f64 / SCALES as f64) as f32;
            let grid = self.grid(group.lo * share, group.hi * share)?;
            best.offer(grid);
            for zero in [grid.zero - 1, grid.zero + 1] {
                if moved && (ZEROS[0]..=ZEROS[1]).contains(&zero) {
                    best.offer(WeightGrid::new(grid.scale, 1, zero));
                }
            }
        }
        Ok(best.take().1)
    }

    /// Returns the grid that covers `lo <= 0` and `hi >= 0`.
    fn grid(&self, lo: f32, hi: f32) -> Result<WeightGrid> {
        if hi == 0.0 && lo == 0.0 {
            return Ok(WeightGrid::new(0.0, 1, 0));
        }
        let exact = match self.symmetry {
            Symmetry::Symmetric => hi.max(-lo) / 7.0,
            // Two divisions, because the difference may overflow.
            Symmetry::Asymmetric => hi / 15.0 - lo / 15.0,
        };
        let scale = self.stored_scale(exact)?;
        let zero = match self.symmetry {
            Symmetry::Symmetric => 0,
            // The code of zero in 0..15, shifted to -8..7 like all codes.
            Symmetry::Asymmetric => {
                valid_zero((f64::from(-lo) / f64::from(scale)).round_ties_even() - 8.0)
            }
        };
        Ok(WeightGrid::new(scale, 1, zero))
    }

    /// Returns a scale rounded to its type. A scale that rounds to zero becomes the smallest
    /// positive one, which is the nearest grid.
    pub(super) fn stored_scale(&self, exact: f32) -> Result<f32> {
        let scale = match self.scale_type {
            ScaleType::F32 => exact.max(f32::from_bits(1)),
            ScaleType::F16 => f16::from_f32(exact).max(f16::from_bits(1)).to_f32(),
            ScaleType::Bf16 => bf16::from_f32(exact).max(bf16::from_bits(1)).to_f32(),
        };
        match scale.is_finite() {
            true => Ok(scale),
            false => Err(GroupError::Scale(exact)),
        }
    }
}
