//! Errors by sensitivity, and the thresholds that Eq. 5 reads from them.

use super::Settings;
use super::episode::Episode;
use super::file::TaskScale;
use crate::dispatch::{Action, Kinematics, Thresholds};
use crate::{Error, Result, Width};

/// Bins of S on [0, theta_fp].
pub const BINS: usize = 20;

/// A bin with fewer steps is passed over.
pub const MIN_ROWS: usize = 5;

/// The steps whose S lies in [`lower`](Self::lower), [`upper`](Self::upper)).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    /// Lower edge, in the bin.
    pub lower: f64,
    /// Upper edge, not in the bin.
    pub upper: f64,
    /// Steps in the bin.
    pub rows: usize,
    /// Mean error at 2 bits, in action units; 0 with no rows.
    pub error_2: f64,
    /// Mean error at 4 bits, in action units; 0 with no rows.
    pub error_4: f64,
}

/// The mean errors at 2 and 4 bits over S.
#[derive(Clone, Debug, PartialEq)]
pub struct ErrorProfile {
    bins: Vec<Bin>,
    theta_fp: f64,
    rows: usize,
}

/// How far the thresholds follow D_acc: ill-conditioned where a boundary moves by more than one bin for 10 %.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conditioning {
    /// The thresholds at 0.9, 1 and 1.1 times D_acc.
    pub thresholds: [Thresholds; 3],
}

impl ErrorProfile {
    /// S of every step from the W4A4 actions before it, binned.
    ///
    /// # Errors
    /// [`Error::Range`] for actions too large for a finite motion, and [`Error::Config`] when no bin holds
    /// [`MIN_ROWS`] steps: thresholds would rest on nothing.
    pub fn measure(
        scales: &[TaskScale],
        episodes: &[Episode],
        settings: &Settings,
    ) -> Result<Self> {
        let theta_fp = settings.theta_fp;
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
        };
        let mut bins: Vec<Bin> = (0..BINS).map(bin).collect();
        let mut rows = 0;
        for episode in episodes {
            episode.validate(scales.len())?;
            let mut motion =
                Kinematics::new(&settings.dispatch_config(scales[episode.task].motion))?;
            for (t, action) in episode.at(Width::A4).iter().enumerate() {
                let s = motion.sensitivity();
                motion.push(action)?;
                rows += 1;
                // The bins cover [0, theta_fp); a NaN is in none.
                let Some(bin) = bins
                    .iter_mut()
                    .find(|bin| (bin.lower..bin.upper).contains(&s))
                else {
                    continue;
                };
                let error = |width| distance(&episode.at(width)[t], &episode.reference[t]);
                bin.rows += 1;
                bin.error_2 += error(Width::A2);
                bin.error_4 += error(Width::A4);
            }
        }
        for bin in bins.iter_mut().filter(|bin| bin.rows > 0) {
            bin.error_2 /= bin.rows as f64;
            bin.error_4 /= bin.rows as f64;
        }
        if bins.iter().all(|bin| bin.rows < MIN_ROWS) {
            let reason = format!(
                "hold too few steps: no bin of S below {theta_fp} has {MIN_ROWS} of the {rows}"
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

    /// The bins, `[BINS]`, from S = 0 up.
    pub fn bins(&self) -> &[Bin] {
        &self.bins
    }

    /// Steps in all, those with S of theta_fp and more counted.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The boundaries for an error bound `d_acc / (S + eta)`.
    pub fn thresholds(&self, d_acc: f64, eta: f64) -> Thresholds {
        let theta_24 = self.boundary(d_acc, eta, |bin| bin.error_2);
        let theta_48 = self.boundary(d_acc, eta, |bin| bin.error_4).max(theta_24);
        Thresholds {
            theta_24,
            theta_48,
            theta_fp: self.theta_fp,
        }
    }

    /// The thresholds at 0.9, 1 and 1.1 times `d_acc`.
    pub fn conditioning(&self, d_acc: f64, eta: f64) -> Conditioning {
        Conditioning {
            thresholds: [0.9, 1.0, 1.1].map(|factor| self.thresholds(factor * d_acc, eta)),
        }
    }

    /// The lower edge of the longest run of counted bins that ends at theta_fp and exceeds the bound.
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
    /// How far theta_24 and theta_48 move at most when D_acc moves by 10 % either way.
    pub fn moves(&self) -> [f64; 2] {
        let [less, nominal, more] = self.thresholds;
        let most = |theta: fn(&Thresholds) -> f64| {
            let moved = |other| (theta(&other) - theta(&nominal)).abs();
            moved(less).max(moved(more))
        };
        [most(|t| t.theta_24), most(|t| t.theta_48)]
    }

    /// Whether each of theta_24 and theta_48 moves by more than one bin, `theta_fp / BINS`.
    pub fn ill_conditioned(&self) -> [bool; 2] {
        let bin = self.thresholds[1].theta_fp / BINS as f64;
        // Edges are multiples of a bin: one and a half tells one bin from two whatever the rounding.
        self.moves().map(|moved| moved > 1.5 * bin)
    }

    /// A sentence for people, if a boundary is ill-conditioned.
    pub fn warning(&self) -> Option<String> {
        let say = |((name, moved), ill): ((&str, f64), bool)| {
            ill.then(|| format!("{name} by {moved:.3}"))
        };
        let moved = ["theta_24", "theta_48"].into_iter().zip(self.moves());
        let said: Vec<String> = moved.zip(self.ill_conditioned()).filter_map(say).collect();
        (!said.is_empty()).then(|| {
            let bin = self.thresholds[1].theta_fp / BINS as f64;
            let said = said.join(" and ");
            format!(
                "the thresholds are ill-conditioned: D_acc +-10 % moves {said} (one bin is {bin:.3}). \
                 Choose D_acc by closed-loop success, not by these numbers."
            )
        })
    }
}

/// The L2 distance of two actions, all 7 numbers, in action units: the error `e_b` of the rule.
pub fn distance(a: &Action, b: &Action) -> f64 {
    a.iter()
        .zip(b)
        .map(|(x, y)| (x - y) * (x - y))
        .sum::<f64>()
        .sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// theta_fp 1, bins of 0.05: `(rows, error)` from S = 0 up, the same error at both widths.
    fn profile(bins: [(usize, f64); BINS]) -> ErrorProfile {
        let bin = |(i, (rows, error)): (usize, (usize, f64))| Bin {
            lower: i as f64 / BINS as f64,
            upper: (i + 1) as f64 / BINS as f64,
            rows,
            error_2: error,
            error_4: error / 2.0,
        };
        let bins = bins.into_iter().enumerate().map(bin).collect();
        ErrorProfile {
            bins,
            theta_fp: 1.0,
            rows: 0,
        }
    }

    #[test]
    fn a_boundary_is_where_the_run_up_to_theta_fp_begins() {
        // The bound at the center of bin i is 1 / (i + .5) * 20 / 20.
        let mut bins = [(9, 1e9); BINS];
        assert_eq!(profile(bins).thresholds(1.0, 0.0).theta_24, 0.0);
        bins[7] = (9, 0.0);
        assert_eq!(profile(bins).thresholds(1.0, 0.0).theta_24, 8.0 / 20.0);
        // Too few rows: passed over, neither ends the run nor begins it.
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
    fn the_bound_is_d_acc_over_s_plus_eta_and_is_not_exceeded_by_itself() {
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
    fn a_jump_over_bins_is_ill_conditioned() {
        let mut bins = [(9, 0.0); BINS];
        for (i, bin) in bins.iter_mut().enumerate().skip(10) {
            bin.1 = 1.05 / ((i as f64 + 0.5) / 20.0);
        }
        let c = profile(bins).conditioning(1.0, 0.0);
        assert_eq!(c.thresholds.map(|t| t.theta_24), [0.5, 0.5, 1.0]);
        assert_eq!(c.moves(), [0.5, 0.0]);
        assert_eq!(c.ill_conditioned(), [true, false]);
        assert!(c.warning().unwrap().contains("theta_24 by 0.500"));
        // One bin is what binning itself costs: no warning.
        bins[11..].iter_mut().for_each(|bin| bin.1 = 1e9);
        let c = profile(bins).conditioning(1.0, 0.0);
        assert_eq!(c.thresholds.map(|t| t.theta_24), [0.5, 0.5, 0.55]);
        assert_eq!((c.ill_conditioned(), c.warning()), ([false, false], None));
    }
}
