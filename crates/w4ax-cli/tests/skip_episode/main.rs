//! Skipping on the robot's policy: the policy as a stack, the networks that were trained, and the `skip_episode` example.

mod program;
mod stack;
mod trained;

use std::path::{Path, PathBuf};

use w4ax_robot::checkpoint::Checkpoint;
use w4ax_robot::rollouts::Rollouts;

fn deep(name: &str) -> PathBuf {
    Path::new(w4ax_robot::paths::DEEP).join(name)
}

fn checkpoint() -> Checkpoint {
    Checkpoint::load(deep("deep_policy.safetensors")).unwrap()
}

fn rollouts() -> Rollouts {
    Rollouts::load(deep("deep_rollouts.safetensors")).unwrap()
}
