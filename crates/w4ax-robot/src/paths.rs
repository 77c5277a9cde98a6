//! Paths of the data files that come with the repository, and of the pictures that programs draw.
//!
//! They are fixed when the program is built, so [`check`] reports a default that does not exist.

use std::path::Path;

use w4ax::{Error, Result};

/// A path in the workspace.
macro_rules! in_workspace {
    ($path:literal) => {
        concat!(env!("W4AX_ROOT"), "/", $path)
    };
}

/// Checks that the file or folder of an option exists, whose default is one of these paths.
///
/// # Errors
/// [`Error::Range`] with the option.
pub fn check(option: &'static str, path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    Err(Error::Range {
        what: option,
        value: format!("`{}`, which does not exist", path.display()),
        range: "an existing path; the default is in the source folder of this program",
    })
}

/// The folder of the policy of 4 blocks and its recordings.
pub const ROBOT: &str = in_workspace!("tests/data/robot");
/// The trained policy of 4 blocks.
pub const POLICY: &str = in_workspace!("tests/data/robot/policy.safetensors");
/// Recorded episodes of that policy.
pub const ROLLOUTS: &str = in_workspace!("tests/data/robot/rollouts.safetensors");
/// Episodes that ran under a dynamic rule, with its decision at each step.
pub const CLOSED_LOOP: &str = in_workspace!("tests/data/robot/closed_loop_steps.csv");

/// The folder of the policy of 16 blocks and its networks.
pub const DEEP: &str = in_workspace!("tests/data/robot-deep");
/// The trained policy of 16 blocks.
pub const DEEP_POLICY: &str = in_workspace!("tests/data/robot-deep/deep_policy.safetensors");
/// Recorded episodes of that policy.
pub const DEEP_ROLLOUTS: &str = in_workspace!("tests/data/robot-deep/deep_rollouts.safetensors");
/// The rows that the policies were trained on, and validation rows.
pub const DATASET: &str = in_workspace!("tests/data/robot-deep/bc_dataset.safetensors");
/// Adapters and controllers with 20 % of the layers static.
pub const SKIP: &str = in_workspace!("tests/data/robot-deep/skip.safetensors");
/// Adapters and controllers with 10 % of the layers static.
pub const SKIP_10: &str = in_workspace!("tests/data/robot-deep/skip_10.safetensors");
/// Adapters and controllers with 30 % of the layers static.
pub const SKIP_30: &str = in_workspace!("tests/data/robot-deep/skip_30.safetensors");
/// Adapters and controllers with no static layers.
pub const SKIP_NO_STATIC: &str = in_workspace!("tests/data/robot-deep/skip_no_static.safetensors");
/// Adapters and controllers that were trained in one stage.
pub const SKIP_JOINT: &str = in_workspace!("tests/data/robot-deep/skip_joint.safetensors");
/// An adapter for an early exit.
pub const SKIP_EXIT: &str = in_workspace!("tests/data/robot-deep/skip_exit.safetensors");

/// Checkpoints of other tools, small ones.
pub const CHECKPOINTS: &str = in_workspace!("tests/data/checkpoints");

/// The default picture of `w4ax episode`.
pub const EPISODE_PICTURE: &str = in_workspace!("target/episode.svg");
/// The default picture of `w4ax sensitivity`.
pub const SENSITIVITY_PICTURE: &str = in_workspace!("target/sensitivity.svg");
/// The default picture of `w4ax skip-episode`.
pub const SKIP_PICTURE: &str = in_workspace!("target/skip_episode.svg");
/// The folder of the default pictures of `w4ax report`.
pub const PICTURES: &str = in_workspace!("target");
