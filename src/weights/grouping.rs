//! The segments of k that share a scale.

use crate::{Error, Result};

/// The segments of k that share a scale and a zero point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Grouping {
    /// Groups of 32 k.
    G32,
    /// Groups of 64 k.
    G64,
    /// Groups of 128 k.
    G128,
    /// One group: all of K. Activations are then quantized per token.
    PerChannel,
}

impl Grouping {
    /// All groupings.
    pub const ALL: [Grouping; 4] = [Self::G32, Self::G64, Self::G128, Self::PerChannel];

    /// Returns the number of k in a group, `None` if a group is all of K.
    pub const fn size(self) -> Option<usize> {
        match self {
            Self::G32 => Some(32),
            Self::G64 => Some(64),
            Self::G128 => Some(128),
            Self::PerChannel => None,
        }
    }

    /// Returns the number of groups of K. The last one may be short.
    pub const fn groups(self, k: usize) -> usize {
        match self.size() {
            Some(g) => k.div_ceil(g),
            None => 1,
        }
    }

    /// Returns the k of group `g`.
    pub fn range(self, g: usize, k: usize) -> std::ops::Range<usize> {
        match self.size() {
            Some(size) => g * size..((g + 1) * size).min(k),
            None => 0..k,
        }
    }
}

impl TryFrom<Option<usize>> for Grouping {
    type Error = Error;

    /// Converts a group size; `None` is one scale per channel.
    ///
    /// # Errors
    /// [`Error::Range`] for a size other than 32, 64 and 128.
    fn try_from(size: Option<usize>) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|g| g.size() == size)
            .ok_or_else(|| Error::Range {
                what: "group size",
                value: format!("{size:?}"),
                range: "32, 64, 128 or one group per channel",
            })
    }
}

impl std::str::FromStr for Grouping {
    type Err = Error;

    /// Parses the name that [`Display`](std::fmt::Display) writes.
    ///
    /// # Errors
    /// [`Error::Range`] for another text.
    fn from_str(text: &str) -> Result<Self> {
        let named = |grouping: &Grouping| grouping.to_string() == text;
        (Self::ALL.into_iter().find(named)).ok_or_else(|| Error::Range {
            what: "grouping",
            value: format!("`{text}`"),
            range: "g32, g64, g128, channel",
        })
    }
}

impl std::fmt::Display for Grouping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.size() {
            Some(size) => write!(f, "g{size}"),
            None => f.write_str("channel"),
        }
    }
}
