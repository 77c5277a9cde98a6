//! Intervals of shares, and the spread of values.

use serde::Serialize;
use w4ax::calibrate::percentile;

/// The 97.5 % quantile of the standard normal distribution.
const Z95: f64 = 1.959_963_984_540_054;

/// Returns the 95 % interval of a share (E. B. Wilson 1927). `total` is at least 1.
pub fn wilson(successes: usize, total: usize) -> [f64; 2] {
    let (n, square) = (total as f64, Z95 * Z95);
    let share = successes as f64 / n;
    let center = share + square / (2.0 * n);
    let half = Z95 * (share * (1.0 - share) / n + square / (4.0 * n * n)).sqrt();
    let scale = 1.0 + square / n;
    // Exact at the ends, where rounding would leave the interval.
    [
        if successes == 0 {
            0.0
        } else {
            (center - half) / scale
        },
        if successes == total {
            1.0
        } else {
            (center + half) / scale
        },
    ]
}

/// The spread of values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The number of values.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// The 25th percentile.
    pub low: f64,
    /// The median.
    pub median: f64,
    /// The 75th percentile.
    pub high: f64,
}

impl Spread {
    /// Returns the spread of values, which are sorted; `None` without values.
    pub fn of(values: &mut [f64]) -> Option<Self> {
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count as f64;
        Some(Self {
            count,
            mean,
            low: percentile(values, 25.0)?,
            median: percentile(values, 50.0)?,
            high: percentile(values, 75.0)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    #[test]
    fn wilson_matches_published_values() {
        for (successes, total, expected) in [
            (81, 263, [0.2553, 0.3662]),
            (15, 148, [0.0624, 0.1605]),
            (0, 20, [0.0, 0.1611]),
            (1, 29, [0.0061, 0.1718]),
        ] {
            let interval = wilson(successes, total);
            for (bound, expected) in interval.into_iter().zip(expected) {
                assert!((bound - expected).abs() < 5e-5, "{interval:?}");
            }
        }
        assert_eq!(wilson(3, 3)[1], 1.0);
    }

    #[test]
    fn spread_has_quartiles_and_the_mean() {
        let spread = Spread::of(&mut [5.0, 1.0, 2.0, 3.0, 9.0]).unwrap();
        assert_eq!(
            (spread.low, spread.median, spread.high, spread.mean),
            (2.0, 3.0, 5.0, 4.0)
        );
        assert_eq!(Spread::of(&mut []), None);
    }
}
