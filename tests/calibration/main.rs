//! Calibration: the rule on the recorded tokens, its file, and the recording that it reads.

#[path = "../support/example.rs"]
mod example;
#[path = "../../examples/robot/mod.rs"]
mod robot;

mod file;
mod rollouts;
mod rule;

use std::path::PathBuf;

fn data(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/robot")).join(name)
}
