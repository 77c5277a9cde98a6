//! The arithmetic of a weight: what its groups hold beside the INT4 values.

use crate::{Error, Grouping, Result, Unavailable};

/// The arithmetic of a weight ([`crate::numerics`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// `w = (qw - zw) * sw`, with a floating-point scale `sw` for each channel and group. The
    /// result accumulates in f32 over the groups.
    Grouped,
    /// `w = w8 * sw` with the 8-bit integer `w8 = (qw - zg) * sg`: an integer step `sg` for each
    /// channel and group, and one floating-point scale `sw` for each channel. The result of
    /// quantized activations accumulates in integers over all of K.
    TwoLevel,
}

impl Scheme {
    /// All schemes.
    pub const ALL: [Scheme; 2] = [Self::Grouped, Self::TwoLevel];

    /// The largest group step `sg` of [`Scheme::TwoLevel`].
    pub const MAX_STEP: u8 = 16;

    /// The largest magnitude of `w8` of [`Scheme::TwoLevel`].
    pub const MAX_W8: i32 = 127;

    /// Returns the grouping by which quantized activations share a grid, for a weight of this
    /// scheme and `grouping`: one grid per token if the weight is two-level.
    pub fn activation_grouping(self, grouping: Grouping) -> Grouping {
        match self {
            Self::Grouped => grouping,
            Self::TwoLevel => Grouping::PerChannel,
        }
    }

    /// Checks that a backend that supports only [`Scheme::Grouped`] supports the weight.
    ///
    /// # Errors
    /// [`Error::Unavailable`] for [`Scheme::TwoLevel`].
    pub fn check_grouped(self, backend: &'static str) -> Result<()> {
        match self {
            Self::Grouped => Ok(()),
            Self::TwoLevel => Err(Unavailable::NoScheme { backend }.of("two-level scheme")),
        }
    }
}

impl std::str::FromStr for Scheme {
    type Err = Error;

    /// Parses the name that [`Display`](std::fmt::Display) writes.
    ///
    /// # Errors
    /// [`Error::Range`] for another text.
    fn from_str(text: &str) -> Result<Self> {
        let named = |scheme: &Scheme| scheme.to_string() == text;
        (Self::ALL.into_iter().find(named)).ok_or_else(|| Error::Range {
            what: "scheme",
            value: format!("`{text}`"),
            range: "grouped, two-level",
        })
    }
}

impl std::fmt::Display for Scheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Grouped => "grouped",
            Self::TwoLevel => "two-level",
        })
    }
}
