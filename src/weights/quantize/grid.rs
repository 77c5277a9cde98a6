//! The grid of one row and group, and the error of rounding to it.

use crate::Scheme;

/// Adding and subtracting this rounds an f64 below 2^51 to an integer, ties to even.
const ROUND: f64 = 1.5 * (1u64 << 52) as f64;
/// Partial sums of an error, so that it vectorizes.
const SUMS: usize = 8;

/// The grid of one row and group: `w ~ (q - zero) * step * scale`. The step is 1 unless the weight
/// is of [`Scheme::TwoLevel`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::weights) struct WeightGrid {
    pub scale: f32,
    pub step: u8,
    pub zero: i8,
    /// `scale * step`, exact.
    pitch: f64,
    /// The least and the largest of `q - zero`: those of INT4 whose 8-bit value is in range.
    range: [f64; 2],
}

impl WeightGrid {
    pub fn new(scale: f32, step: u8, zero: i8) -> Self {
        let most = Scheme::MAX_W8 / i32::from(step);
        let bound = |code: i32| f64::from((code - i32::from(zero)).clamp(-most, most));
        Self {
            scale,
            step,
            zero,
            pitch: f64::from(scale) * f64::from(step),
            range: [bound(-8), bound(7)],
        }
    }

    /// Returns the nearest code. The quotient of two f32 cannot overflow in f64.
    pub fn code(&self, w: f64) -> i8 {
        if self.scale == 0.0 {
            return 0;
        }
        let [least, most] = self.range;
        let steps = (w / self.pitch).round_ties_even().clamp(least, most);
        (steps + f64::from(self.zero)) as i8
    }

    /// Returns the value of a code.
    pub fn value(&self, code: i8) -> f64 {
        f64::from(code - self.zero) * self.pitch
    }

    /// Returns the sum of the squared errors of rounding `w` to the grid, each times the cost of
    /// its element. The order of the additions is fixed.
    pub fn error(&self, w: &[f64], costs: &[f64]) -> f64 {
        let inverse = match self.pitch {
            0.0 => 0.0,
            pitch => 1.0 / pitch,
        };
        let (pitch, [least, most]) = (self.pitch, self.range);
        let of = |w: f64, cost: f64| {
            let steps = w * inverse;
            let steps = if steps < least { least } else { steps };
            let steps = if steps > most { most } else { steps };
            let error = w - ((steps + ROUND) - ROUND) * pitch;
            error * error * cost
        };
        let mut sums = [0f64; SUMS];
        let (w8, w1) = w.as_chunks::<SUMS>();
        let (costs8, costs1) = costs.as_chunks::<SUMS>();
        for (w, costs) in w8.iter().zip(costs8) {
            for ((sum, &w), &cost) in sums.iter_mut().zip(w).zip(costs) {
                *sum += of(w, cost);
            }
        }
        let rest = w1.iter().zip(costs1).map(|(&w, &cost)| of(w, cost));
        sums.iter().sum::<f64>() + rest.sum::<f64>()
    }
}

/// The values of a row in one group, with the costs of their errors.
pub(in crate::weights) struct GroupValues<'a> {
    w: &'a [f64],
    costs: &'a [f64],
    /// `min(0, w)`.
    pub lo: f32,
    /// `max(0, w)`.
    pub hi: f32,
}

impl<'a> GroupValues<'a> {
    pub fn new(w: &'a [f64], costs: &'a [f64]) -> Self {
        Self {
            w,
            costs,
            lo: w.iter().fold(0f64, |a, &v| a.min(v)) as f32,
            hi: w.iter().fold(0f64, |a, &v| a.max(v)) as f32,
        }
    }

    /// Returns the largest magnitude.
    pub fn absmax(&self) -> f32 {
        self.hi.max(-self.lo)
    }
}

/// The candidate with the least error so far.
pub(super) struct BestGrid<'a> {
    group: &'a GroupValues<'a>,
    error: f64,
    grid: WeightGrid,
}

impl<'a> BestGrid<'a> {
    pub fn new(group: &'a GroupValues<'a>, grid: WeightGrid) -> Self {
        let error = grid.error(group.w, group.costs);
        Self { group, error, grid }
    }

    /// Takes a grid if its error is less than that of all before it.
    pub fn offer(&mut self, grid: WeightGrid) {
        let error = grid.error(self.group.w, self.group.costs);
        if error < self.error {
            (self.error, self.grid) = (error, grid);
        }
    }

    /// Returns the least error and its grid.
    pub fn take(self) -> (f64, WeightGrid) {
        (self.error, self.grid)
    }
}
