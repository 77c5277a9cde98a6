//! Intervals by the bootstrap over episodes.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use w4ax::Width;
use w4ax::calibrate::{RuleReplay, percentile};

/// The number of resamples.
pub const RESAMPLES: usize = 1000;

/// The central 95 % of a statistic over the resamples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The 2.5th percentile.
    pub lower: f64,
    /// The 97.5th percentile.
    pub upper: f64,
}

/// The intervals of a replay. Steps of an episode depend on each other, so whole episodes are
/// drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Intervals {
    /// Of the mean error, in action units.
    pub error: Interval,
    /// Of the mean cost of a step.
    pub cost: Interval,
    /// Of the share of steps at the low width.
    pub share: Interval,
    /// Of the share of steps that ran twice.
    pub reruns: Interval,
}

impl Intervals {
    /// Draws [`RESAMPLES`] times as many episodes as there are, with replacement.
    pub fn of(replay: &RuleReplay, low: Width, seed: u64) -> Self {
        let one = |yes: bool| f64::from(u8::from(yes));
        let sums = replay.episodes.iter().map(|steps| {
            let sum = steps
                .iter()
                .fold([0.0; 4], |[error, cost, share, reruns], step| {
                    [
                        error + step.error,
                        cost + step.cost,
                        share + one(step.width == low),
                        reruns + one(step.twice),
                    ]
                });
            (steps.len(), sum)
        });
        let sums: Vec<(usize, [f64; 4])> = sums.collect();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut means = [const { Vec::new() }; 4];
        for _ in 0..RESAMPLES {
            let (mut steps, mut total) = (0, [0.0; 4]);
            for _ in 0..sums.len() {
                let (len, sum) = sums[rng.random_range(0..sums.len())];
                steps += len;
                total
                    .iter_mut()
                    .zip(sum)
                    .for_each(|(total, sum)| *total += sum);
            }
            for (means, total) in means.iter_mut().zip(total) {
                means.push(total / steps as f64);
            }
        }
        let [error, cost, share, reruns] = means.map(|mut means| {
            let mut at = |percent| percentile(&mut means, percent).unwrap_or(f64::NAN);
            Interval {
                lower: at(2.5),
                upper: at(97.5),
            }
        });
        Self {
            error,
            cost,
            share,
            reruns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use w4ax::calibrate::ReplayedStep;

    fn episode(steps: usize, error: f64) -> Vec<ReplayedStep> {
        let step = ReplayedStep {
            width: Width::A2,
            error,
            cost: 2.0,
            twice: false,
        };
        vec![step; steps]
    }

    #[test]
    fn interval_of_equal_episodes_is_their_value() {
        let replay = RuleReplay {
            episodes: vec![episode(10, 0.25); 5],
        };
        let intervals = Intervals::of(&replay, Width::A2, 1);
        let point = |value| Interval {
            lower: value,
            upper: value,
        };
        assert_eq!(intervals.error, point(0.25));
        assert_eq!((intervals.cost, intervals.share), (point(2.0), point(1.0)));
        assert_eq!(intervals.reruns, point(0.0));
    }

    /// Of two episodes both draws are the same one with probability 1/4 each, so 2.5 % and 97.5 %
    /// are the two values, however long the episodes are.
    #[test]
    fn whole_episodes_are_drawn() {
        let replay = RuleReplay {
            episodes: vec![episode(1, 0.0), episode(99, 1.0)],
        };
        let error = Intervals::of(&replay, Width::A2, 3).error;
        assert_eq!((error.lower, error.upper), (0.0, 1.0));
        let same = Intervals::of(&replay, Width::A2, 3).error;
        assert_eq!(error, same);
    }

    /// The mean of n normal episodes with deviation s has an interval of +- 1.96 s / sqrt(n).
    #[test]
    fn interval_has_the_width_of_the_standard_error() {
        let spread = |i: usize| (i as f64 / 99.0 - 0.5) * 12f64.sqrt();
        let replay = RuleReplay {
            episodes: (0..100).map(|i| episode(7, spread(i))).collect(),
        };
        let error = Intervals::of(&replay, Width::A2, 5).error;
        let half = (error.upper - error.lower) / 2.0;
        assert!((half / 0.196 - 1.0).abs() < 0.1, "{half}");
    }
}
