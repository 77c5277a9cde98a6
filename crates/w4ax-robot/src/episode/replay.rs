//! Repeats the decisions of recorded closed-loop episodes from their actions, and counts the
//! differences.

use std::path::{Path, PathBuf};

use w4ax::calibrate::Calibration;
use w4ax::dispatch::Dispatcher;
use w4ax::{Error, Result};

use crate::closed_loop::{self, Episode};
use crate::rollouts::action;

/// The tolerance of S: the recorded one has 9 digits.
pub const TOLERANCE: f64 = 1e-5;

/// The differences of a replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Replay {
    /// The number of steps.
    pub steps: usize,
    /// Steps whose S differs from the recorded one by more than [`TOLERANCE`].
    pub sensitivity_mismatches: usize,
    /// Steps whose target or active width differs.
    pub width_mismatches: usize,
}

/// The name of the file with the parameters of recorded closed-loop steps, in their folder.
pub const CALIBRATION: &str = "closed_loop_calibration.json";

/// Returns the parameters with which recorded steps ran: [`CALIBRATION`] in the folder of their
/// file, if it exists.
pub fn recorded_calibration(steps: &Path) -> Option<PathBuf> {
    Some(steps.with_file_name(CALIBRATION)).filter(|file| file.exists())
}

/// Replays a file.
///
/// # Errors
/// As [`closed_loop::load`]. [`Error::Format`] for a task that is not in the calibration.
pub fn replay_file(path: &Path, calibration: &Calibration) -> Result<Replay> {
    let episodes = closed_loop::load(path)?;
    replay(&episodes, calibration, &path.display().to_string())
}

/// Replays episodes. `file` is their name in errors.
///
/// # Errors
/// [`Error::Format`] for a task that is not in the calibration.
pub fn replay(episodes: &[Episode], calibration: &Calibration, file: &str) -> Result<Replay> {
    let mut replay = Replay::default();
    for episode in episodes {
        let config = calibration
            .dispatch_config(&episode.task)
            .map_err(|error| Error::Format {
                file: file.into(),
                reason: format!("line {}: {error}", episode.line),
            })?;
        let mut dispatcher = Dispatcher::new(&config)?;
        for step in &episode.steps {
            let decision = dispatcher.decide();
            let moved = (decision.sensitivity - step.sensitivity).abs();
            let near = moved <= TOLERANCE;
            let same = (decision.target, decision.active) == (step.target, step.active);
            replay.steps += 1;
            replay.sensitivity_mismatches += usize::from(!near);
            replay.width_mismatches += usize::from(!same);
            dispatcher.observe(&action(&step.tokens))?;
        }
    }
    Ok(replay)
}
