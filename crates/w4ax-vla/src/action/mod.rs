//! Actions: from tokens or normalized values to a robot's units.
//!
//! - [`ActionBins`]: a token is a bin of one dimension of a normalized action.
//! - [`Unnormalize`]: a normalized action becomes an action in the units of a data set.
//! - [`normalize_proprio`]: a robot's state becomes an input of OpenVLA-OFT.
//! - [`RobotPlatform`]: the constants that OpenVLA-OFT has per robot.
//! - [`libero_gripper`], [`axis_angle`]: what clients of the LIBERO simulator do.
//!
//! All arithmetic follows the reference operation by operation, so results are equal to the bit.

mod bins;
mod libero;
mod normalize;
mod platform;

pub use bins::ActionBins;
pub use libero::{axis_angle, libero_gripper};
pub use normalize::{Bounds, Unnormalize, normalize_proprio};
pub use platform::RobotPlatform;
