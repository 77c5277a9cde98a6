//! The choice of the scale of a channel, and of the step of a group, of a two-level weight.

use super::grid::{BestGrid, GroupValues, WeightGrid};
use super::search::{Candidates, Channel, Result, SMALLEST, valid_zero};
use super::{Quantize, Symmetry};
use crate::Scheme;
use std::ops::RangeInclusive;

/// The top of a channel, `absmax / sw`, that covers the extremes with the largest step and the code
/// 7.
const COVERING_TOP: u8 = 16 * 7;
/// The tops of a channel that are searched.
const TOPS: RangeInclusive<u8> = 60..=127;
/// The distance of the tops that are tried first, among them [`COVERING_TOP`]. Those between are
/// tried around the best of them.
const COARSE: u8 = 4;

/// The top with the least error so far.
#[derive(Default)]
struct BestTop {
    error: f64,
    top: u8,
    scale: Option<f32>,
}

impl BestTop {
    /// Takes a top if the sum of its errors is less, or equal and its scale is larger.
    fn offer(&mut self, top: u8, scale: f32, errors: impl Iterator<Item = f64>) {
        let mut total = 0.0;
        for error in errors {
            total += error;
            // The rest cannot lower the sum.
            if self.scale.is_some() && total > self.error {
                return;
            }
        }
        let better = |best: f32| total < self.error || scale > best;
        if self.scale.is_none_or(better) {
            (self.error, self.top, self.scale) = (total, top, Some(scale));
        }
    }
}

impl Quantize {
    /// Chooses what the grids of a row `w[K]` have in common. `costs[K]` weigh the squared errors.
    pub(in crate::weights) fn channel(
        &self,
        w: &[f64],
        costs: &[f64],
        candidates: Candidates,
    ) -> Result<Channel> {
        if self.scheme == Scheme::Grouped {
            return Ok(Channel::Grouped);
        }
        let absmax = GroupValues::new(w, costs).absmax();
        if absmax == 0.0 {
            return Ok(Channel::TwoLevel(0.0));
        }
        let scale_of = |top: u8| self.stored_scale(absmax / f32::from(top));
        if candidates != Candidates::All {
            return Ok(Channel::TwoLevel(scale_of(COVERING_TOP)?));
        }
        let group = |g| {
            let range = self.grouping.range(g, w.len());
            GroupValues::new(&w[range.clone()], &costs[range])
        };
        let groups: Vec<_> = (0..self.grouping.groups(w.len())).map(group).collect();
        let mut best = BestTop::default();
        let offer = |best: &mut BestTop, top: u8| {
            // A scale that overflows its type is left out.
            if let Ok(scale) = scale_of(top) {
                let errors = groups.iter().map(|group| self.best_step(scale, group).0);
                best.offer(top, scale, errors);
            }
        };
        for top in TOPS.step_by(COARSE.into()) {
            offer(&mut best, top);
        }
        let coarse = best.top;
        for top in TOPS.filter(|&top| top != coarse && top.abs_diff(coarse) < COARSE) {
            offer(&mut best, top);
        }
        match best.scale {
            Some(scale) => Ok(Channel::TwoLevel(scale)),
            // Only the last tops are left, which have the smallest scales.
            None => scale_of(*TOPS.end()).map(Channel::TwoLevel),
        }
    }

    /// Returns the smallest step that covers a group, below the scale of a channel.
    pub(super) fn covering_step(&self, scale: f32, group: &GroupValues<'_>) -> WeightGrid {
        let step = self.steps(scale, group).ceil() as u8;
        let [zero, _] = self.step_zeros(scale, step, group);
        WeightGrid::new(scale, step, zero)
    }

    /// Returns the least error, and its grid, of the steps and zero points of a group below the
    /// scale of a channel.
    pub(super) fn best_step(&self, scale: f32, group: &GroupValues<'_>) -> (f64, WeightGrid) {
        let covering = self.covering_step(scale, group);
        let least = (self.steps(scale, group) * SMALLEST) as u8;
        let mut best = BestGrid::new(group, covering);
        for step in (least.max(1)..=covering.step).rev() {
            let [zero, other] = self.step_zeros(scale, step, group);
            if step != covering.step {
                best.offer(WeightGrid::new(scale, step, zero));
            }
            if other != zero {
                best.offer(WeightGrid::new(scale, step, other));
            }
        }
        best.take()
    }

    /// Returns the pitch of a grid that covers a group, in units of `scale`: at least 1, at most
    /// [`Scheme::MAX_STEP`].
    fn steps(&self, scale: f32, group: &GroupValues<'_>) -> f64 {
        let (lo, hi) = (f64::from(group.lo), f64::from(group.hi));
        let pitch = match self.symmetry {
            Symmetry::Symmetric => hi.max(-lo) / 7.0,
            Symmetry::Asymmetric => (hi - lo) / 15.0,
        };
        match pitch == 0.0 {
            true => 1.0,
            false => (pitch / f64::from(scale)).clamp(1.0, Scheme::MAX_STEP.into()),
        }
    }

    /// Returns the zero points that center the grid on the extremes best: the best one first, twice
    /// if no other is valid.
    fn step_zeros(&self, scale: f32, step: u8, group: &GroupValues<'_>) -> [i8; 2] {
        let pitch = f64::from(scale) * f64::from(step);
        if self.symmetry == Symmetry::Symmetric || pitch == 0.0 {
            return [0; 2];
        }
        // The codes -8..=7 are centered on -0.5.
        let center = -0.5 - (f64::from(group.lo) + f64::from(group.hi)) / (2.0 * pitch);
        let nearest = center.round_ties_even();
        let next = match center < nearest {
            true => nearest - 1.0,
            false => nearest + 1.0,
        };
        // `zero * step` must be in range too.
        let most = (Scheme::MAX_W8 / i32::from(step)).min(8) as i8;
        [nearest, next].map(|zero| valid_zero(zero).clamp(-most, most))
    }
}
