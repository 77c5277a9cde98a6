//! Which instruction set runs.

use crate::{Result, Unavailable};

/// An instruction set that the CPU backend has paths for. All give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Plain Rust, any architecture.
    Scalar,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 (F, BW, VL) and VNNI.
    Avx512Vnni,
    /// The same with AVX512-BF16, which multiplies unquantized activations.
    Avx512Bf16,
}

impl Isa {
    /// All, slowest first.
    pub const ALL: [Isa; 4] = [Self::Scalar, Self::Avx2, Self::Avx512Vnni, Self::Avx512Bf16];

    /// Its name in `W4AX_CPU`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512Vnni => "avx512vnni",
            Self::Avx512Bf16 => "avx512bf16",
        }
    }

    /// The most tokens of a strip: as many accumulators as there are registers for.
    pub(super) const fn strip(self) -> usize {
        match self {
            Self::Scalar => 4,
            Self::Avx2 => 6,
            Self::Avx512Vnni | Self::Avx512Bf16 => 12,
        }
    }

    /// The most quantized tokens that weights stream past; with more, panels are faster (measured on Zen 4).
    pub(super) const fn stream_tokens(self) -> usize {
        match self {
            Self::Scalar => 2,
            Self::Avx2 => 3,
            Self::Avx512Vnni | Self::Avx512Bf16 => 4,
        }
    }

    /// Whether this machine (and this build) has it.
    pub fn is_available(self) -> bool {
        #[cfg(all(target_arch = "x86_64", not(w4ax_portable)))]
        match self {
            Self::Scalar => true,
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            Self::Avx512Vnni => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            Self::Avx512Bf16 => {
                Self::Avx512Vnni.is_available()
                    && is_x86_feature_detected!("avx512bf16")
                    && super::arch::x86_64::avx512::multiplies_pairs_in_order()
            }
        }
        #[cfg(not(all(target_arch = "x86_64", not(w4ax_portable))))]
        matches!(self, Self::Scalar)
    }

    /// The fastest available one.
    pub fn best() -> Self {
        let available = |isa: &Isa| isa.is_available();
        Self::ALL
            .into_iter()
            .rfind(available)
            .unwrap_or(Self::Scalar)
    }

    pub(super) fn check(self) -> Result<()> {
        if self.is_available() {
            return Ok(());
        }
        Err(Unavailable::NoInstructionSet.of(requested(self.name())))
    }

    /// What `W4AX_CPU` names, the best if it is not set or empty.
    pub(super) fn from_env() -> Result<Self> {
        match std::env::var_os("W4AX_CPU") {
            Some(name) if !name.is_empty() => Self::named(&name.to_string_lossy()),
            _ => Ok(Self::best()),
        }
    }

    /// The instruction set of that name.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable) if no instruction set has the name or this machine does not
    /// support it.
    pub fn named(name: &str) -> Result<Self> {
        let isa = Self::ALL
            .into_iter()
            .find(|isa| isa.name() == name)
            .ok_or_else(|| Unavailable::UnknownInstructionSet.of(requested(name)))?;
        isa.check().map(|()| isa)
    }
}

/// The name of a request, for errors.
fn requested(name: &str) -> String {
    format!("CPU instruction set `{name}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_or_refused() {
        for isa in Isa::ALL {
            assert_eq!(Isa::named(isa.name()).is_ok(), isa.is_available());
        }
        assert!(Isa::Scalar.is_available());
        let error = Isa::named("neon").unwrap_err().to_string();
        assert!(error.contains("neon") && error.contains("avx512vnni"));
    }
}
