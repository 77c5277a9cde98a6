//! Calibration: the rule on the recorded tokens, its file, and the recording that it reads.

mod file;
mod rollouts;
mod rule;

use std::path::PathBuf;

fn data(name: &str) -> PathBuf {
    PathBuf::from(w4ax_robot::paths::ROBOT).join(name)
}
