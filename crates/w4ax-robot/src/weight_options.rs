//! How weights are quantized, on a command line.

use clap::ValueEnum;
use w4ax::{Clipping, Grouping, Quantize, Scheme};

/// Group size: weights along k that share a scale or a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// 32
    #[value(name = "32")]
    G32,
    /// 64
    #[value(name = "64")]
    G64,
    /// 128
    #[value(name = "128")]
    G128,
    /// All of K
    Channel,
}

impl From<Group> for Grouping {
    fn from(group: Group) -> Self {
        match group {
            Group::G32 => Self::G32,
            Group::G64 => Self::G64,
            Group::G128 => Self::G128,
            Group::Channel => Self::PerChannel,
        }
    }
}

/// The arithmetic of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemeOption {
    /// A floating-point scale per group
    Grouped,
    /// An integer step per group and a floating-point scale per channel: groups of 32, 64 or 128
    TwoLevel,
}

impl From<SchemeOption> for Scheme {
    fn from(scheme: SchemeOption) -> Self {
        match scheme {
            SchemeOption::Grouped => Self::Grouped,
            SchemeOption::TwoLevel => Self::TwoLevel,
        }
    }
}

/// The choice of scales and steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClippingOption {
    /// The extremes of a group are covered
    Absmax,
    /// The least squared error
    Search,
}

impl From<ClippingOption> for Clipping {
    fn from(clipping: ClippingOption) -> Self {
        match clipping {
            ClippingOption::Absmax => Self::AbsMax,
            ClippingOption::Search => Self::SquaredError,
        }
    }
}

/// The quantization of a policy's weights, symmetric with BF16 scales.
#[derive(clap::Args, Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightOptions {
    /// Arithmetic of the policy's weights. Networks that skip layers stay grouped
    #[arg(long, value_enum, default_value_t = SchemeOption::Grouped)]
    pub scheme: SchemeOption,
    /// Group size of the policy's weights
    #[arg(long, value_enum, default_value_t = Group::G64)]
    pub group: Group,
    /// Choice of the scales and steps of the policy's weights [default: absmax for grouped, search
    /// for two-level]
    #[arg(long, value_enum)]
    pub clipping: Option<ClippingOption>,
}

impl Default for WeightOptions {
    fn default() -> Self {
        Self {
            scheme: SchemeOption::Grouped,
            group: Group::G64,
            clipping: None,
        }
    }
}

impl WeightOptions {
    /// Returns the quantization.
    pub fn quantize(&self) -> Quantize {
        let clipping = match (self.clipping, self.scheme) {
            (Some(clipping), _) => clipping,
            (None, SchemeOption::Grouped) => ClippingOption::Absmax,
            (None, SchemeOption::TwoLevel) => ClippingOption::Search,
        };
        Quantize::new(self.group.into())
            .with_scheme(self.scheme.into())
            .with_clipping(clipping.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::QUANTIZE;

    #[test]
    fn default_is_that_of_the_policies() {
        assert_eq!(WeightOptions::default().quantize(), QUANTIZE);
        let two_level = WeightOptions {
            scheme: SchemeOption::TwoLevel,
            ..WeightOptions::default()
        };
        let expected = QUANTIZE
            .with_scheme(Scheme::TwoLevel)
            .with_clipping(Clipping::SquaredError);
        assert_eq!(two_level.quantize(), expected);
        let absmax = WeightOptions {
            clipping: Some(ClippingOption::Absmax),
            group: Group::G128,
            ..two_level
        };
        let expected = Quantize::new(Grouping::G128).with_scheme(Scheme::TwoLevel);
        assert_eq!(absmax.quantize(), expected);
    }
}
