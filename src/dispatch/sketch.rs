//! Percentiles of a series from a sketch of fixed size.

use crate::{Error, Result};

/// The counts of a series of numbers in buckets of equal ratio, which returns percentiles with a
/// bounded relative error (the log-bucket histogram of DDSketch, arXiv 1908.10693).
///
/// The sketch has a fixed size of about 10 KB, whatever the number of values. It does not allocate
/// after its creation. Two sketches [`merge`](Self::merge) to the sketch of both series.
///
/// A value in [[`SMALLEST`](Self::SMALLEST), [`LARGEST`](Self::LARGEST)] has a relative error of at
/// most [`RELATIVE_ERROR`](Self::RELATIVE_ERROR). A smaller value counts as 0, which is an absolute
/// error below `SMALLEST`. A larger value counts as `LARGEST`.
///
/// ```
/// use w4ax::dispatch::PercentileSketch;
/// # fn main() -> w4ax::Result<()> {
/// let mut sketch = PercentileSketch::new();
/// for i in 0..=1000 {
///     sketch.add(f64::from(i) * 0.01)?;
/// }
/// let p95 = sketch.percentile(95.0).unwrap();
/// assert!((p95 / 9.5 - 1.0).abs() <= PercentileSketch::RELATIVE_ERROR);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PercentileSketch {
    /// Number of values below [`Self::SMALLEST`].
    zeros: u64,
    counts: Box<[u64; BUCKETS]>,
    total: u64,
}

/// Number of buckets over [SMALLEST, LARGEST].
const BUCKETS: usize = 1200;

impl PercentileSketch {
    /// The bound of the relative error of a percentile.
    pub const RELATIVE_ERROR: f64 = 0.01;
    /// The smallest value that is not 0.
    pub const SMALLEST: f64 = 1e-6;
    /// The largest value.
    pub const LARGEST: f64 = 1e4;

    /// Creates the sketch of an empty series.
    pub fn new() -> Self {
        Self {
            zeros: 0,
            counts: Box::new([0; BUCKETS]),
            total: 0,
        }
    }

    /// Returns the logarithm of the ratio of a bucket's edges: buckets of 1.94 %, whose centers
    /// have an error of 0.96 %.
    fn log_ratio() -> f64 {
        (Self::LARGEST / Self::SMALLEST).ln() / BUCKETS as f64
    }

    /// Adds a value.
    ///
    /// # Errors
    /// [`Error::Range`] if the value is NaN, infinite or negative. The sketch is unchanged then.
    pub fn add(&mut self, value: f64) -> Result<()> {
        if !(value.is_finite() && value >= 0.0) {
            return Err(Error::Range {
                what: "value of a sketch",
                value: value.to_string(),
                range: "a finite value of at least 0",
            });
        }
        if value < Self::SMALLEST {
            self.zeros += 1;
        } else {
            self.counts[Self::bucket(value)] += 1;
        }
        self.total += 1;
        Ok(())
    }

    /// Returns the bucket of a value of at least [`SMALLEST`](Self::SMALLEST).
    fn bucket(value: f64) -> usize {
        let at = ((value / Self::SMALLEST).ln() / Self::log_ratio()) as usize;
        at.min(BUCKETS - 1)
    }

    /// Returns the share of values that are at most `value`, in [0, 1]. Values of the same bucket
    /// count as equal, so it is that of a value with a relative difference of at most twice
    /// [`RELATIVE_ERROR`](Self::RELATIVE_ERROR). `None` if the series is empty, or `value` is NaN.
    pub fn rank(&self, value: f64) -> Option<f64> {
        if self.is_empty() || value.is_nan() {
            return None;
        }
        let below = if value < 0.0 {
            0
        } else if value < Self::SMALLEST {
            self.zeros
        } else {
            self.zeros + self.counts[..=Self::bucket(value)].iter().sum::<u64>()
        };
        Some(below as f64 / self.total as f64)
    }

    /// Adds all values of another sketch.
    pub fn merge(&mut self, other: &Self) {
        self.zeros += other.zeros;
        for (count, more) in self.counts.iter_mut().zip(other.counts.iter()) {
            *count += more;
        }
        self.total += other.total;
    }

    /// Returns the number of values.
    pub const fn len(&self) -> u64 {
        self.total
    }

    /// Returns whether the series is empty.
    pub const fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Returns the `percent`-th percentile, with linear interpolation between the two nearest
    /// ranks, as [`calibrate::percentile`](crate::calibrate::percentile) does from all values.
    /// `None` if the series is empty, or `percent` is outside [0, 100].
    pub fn percentile(&self, percent: f64) -> Option<f64> {
        if self.is_empty() || !(0.0..=100.0).contains(&percent) {
            return None;
        }
        let rank = percent / 100.0 * (self.total - 1) as f64;
        let below = rank as u64;
        let (low, high) = self.values(below, (below + 1).min(self.total - 1));
        Some(low + (high - low) * (rank - below as f64))
    }

    /// Returns the values of two ranks, the second at least the first.
    fn values(&self, low: u64, high: u64) -> (f64, f64) {
        // The value of a bucket has the same relative distance to both edges.
        let value = |bucket: usize| {
            let ratio = Self::log_ratio();
            let lower = Self::SMALLEST * (bucket as f64 * ratio).exp();
            lower * 2.0 / (1.0 + (-ratio).exp())
        };
        let mut found = if low < self.zeros { Some(0.0) } else { None };
        if high < self.zeros {
            return (0.0, 0.0);
        }
        let mut seen = self.zeros;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if low < seen && found.is_none() {
                found = Some(value(bucket));
            }
            if high < seen {
                let high = value(bucket);
                return (found.unwrap_or(high), high);
            }
        }
        unreachable!("rank {high} of {} values", self.total)
    }

    /// Removes all values.
    pub fn clear(&mut self) {
        self.zeros = 0;
        self.counts.fill(0);
        self.total = 0;
    }
}

impl Default for PercentileSketch {
    /// Returns [`PercentileSketch::new`].
    fn default() -> Self {
        Self::new()
    }
}
