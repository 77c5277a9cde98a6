//! The constants of OpenVLA-OFT per robot.

use super::Bounds;
use crate::VlaError;

/// The robots for which OpenVLA-OFT has constants. A checkpoint does not store them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RobotPlatform {
    /// The LIBERO simulator.
    #[default]
    Libero,
    /// ALOHA, a robot with two arms.
    Aloha,
    /// BridgeData V2, a WidowX arm.
    Bridge,
}

impl RobotPlatform {
    /// Number of actions that one pass of the model predicts.
    pub fn chunk(self) -> usize {
        match self {
            Self::Libero => 8,
            Self::Aloha => 25,
            Self::Bridge => 5,
        }
    }

    /// Dimensions of an action.
    pub fn action_dims(self) -> usize {
        match self {
            Self::Libero | Self::Bridge => 7,
            Self::Aloha => 14,
        }
    }

    /// Dimensions of the robot's state.
    pub fn proprio_dims(self) -> usize {
        match self {
            Self::Libero => 8,
            Self::Aloha => 14,
            Self::Bridge => 7,
        }
    }

    /// Images of an observation: the third-person image, then those of the wrists.
    pub fn images(self) -> usize {
        match self {
            Self::Libero => 2,
            Self::Aloha => 3,
            Self::Bridge => 1,
        }
    }

    /// The name, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Libero => "libero",
            Self::Aloha => "aloha",
            Self::Bridge => "bridge",
        }
    }

    /// The statistics by which actions and states are normalized.
    pub fn bounds(self) -> Bounds {
        match self {
            Self::Libero | Self::Bridge => Bounds::Quantiles,
            Self::Aloha => Bounds::MinMax,
        }
    }
}

impl std::fmt::Display for RobotPlatform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for RobotPlatform {
    type Err = VlaError;

    /// Parses `libero`, `aloha` or `bridge`, in any case.
    fn from_str(name: &str) -> Result<Self, VlaError> {
        match name.to_ascii_lowercase().as_str() {
            "libero" => Ok(Self::Libero),
            "aloha" => Ok(Self::Aloha),
            "bridge" => Ok(Self::Bridge),
            _ => Err(VlaError::Input {
                what: "robot platform",
                got: name.to_owned(),
                expected: "libero, aloha or bridge".to_owned(),
            }),
        }
    }
}
