//! Mean errors by sensitivity, and the thresholds that Eq. 5 derives from them.

use super::episode::Episode;
use super::file::TaskScale;
use super::settings::{CalibrationSettings, SensitivitySource};
use crate::dispatch::{Kinematics, Thresholds};
use crate::{Error, Result, Width};

/// Number of bins of S over [0, theta_fp].
pub const BINS: usize = 20;

/// Minimum number of steps of a bin. Bins with fewer steps are ignored.
pub const MIN_ROWS: usize = 5;

/// The steps whose S is in [`lower`](Self::lower)`..`[`upper`](Self::upper).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// Lower edge, inclusive.
    pub lower: f64,
    /// Upper edge, exclusive.
    pub upper: f64,
    /// Number of steps in the bin.
    pub rows: usize,
    /// Mean error at 2 bits in action units, or 0 without steps.
    pub error_2: f64,
    /// Mean error at 4 bits in action units, or 0 without steps.
    pub error_4: f64,
    /// Mean error at 8 bits in action units, or 0 without steps.
    pub error_8: f64,
}

/// The mean errors at 2, 4 and 8 bits by S.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorProfile {
    bins: Vec<Bin>,
    theta_fp: f64,
    rows: usize,
}

/// The effect of D_acc on the thresholds. A threshold is ill-conditioned if a change of D_acc by 10
/// % moves it by more than one bin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conditioning {
    /// The thresholds at 0.9, 1 and 1.1 times D_acc.
    pub thresholds: [Thresholds; 3],
}

impl ErrorProfile {
    /// Computes S of each step from the preceding actions of the settings'
    /// [source](SensitivitySource), and the mean errors by S.
    ///
    /// # Errors
    /// - [`Error::Range`] if the motion of an action overflows.
    /// - [`Error::Config`] if no bin has [`MIN_ROWS`] steps.
    pub fn measure<A: AsRef<[f64]>>(
        scales: &[TaskScale],
        episodes: &[Episode<A>],
        settings: &CalibrationSettings,
    ) -> Result<Self> {
        let theta_fp = settings.theta_fp();
        let width = theta_fp / BINS as f64;
        let edge = |i: usize| {
            if i == BINS {
                theta_fp
            } else {
                i as f64 * width
            }
        };
        let bin = |i| Bin {
            lower: edge(i),
            upper: edge(i + 1),
            rows: 0,
            error_2: 0.0,
            error_4: 0.0,
            error_8: 0.0,
        };
        let mut bins: Vec<Bin> = (0..BINS).map(bin).collect();
        let mut rows = 0;
        for episode in episodes {
            episode.validate(scales.len())?;
            let mut motion =
                Kinematics::new(&settings.dispatch_config(scales[episode.task].motion))?;
            let executed = match settings.sensitivity_from() {
                SensitivitySource::W4a4 => episode.at(Width::A4),
                SensitivitySource::Reference => &episode.reference,
            };
            for (t, action) in executed.iter().enumerate() {
                let s = motion.sensitivity();
                motion.push(action.as_ref())?;
                rows += 1;
                // The bins cover [0, theta_fp). NaN is in no bin.
                let Some(bin) = bins
                    .iter_mut()
                    .find(|bin| (bin.lower..bin.upper).contains(&s))
                else {
                    continue;
                };
                let reference = episode.reference[t].as_ref();
                let error = |width| distance(episode.at(width)[t].as_ref(), reference);
                bin.rows += 1;
                bin.error_2 += error(Width::A2);
                bin.error_4 += error(Width::A4);
                bin.error_8 += error(Width::A8);
            }
        }
        for bin in bins.iter_mut().filter(|bin| bin.rows > 0) {
            bin.error_2 /= bin.rows as f64;
            bin.error_4 /= bin.rows as f64;
            bin.error_8 /= bin.rows as f64;
        }
        if bins.iter().all(|bin| bin.rows < MIN_ROWS) {
            let reason = format!(
                "has {rows} steps: expected a bin of S below {theta_fp} with at least {MIN_ROWS}"
            );
            return Err(Error::Config {
                field: "episodes",
                reason,
            });
        }
        Ok(Self {
            bins,
            theta_fp,
            rows,
        })
    }

    /// Returns the bins in ascending order of S, `[BINS]`.
    pub fn bins(&self) -> &[Bin] {
        &self.bins
    }

    /// Returns the number of steps, including those with S of at least theta_fp.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the thresholds for the error bound `d_acc / (S + eta)`.
    pub fn thresholds(&self, d_acc: f64, eta: f64) -> Thresholds {
        let theta_24 = self.boundary(d_acc, eta, |bin| bin.error_2);
        let theta_48 = self.boundary(d_acc, eta, |bin| bin.error_4).max(theta_24);
        Thresholds {
            theta_24,
            theta_48,
            theta_fp: self.theta_fp,
        }
    }

    /// Returns theta_8, the S from which on `e_8` exceeds the error bound as well: its boundary, at
    /// least theta_48. It is theta_fp if A8 keeps the bound up to there.
    pub fn theta_8(&self, d_acc: f64, eta: f64) -> f64 {
        let theta_48 = self.thresholds(d_acc, eta).theta_48;
        self.boundary(d_acc, eta, |bin| bin.error_8).max(theta_48)
    }

    /// Returns the thresholds at 0.9, 1 and 1.1 times `d_acc`.
    pub fn conditioning(&self, d_acc: f64, eta: f64) -> Conditioning {
        Conditioning {
            thresholds: [0.9, 1.0, 1.1].map(|factor| self.thresholds(factor * d_acc, eta)),
        }
    }

    /// Returns the lower edge of the longest sequence of bins that ends at theta_fp and exceeds the
    /// bound.
    fn boundary(&self, d_acc: f64, eta: f64, error: impl Fn(&Bin) -> f64) -> f64 {
        let exceeds = |bin: &&Bin| error(bin) > d_acc / ((bin.lower + bin.upper) / 2.0 + eta);
        let counted = self.bins.iter().rev().filter(|bin| bin.rows >= MIN_ROWS);
        counted
            .take_while(exceeds)
            .last()
            .map_or(self.theta_fp, |bin| bin.lower)
    }
}

impl Conditioning {
    /// Returns how far theta_24 and theta_48 move at most when D_acc changes by 10 %.
    pub fn moves(&self) -> [f64; 2] {
        let [less, nominal, more] = self.thresholds;
        let most = |theta: fn(&Thresholds) -> f64| {
            let moved = |other| (theta(&other) - theta(&nominal)).abs();
            moved(less).max(moved(more))
        };
        [most(|t| t.theta_24), most(|t| t.theta_48)]
    }

    /// Returns for theta_24 and theta_48 whether they move by more than one bin, `theta_fp / BINS`.
    pub fn ill_conditioned(&self) -> [bool; 2] {
        let bin = self.thresholds[1].theta_fp / BINS as f64;
        // Edges are multiples of a bin, so 1.5 bins separate one bin from two despite rounding.
        self.moves().map(|moved| moved > 1.5 * bin)
    }

    /// Returns a warning if a threshold is ill-conditioned.
    pub fn warning(&self) -> Option<String> {
        let describe = |((name, moved), ill): ((&str, f64), bool)| {
            ill.then(|| format!("{name} by {moved:.3}"))
        };
        let moved = ["theta_24", "theta_48"].into_iter().zip(self.moves());
        let moved: Vec<String> = moved
            .zip(self.ill_conditioned())
            .filter_map(describe)
            .collect();
        (!moved.is_empty()).then(|| {
            let bin = self.thresholds[1].theta_fp / BINS as f64;
            let moved = moved.join(" and ");
            format!(
                "the thresholds are ill-conditioned: D_acc +-10 % moves {moved} \
                 (one bin is {bin:.3}). \
                 Choose D_acc by closed-loop success, not by these numbers."
            )
        })
    }
}

/// Returns the L2 distance of two actions of the same length over all numbers, in action units.
/// This is the error `e_b`.
pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(x, y)| (x - y) * (x - y))
        .sum::<f64>()
        .sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates a profile with theta_fp 1 from `(rows, error)` of each bin. The error at 4 bits is
    /// half of it.
    fn profile(bins: [(usize, f64); BINS]) -> ErrorProfile {
        let bin = |(i, (rows, error)): (usize, (usize, f64))| Bin {
            lower: i as f64 / BINS as f64,
            upper: (i + 1) as f64 / BINS as f64,
            rows,
            error_2: error,
            error_4: error / 2.0,
            error_8: error / 4.0,
        };
        let bins = bins.into_iter().enumerate().map(bin).collect();
        ErrorProfile {
            bins,
            theta_fp: 1.0,
            rows: 0,
        }
    }

    #[test]
    fn boundary_is_lower_edge_of_the_bins_up_to_theta_fp_that_exceed_the_bound() {
        // The bound at the center of bin i is 20 / (i + .5).
        let mut bins = [(9, 1e9); BINS];
        assert_eq!(profile(bins).thresholds(1.0, 0.0).theta_24, 0.0);
        bins[7] = (9, 0.0);
        assert_eq!(profile(bins).thresholds(1.0, 0.0).theta_24, 8.0 / 20.0);
        // A bin with too few steps is ignored: it neither ends the sequence nor begins it.
        bins[7] = (4, 0.0);
        assert_eq!(profile(bins).thresholds(1.0, 0.0).theta_24, 0.0);
        (bins[0], bins[1]) = ((4, 1e9), (9, 0.0));
        bins[2] = (4, 1e9);
        assert_eq!(profile(bins).thresholds(1.0, 0.0).theta_24, 3.0 / 20.0);
        bins[19] = (9, 0.0);
        let t = profile(bins).thresholds(1.0, 0.0);
        assert_eq!([t.theta_24, t.theta_48, t.theta_fp], [1.0; 3]);
    }

    #[test]
    fn error_equal_to_the_bound_does_not_exceed_it() {
        let center = 19.5 / 20.0;
        let mut bins = [(9, 0.0); BINS];
        bins[19].1 = 0.07 / (center + 0.05);
        let theta = |d_acc| profile(bins).thresholds(d_acc, 0.05).theta_24;
        assert_eq!(theta(0.07_f64.next_down().next_down()), 19.0 / 20.0);
        assert_eq!(theta(0.0701), 1.0);
        assert_eq!(theta(0.07), 1.0);
    }

    #[test]
    fn theta_48_is_at_least_theta_24() {
        let mut bins = [(9, 0.0); BINS];
        for bin in &mut bins[10..] {
            bin.1 = 10.0;
        }
        let t = profile(bins).thresholds(1.0, 0.0);
        assert_eq!([t.theta_24, t.theta_48], [0.5, 0.5]);
        let mut p = profile(bins);
        p.bins[9].error_4 = 1e9;
        let t = p.thresholds(1.0, 0.0);
        assert_eq!([t.theta_24, t.theta_48], [0.5, 0.5]);
    }

    #[test]
    fn theta_8_is_the_boundary_of_the_error_at_8_bits() {
        let mut bins = [(9, 0.0); BINS];
        for bin in &mut bins[10..] {
            bin.1 = 10.0;
        }
        let mut p = profile(bins);
        // A quarter of 10 exceeds the bound from bin 10 on.
        assert_eq!(p.theta_8(1.0, 0.0), 0.5);
        p.bins[14].error_8 = 0.0;
        assert_eq!(p.theta_8(1.0, 0.0), 0.75);
        p.bins[19].error_8 = 0.0;
        assert_eq!(p.theta_8(1.0, 0.0), 1.0);
        // It is at least theta_48.
        p.bins[19].error_4 = 0.0;
        p.bins.iter_mut().for_each(|bin| bin.error_8 = 1e9);
        assert_eq!(p.theta_8(1.0, 0.0), 1.0);
    }

    #[test]
    fn boundary_that_moves_over_several_bins_is_ill_conditioned() {
        let mut bins = [(9, 0.0); BINS];
        for (i, bin) in bins.iter_mut().enumerate().skip(10) {
            bin.1 = 1.05 / ((i as f64 + 0.5) / 20.0);
        }
        let c = profile(bins).conditioning(1.0, 0.0);
        assert_eq!(c.thresholds.map(|t| t.theta_24), [0.5, 0.5, 1.0]);
        assert_eq!(c.moves(), [0.5, 0.0]);
        assert_eq!(c.ill_conditioned(), [true, false]);
        assert!(c.warning().unwrap().contains("theta_24 by 0.500"));
        // A move by one bin is the resolution of the bins and gives no warning.
        bins[11..].iter_mut().for_each(|bin| bin.1 = 1e9);
        let c = profile(bins).conditioning(1.0, 0.0);
        assert_eq!(c.thresholds.map(|t| t.theta_24), [0.5, 0.5, 0.55]);
        assert_eq!((c.ill_conditioned(), c.warning()), ([false, false], None));
    }
}
