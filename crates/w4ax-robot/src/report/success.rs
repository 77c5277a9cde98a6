//! Success in closed loop, from the summaries that `scripts/closed-loop analyze` writes.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use w4ax::{Error, Result};

use super::interval::wilson;

/// The tolerance of the intervals in a summary.
const TOLERANCE: f64 = 1e-6;

/// The success of an arm in closed loop.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArmSuccess {
    /// The name of the arm.
    pub arm: String,
    /// The episodes that succeeded.
    pub succeeded: usize,
    /// All episodes.
    pub episodes: usize,
    /// Wilson's 95 % interval of the share.
    pub interval: [f64; 2],
}

/// Two arms that played the same episodes.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct ArmPair {
    /// The first arm.
    pub first: String,
    /// The second arm.
    pub second: String,
    /// The episodes.
    pub pairs: usize,
    /// Success of the first arm minus that of the second.
    pub difference: f64,
    /// The lower end of the 95 % interval (Newcombe, method 10).
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// McNemar's exact p.
    pub p: f64,
}

/// The arms and pairs of summaries.
#[derive(Clone, Debug, Default)]
pub struct ClosedLoopSuccess {
    arms: Vec<ArmSuccess>,
    /// The pairs, in the order of the files.
    pub pairs: Vec<ArmPair>,
}

#[derive(Deserialize)]
struct SummaryJson {
    arms: Vec<ArmJson>,
    pairs: Vec<ArmPair>,
}

#[derive(Deserialize)]
struct ArmJson {
    arm: String,
    success: usize,
    episodes: usize,
    low: f64,
    high: f64,
}

impl ClosedLoopSuccess {
    /// Reads summaries.
    ///
    /// # Errors
    /// [`Error::Io`]. [`Error::Format`] for a file that is not a summary, counts without episodes
    /// or with more successes than episodes, an interval that is not Wilson's, or an arm that
    /// occurs twice.
    pub fn load(paths: &[PathBuf]) -> Result<Self> {
        let mut all = Self::default();
        for path in paths {
            let bytes = crate::rows::contents(path)?;
            all.add(&bytes, path)?;
        }
        Ok(all)
    }

    /// Returns the success of an arm, if a summary has it.
    pub fn arm(&self, name: &str) -> Option<&ArmSuccess> {
        self.arms.iter().find(|arm| arm.arm == name)
    }

    fn add(&mut self, bytes: &[u8], path: &Path) -> Result<()> {
        let refuse = |reason: String| Error::Format {
            file: path.display().to_string(),
            reason,
        };
        let summary: SummaryJson =
            serde_json::from_slice(bytes).map_err(|error| refuse(error.to_string()))?;
        for arm in summary.arms {
            let name = &arm.arm;
            if self.arm(name).is_some() {
                return Err(refuse(format!(
                    "arm `{name}` is repeated: expected it once"
                )));
            }
            if arm.episodes == 0 || arm.success > arm.episodes {
                let (success, episodes) = (arm.success, arm.episodes);
                return Err(refuse(format!(
                    "arm `{name}` has {success} successes in {episodes} episodes: expected at \
                     least one episode and no more successes"
                )));
            }
            let interval = wilson(arm.success, arm.episodes);
            let pairs = interval.into_iter().zip([arm.low, arm.high]);
            if let Some((known, got)) = { pairs }.find(|(a, b)| (a - b).abs() > TOLERANCE) {
                return Err(refuse(format!(
                    "arm `{name}` has {got} as an end of its interval: expected {known}"
                )));
            }
            self.arms.push(ArmSuccess {
                arm: arm.arm,
                succeeded: arm.success,
                episodes: arm.episodes,
                interval,
            });
        }
        self.pairs.extend(summary.pairs);
        Ok(())
    }
}
