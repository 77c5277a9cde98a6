//! The enums of the C ABI: each value, its number in the header, and its text.
//!
//! Every Rust enum that crosses the border takes its numbers here, from the declarations that
//! bindgen makes of the header.

use super::bindings as abi;
use crate::step::Outcome;
use crate::{Error, Grouping, Result, ScaleType, Scheme, Width};

macro_rules! coded_enum {
    (
        $(#[$meta:meta])*
        $name:ident, $what:literal {
            $($(#[$doc:meta])* $variant:ident = $code:ident, $text:literal;)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            /// All values.
            pub const ALL: [Self; [$($text),*].len()] = [$(Self::$variant),*];

            /// The number in the header of the kernels, which the public C ABI shares.
            #[doc(hidden)]
            pub const fn code(self) -> u32 {
                match self {
                    $(Self::$variant => abi::$code,)*
                }
            }

            /// The value of a number in the header of the kernels.
            ///
            /// # Errors
            /// [`Error::Cuda`] for a number that the header does not define.
            #[doc(hidden)]
            pub fn from_code(code: u32) -> Result<Self> {
                match code {
                    $(abi::$code => Ok(Self::$variant),)*
                    _ => Err(unknown($what, code)),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(match self {
                    $(Self::$variant => $text,)*
                })
            }
        }
    };
}

coded_enum! {
    /// A family of GEMM kernels.
    Family, "kernel family" {
        /// At most [`Family::DECODE_MAX_M`] tokens. The kernels are bound by the memory traffic of
        /// the weights.
        Decode = W4AXK_DECODE, "decode";
        /// Any number of tokens.
        Prefill = W4AXK_PREFILL, "prefill";
        /// Any number of tokens, one thread per output. Slow: the reference that the other families
        /// are tested with.
        Plain = W4AXK_PLAIN, "plain";
        /// Any number of tokens, on sm_90 with code for sm_90a
        /// ([`Gpu::has_family`](crate::cuda::Gpu::has_family)): TMA copies and warpgroup MMA.
        ///
        /// A launch before the GEMM quantizes the activations. BF16 activations need rows that are
        /// aligned to 16 bytes. The family has no routed kernel.
        Wgmma = W4AXK_WGMMA, "wgmma";
    }
}

impl Family {
    /// The largest number of tokens that the decode family supports.
    pub const DECODE_MAX_M: usize = abi::W4AXK_DECODE_MAX_M as usize;

    /// The layout of the quantized activations that the kernels of this family read; `None` if they
    /// read none.
    pub const fn activation_layout(self) -> Option<OperandLayout> {
        match self {
            Self::Decode | Self::Prefill => Some(OperandLayout::Fragments),
            Self::Wgmma => Some(OperandLayout::CoreMatrices),
            Self::Plain => None,
        }
    }

    /// The number of tile variants, which are counted from 1. 0 in a build without kernels.
    pub fn tiles(self) -> u32 {
        // SAFETY: a pure function of a number.
        unsafe { super::w4axk_tile_count(self.code()) }
    }
}

coded_enum! {
    /// Where a kernel gets quantized activations from.
    Mode, "mode" {
        /// The kernel reads BF16 activations and quantizes them itself, or leaves them at BF16.
        Fused = W4AXK_FUSED, "fused";
        /// The kernel reads [`QuantizedActivations`](crate::cuda::QuantizedActivations). Its text
        /// is the one in the names of the kernels.
        Quantized = W4AXK_PACKED, "packed";
    }
}

impl Mode {
    /// The number of the mode that a caller requests.
    pub(crate) const fn request(quantized: bool, fused: bool) -> u32 {
        match (quantized, fused) {
            (true, _) => Self::Quantized.code(),
            (false, true) => Self::Fused.code(),
            (false, false) => abi::W4AXK_MODE_AUTO,
        }
    }
}

coded_enum! {
    /// The matrix instruction of a kernel, read from the loaded machine code.
    Mma, "mma" {
        /// No matrix instruction: scalar code.
        None = W4AXK_MMA_NONE, "none";
        /// `mma` of s4 by u4 into s32: A4 and A2 on sm_80 to sm_89, but for two-level weights.
        S4 = W4AXK_MMA_S4, "s4";
        /// `mma` of s8 by u8 into s32, u8 by u8 for two-level weights.
        S8 = W4AXK_MMA_S8, "s8";
        /// `mma` of bf16 into f32.
        Bf16 = W4AXK_MMA_BF16, "bf16";
        /// A routed kernel: at each width, the instruction of the family's kernel of that width.
        Routed = W4AXK_MMA_ROUTED, "routed";
        /// `wgmma` of s8 by u8 into s32, u8 by u8 for two-level weights: A2, A4 and A8.
        WgmmaS8 = W4AXK_MMA_WGMMA_S8, "wgmma s8";
        /// `wgmma` of bf16 into f32.
        WgmmaBf16 = W4AXK_MMA_WGMMA_BF16, "wgmma bf16";
    }
}

coded_enum! {
    /// The layout of quantized activations: the order of the codes in which the MMA of a kernel
    /// reads them.
    ///
    /// The C ABI names a layout by a family that reads it.
    OperandLayout, "activation layout" {
        /// The B fragments of a warp, 2, 4 or 8 bits per code: [`Family::Decode`] and
        /// [`Family::Prefill`].
        Fragments = W4AXK_AUTO, "fragments (decode, prefill)";
        /// The core matrices of the B operand of a warpgroup, one byte per code: [`Family::Wgmma`].
        CoreMatrices = W4AXK_WGMMA, "core matrices (wgmma)";
    }
}

/// The number of a width, or of a width that a latch holds.
pub(crate) const fn width_code(width: Option<Width>) -> u32 {
    match width {
        Some(Width::A2) => abi::W4AXK_A2,
        Some(Width::A4) => abi::W4AXK_A4,
        Some(Width::A8) => abi::W4AXK_A8,
        Some(Width::Bf16) => abi::W4AXK_BF16,
        None => abi::W4AXK_LATCHED,
    }
}

/// The width of a number; `None` if a latch holds the width.
pub(crate) fn width_of(code: u32) -> Result<Option<Width>> {
    match code {
        abi::W4AXK_LATCHED => Ok(None),
        bits => bits.try_into().map(Some),
    }
}

pub(crate) const fn grouping_code(grouping: Grouping) -> u32 {
    match grouping {
        Grouping::G32 => abi::W4AXK_G32,
        Grouping::G64 => abi::W4AXK_G64,
        Grouping::G128 => abi::W4AXK_G128,
        Grouping::PerChannel => abi::W4AXK_PER_CHANNEL,
    }
}

pub(crate) const fn scale_code(scale_type: ScaleType) -> u32 {
    match scale_type {
        ScaleType::F32 => abi::W4AXK_SCALE_F32,
        ScaleType::F16 => abi::W4AXK_SCALE_F16,
        ScaleType::Bf16 => abi::W4AXK_SCALE_BF16,
    }
}

pub(crate) const fn scheme_code(scheme: Scheme) -> u32 {
    match scheme {
        Scheme::Grouped => abi::W4AXK_GROUPED,
        Scheme::TwoLevel => abi::W4AXK_TWO_LEVEL,
    }
}

/// The numbers of [`Outcome`], which also exists in a build without CUDA, are those of the header.
const _: () = {
    assert!(Outcome::OnTime as u32 == abi::W4AXK_ON_TIME);
    assert!(Outcome::Unwritten as u32 == abi::W4AXK_UNWRITTEN);
    assert!(Outcome::Invalid as u32 == abi::W4AXK_INVALID);
    assert!(Outcome::Stale as u32 == abi::W4AXK_STALE);
    assert!(Outcome::Future as u32 == abi::W4AXK_FUTURE);
    assert!(Outcome::ByHost as u32 == abi::W4AXK_BY_HOST);
};

/// The limits of the crate are those of the header.
const _: () = {
    assert!(abi::W4AXK_MAX_CHANNEL_K as usize == crate::weights::MAX_PER_CHANNEL_K);
    assert!(abi::W4AXK_A2 == Width::A2.bits() && abi::W4AXK_A4 == Width::A4.bits());
    assert!(abi::W4AXK_A8 == Width::A8.bits() && abi::W4AXK_BF16 == Width::Bf16.bits());
};

fn unknown(what: &'static str, code: u32) -> Error {
    Error::Cuda {
        call: "reading a value of the kernel library",
        reason: format!("unknown {what} {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_match_the_header() {
        assert_eq!(Family::DECODE_MAX_M, 16);
        assert_eq!(abi::W4AXK_MAX_EXTENT, 8_388_608);
        assert_eq!(abi::W4AXK_MAX_STRIDE, 536_870_912);
        assert_eq!(
            abi::W4AXK_MAX_CHANNEL_K as usize,
            crate::weights::MAX_PER_CHANNEL_K
        );
        for grouping in Grouping::ALL {
            assert_eq!(
                grouping_code(grouping) as usize,
                grouping.size().unwrap_or(0)
            );
        }
        for width in Width::ALL {
            assert_eq!(width_code(Some(width)), width.bits());
            assert_eq!(width_of(width.bits()).unwrap(), Some(width));
        }
        assert_eq!(width_of(width_code(None)).unwrap(), None);
    }

    #[test]
    fn numbers_convert_back() {
        for family in Family::ALL {
            assert_eq!(Family::from_code(family.code()).unwrap(), family);
        }
        for mma in Mma::ALL {
            assert_eq!(Mma::from_code(mma.code()).unwrap(), mma);
        }
        assert!(Family::from_code(abi::W4AXK_AUTO).is_err());
        assert!(Mode::from_code(abi::W4AXK_MODE_AUTO).is_err());
    }
}
