//! Skipping on the robot's policy: the policy as a stack, the networks that were trained, and the `skip_episode` example.

#[path = "../support/example.rs"]
mod example;
#[path = "../support/networks.rs"]
mod networks;
#[path = "../../examples/robot/mod.rs"]
mod robot;

mod program;
mod stack;
mod trained;

use std::path::{Path, PathBuf};

use robot::checkpoint::Checkpoint;
use robot::rollouts::Rollouts;

fn deep(name: &str) -> PathBuf {
    Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/robot-deep"
    ))
    .join(name)
}

fn checkpoint() -> Checkpoint {
    Checkpoint::load(deep("deep_policy.safetensors")).unwrap()
}

fn rollouts() -> Rollouts {
    Rollouts::load(deep("deep_rollouts.safetensors")).unwrap()
}
