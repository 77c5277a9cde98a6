//! Between normalized values and the units of a data set.

use crate::config::Stats;
use crate::{Result, VlaError};

/// OpenVLA-OFT adds it to a range, so that a division by the range is defined.
const OFT_EPSILON: f64 = 1e-8;

/// Which statistics bound the normalized values -1 and 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bounds {
    /// The first and the 99th percentile.
    Quantiles,
    /// The smallest and the largest value.
    MinMax,
}

impl Bounds {
    /// Returns the lower and the upper bounds per dimension.
    fn of(self, stats: &Stats) -> Result<(&[f64], &[f64])> {
        match self {
            Self::Quantiles => Ok((stats.q01(), stats.q99())),
            Self::MinMax => match (stats.min(), stats.max()) {
                (Some(min), Some(max)) => Ok((min, max)),
                _ => Err(VlaError::Input {
                    what: "statistics",
                    got: "percentiles only".to_owned(),
                    expected: "smallest and largest value per dimension".to_owned(),
                }),
            },
        }
    }
}

/// Maps normalized actions to the units of a data set.
///
/// `a = 0.5 (n + 1) (high - low) + low` for the dimensions of the mask, and `a = n` for the
/// others, as for a gripper. OpenVLA-OFT adds 1e-8 to `high - low`; OpenVLA does not.
#[derive(Debug, Clone, PartialEq)]
pub struct Unnormalize {
    dims: Vec<Dimension>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Dimension {
    low: f64,
    range: f64,
    mask: bool,
}

impl Unnormalize {
    /// Returns the rule of OpenVLA: the bounds are percentiles.
    pub fn openvla(stats: &Stats) -> Self {
        Self::new(stats.q01(), stats.q99(), stats.mask(), 0.0)
    }

    /// Returns the rule of OpenVLA-OFT.
    ///
    /// # Errors
    /// [`Input`](VlaError::Input) for statistics without smallest and largest values if these are
    /// the bounds.
    pub fn oft(stats: &Stats, bounds: Bounds) -> Result<Self> {
        let (low, high) = bounds.of(stats)?;
        Ok(Self::new(low, high, stats.mask(), OFT_EPSILON))
    }

    fn new(low: &[f64], high: &[f64], mask: &[bool], epsilon: f64) -> Self {
        let dims = low.iter().zip(high).zip(mask);
        let dims = dims.map(|((&low, &high), &mask)| Dimension {
            low,
            range: high - low + epsilon,
            mask,
        });
        Self {
            dims: dims.collect(),
        }
    }

    /// Number of dimensions of an action.
    pub fn dims(&self) -> usize {
        self.dims.len()
    }

    /// Maps normalized actions `[n, dims]`, as a model with action tokens returns them.
    ///
    /// # Errors
    /// [`Input`](VlaError::Input) for a number of values that is not a multiple of the dimensions.
    pub fn apply(&self, normalized: &[f64]) -> Result<Vec<f64>> {
        self.map(normalized, |n| n, |n| 0.5 * (n + 1.0))
    }

    /// Maps normalized actions `[n, dims]`, as an action head returns them.
    ///
    /// The reference computes `0.5 (n + 1)` in the type of the normalized actions, and the rest in
    /// F64. A conversion to F64 before this call would change the last bits.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn apply_f32(&self, normalized: &[f32]) -> Result<Vec<f64>> {
        self.map(normalized, f64::from, |n| f64::from(0.5 * (n + 1.0)))
    }

    fn map<T: Copy>(
        &self,
        normalized: &[T],
        plain: impl Fn(T) -> f64,
        fraction: impl Fn(T) -> f64,
    ) -> Result<Vec<f64>> {
        if !normalized.len().is_multiple_of(self.dims.len()) {
            return Err(VlaError::Input {
                what: "normalized action",
                got: format!("{} values", normalized.len()),
                expected: format!("a multiple of {}, as in the statistics", self.dims.len()),
            });
        }
        let dims = self.dims.iter().cycle();
        let values = normalized.iter().zip(dims).map(|(&n, dim)| {
            if dim.mask {
                fraction(n) * dim.range + dim.low
            } else {
                plain(n)
            }
        });
        Ok(values.collect())
    }
}

/// Maps a robot's state to `[-1, 1]` as OpenVLA-OFT does: `2 (s - low) / (high - low + 1e-8) - 1`,
/// clamped. Dimensions outside the mask are only clamped.
///
/// # Errors
/// [`Input`](VlaError::Input) for a state with another number of dimensions than the statistics or
/// with a value that is not finite, and for statistics without the bounds.
pub fn normalize_proprio(state: &[f64], stats: &Stats, bounds: Bounds) -> Result<Vec<f64>> {
    let error = |got: String, expected: String| VlaError::Input {
        what: "state of the robot",
        got,
        expected,
    };
    if state.len() != stats.dims() {
        let expected = format!("{}, as in the statistics", stats.dims());
        return Err(error(format!("{} values", state.len()), expected));
    }
    if let Some(value) = state.iter().find(|value| !value.is_finite()) {
        return Err(error(value.to_string(), "finite values".to_owned()));
    }
    let (low, high) = bounds.of(stats)?;
    let dims = state.iter().zip(low.iter().zip(high)).zip(stats.mask());
    let values = dims.map(|((&s, (&low, &high)), &mask)| {
        let value = if mask {
            2.0 * (s - low) / (high - low + OFT_EPSILON) - 1.0
        } else {
            s
        };
        value.clamp(-1.0, 1.0)
    });
    Ok(values.collect())
}
