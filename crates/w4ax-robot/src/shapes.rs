//! The shapes of what a policy reads and writes.

use w4ax::dispatch::ACTION_DIM;

/// The length of an observation.
pub const OBS: usize = 25;

/// The length of the policy's input.
pub const INPUT: usize = 64;

/// The 7 action tokens of a step.
pub type Tokens = [u8; ACTION_DIM];
