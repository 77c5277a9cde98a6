//! Activation widths as options.

use clap::ValueEnum;
use w4ax::Width;

/// What decides the width of a step: the robot's motion, or the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WidthOption {
    Dynamic,
    A2,
    A4,
    A8,
    Bf16,
}

impl WidthOption {
    /// Returns the width, or `None` if the motion decides it.
    pub fn fixed(self) -> Option<Width> {
        match self {
            Self::Dynamic => None,
            Self::A2 => Some(Width::A2),
            Self::A4 => Some(Width::A4),
            Self::A8 => Some(Width::A8),
            Self::Bf16 => Some(Width::Bf16),
        }
    }
}
