//! The default policy and its calibration, which are part of the program.

use w4ax::Result;
use w4ax::calibrate::Calibration;

use super::checkpoint::Checkpoint;

/// The name of the policy, that of its file without the extension.
pub const NAME: &str = "policy";

/// The policy of 4 blocks, safetensors.
const POLICY: &[u8] = include_bytes!("../../../tests/data/robot/policy.safetensors");

/// Its calibration, JSON.
const CALIBRATION: &[u8] = include_bytes!("../../../tests/data/robot/calibration.json");

/// The name of the calibration in errors.
pub const CALIBRATION_FILE: &str = "embedded calibration.json";

/// Returns the policy of 4 blocks.
///
/// # Errors
/// As [`Checkpoint::parse`], for a program that was built with another file.
pub fn checkpoint() -> Result<Checkpoint> {
    Checkpoint::parse(POLICY, "embedded policy.safetensors")
}

/// Returns the calibration of the policy.
///
/// # Errors
/// As [`Calibration::from_json`], for a program that was built with another file.
pub fn calibration() -> Result<Calibration> {
    Calibration::from_json(CALIBRATION, CALIBRATION_FILE)
}
