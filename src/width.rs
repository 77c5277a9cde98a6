//! The four activation widths.

use crate::Error;

/// The width of the activations of a GEMM. Weights are INT4 at every width.
///
/// Ordered by width: `A2 < A4 < A8 < Bf16`.
///
/// ```
/// use w4ax::Width;
/// assert_eq!(Width::try_from(4)?, Width::A4);
/// let error = Width::try_from(3).unwrap_err();
/// assert_eq!(error.to_string(), "unsupported width 3: expected 2, 4, 8 or 16");
/// assert_eq!(Width::Bf16.bits(), 16);
/// # Ok::<(), w4ax::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Width {
    /// 2-bit activations. They are computed as 4-bit activations: the width saves bytes, not
    /// operations.
    A2 = 2,
    /// 4-bit activations.
    A4 = 4,
    /// 8-bit activations.
    A8 = 8,
    /// Unquantized BF16 activations (W4A16), the fail-safe width.
    Bf16 = 16,
}

impl Width {
    /// All widths, narrowest first.
    pub const ALL: [Width; 4] = [Self::A2, Self::A4, Self::A8, Self::Bf16];

    /// Returns the width in bits: 2, 4, 8 or 16.
    pub const fn bits(self) -> u32 {
        self as u32
    }

    /// Returns the largest quantized value, `2^bits - 1`, or `None` for BF16, which is not
    /// quantized.
    pub const fn qmax(self) -> Option<u8> {
        match self {
            Self::A2 => Some(3),
            Self::A4 => Some(15),
            Self::A8 => Some(255),
            Self::Bf16 => None,
        }
    }

    /// Returns the position in [`Width::ALL`].
    pub const fn index(self) -> usize {
        match self {
            Self::A2 => 0,
            Self::A4 => 1,
            Self::A8 => 2,
            Self::Bf16 => 3,
        }
    }
}

impl TryFrom<u32> for Width {
    type Error = Error;

    /// # Errors
    /// [`Error::UnsupportedWidth`] for a number other than 2, 4, 8 and 16.
    fn try_from(bits: u32) -> Result<Self, Error> {
        match bits {
            2 => Ok(Self::A2),
            4 => Ok(Self::A4),
            8 => Ok(Self::A8),
            16 => Ok(Self::Bf16),
            _ => Err(Error::UnsupportedWidth(bits)),
        }
    }
}

impl From<Width> for u32 {
    fn from(p: Width) -> u32 {
        p.bits()
    }
}

impl std::fmt::Display for Width {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::A2 => "a2",
            Self::A4 => "a4",
            Self::A8 => "a8",
            Self::Bf16 => "bf16",
        })
    }
}

impl std::str::FromStr for Width {
    type Err = Error;

    /// Parses the name that [`Display`](std::fmt::Display) writes.
    ///
    /// # Errors
    /// [`Error::Range`] for another text.
    fn from_str(text: &str) -> Result<Self, Error> {
        let named = |width: &Width| width.to_string() == text;
        (Self::ALL.into_iter().find(named)).ok_or_else(|| Error::Range {
            what: "activation width",
            value: format!("`{text}`"),
            range: "a2, a4, a8, bf16",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converts_only_supported_widths() {
        for bits in 0..=1000 {
            match Width::try_from(bits) {
                Ok(p) => assert_eq!(u32::from(p), bits),
                Err(e) => {
                    assert!(![2, 4, 8, 16].contains(&bits));
                    assert!(e.to_string().contains(&bits.to_string()));
                }
            }
        }
        assert_eq!(Width::ALL.map(Width::index), [0, 1, 2, 3]);
    }

    #[test]
    fn parses_displayed_names() {
        for width in Width::ALL {
            assert_eq!(width.to_string().parse::<Width>().unwrap(), width);
        }
        let error = "fp8".parse::<Width>().unwrap_err().to_string();
        assert!(error.contains("`fp8`") && error.contains("bf16"), "{error}");
    }
}
