//! Calibration: recorded tokens, the calibration file, and the recording.

mod file;
mod replay;
mod rollouts;
mod rule;

use std::path::PathBuf;

fn data(name: &str) -> PathBuf {
    PathBuf::from(w4ax_robot::paths::ROBOT).join(name)
}
