//! `w4ax skip-episode`: the policy as a stack, the trained networks, and the built program.

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
