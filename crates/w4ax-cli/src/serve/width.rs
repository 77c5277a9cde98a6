//! The widths of a served step.

use clap::ValueEnum;
use w4ax::Width;

/// What decides the width of a step, or a fixed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ServedWidth {
    /// Decided by the robot's motion
    Dynamic,
    /// INT4 weights, 2-bit activations (W4A2)
    A2,
    /// INT4 weights, 4-bit activations (W4A4)
    A4,
    /// INT4 weights, 8-bit activations (W4A8)
    A8,
    /// INT4 weights, BF16 activations (W4A16)
    Bf16,
    /// The unquantized policy: BF16 weights and activations
    Plain,
}

/// The policy of a step and the width of its activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepPolicy {
    /// The quantized policy.
    Quantized(Width),
    /// The unquantized policy.
    Plain,
}

impl ServedWidth {
    /// Returns the names of all widths.
    pub fn names() -> Vec<String> {
        Self::value_variants()
            .iter()
            .map(|width| width.name())
            .collect()
    }

    /// Returns the name.
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.expect("no width is hidden").get_name().to_owned()
    }

    /// Parses a name in a request.
    ///
    /// # Errors
    /// A message with the known names, for another name.
    pub fn parse(name: &str) -> Result<Self, String> {
        Self::from_str(name, false).map_err(|_| {
            let names = Self::names().join(", ");
            format!("`width` is `{name}`: expected one of {names}")
        })
    }

    /// Returns the policy and the width of a step. `active` is the width that the motion decides.
    pub fn policy(self, active: Width) -> StepPolicy {
        StepPolicy::Quantized(match self {
            Self::Dynamic => active,
            Self::A2 => Width::A2,
            Self::A4 => Width::A4,
            Self::A8 => Width::A8,
            Self::Bf16 => Width::Bf16,
            Self::Plain => return StepPolicy::Plain,
        })
    }
}
