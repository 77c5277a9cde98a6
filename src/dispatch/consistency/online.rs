//! The distribution of the uncertainty at each profile, from the steps of the rule itself.

use super::rule::Profile;
use crate::dispatch::PercentileSketch;

/// Sketches of the uncertainty at both profiles, of fixed size.
#[derive(Clone, Debug)]
pub(super) struct OnlineUncertainty {
    low: PercentileSketch,
    high: PercentileSketch,
}

impl OnlineUncertainty {
    /// The number of steps of a profile from which on its sketch is used.
    pub const MIN_SAMPLES: u64 = 100;

    pub fn new() -> Self {
        Self {
            low: PercentileSketch::new(),
            high: PercentileSketch::new(),
        }
    }

    /// Adds the uncertainty of a step. One that is negative or not finite is left out.
    pub fn add(&mut self, profile: Profile, uncertainty: f64) {
        let sketch = match profile {
            Profile::Low => &mut self.low,
            Profile::High => &mut self.high,
        };
        // A value that the sketch refuses has no rank and is no sample.
        let _ = sketch.add(uncertainty);
    }

    /// Returns the share of uncertainties that are at most `uncertainty`, of the same profile. A
    /// low profile with too few steps has the rank among the high ones, which are smaller: its rank
    /// is too large then, and the low profile is tried less often. `None` with too few high steps.
    pub fn rank(&self, profile: Profile, uncertainty: f64) -> Option<f64> {
        let enough = |sketch: &PercentileSketch| sketch.len() >= Self::MIN_SAMPLES;
        let sketch = match profile {
            Profile::Low if enough(&self.low) => &self.low,
            _ if enough(&self.high) => &self.high,
            _ => return None,
        };
        sketch.rank(uncertainty)
    }
}
