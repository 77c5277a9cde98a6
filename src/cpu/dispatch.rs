//! The instruction sets, and the dispatch of a task to one of them.

use super::arch;
use super::microkernel::{Arch, Task};
use crate::{Result, Unavailable};

/// An instruction set of the CPU backend. All instruction sets compute the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Plain Rust, on any architecture.
    Scalar,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 (F, BW, VL) and VNNI.
    Avx512Vnni,
    /// AVX512-VNNI with AVX512-BF16, which multiplies unquantized activations.
    Avx512Bf16,
}

impl Isa {
    /// All instruction sets, slowest first.
    pub const ALL: [Isa; 4] = [Self::Scalar, Self::Avx2, Self::Avx512Vnni, Self::Avx512Bf16];

    /// Returns the name, as in `W4AX_CPU`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512Vnni => "avx512vnni",
            Self::Avx512Bf16 => "avx512bf16",
        }
    }

    /// MR: the most tokens of a micro-panel. Their accumulators fit the registers.
    pub(super) const fn mr(self) -> usize {
        match self {
            Self::Scalar => 4,
            Self::Avx2 => 6,
            Self::Avx512Vnni | Self::Avx512Bf16 => 12,
        }
    }

    /// The largest [`Isa::max_gemv_tokens`].
    pub(super) const MAX_GEMV_TOKENS: usize = 4;

    /// The most quantized tokens for which the GEMV path is faster than panels (measured on Zen 4).
    pub(super) const fn max_gemv_tokens(self) -> usize {
        match self {
            Self::Scalar => 2,
            Self::Avx2 => 3,
            Self::Avx512Vnni | Self::Avx512Bf16 => Self::MAX_GEMV_TOKENS,
        }
    }

    /// Returns whether this machine and this build support the instruction set.
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
                    && arch::x86_64::avx512::multiplies_pairs_in_order()
            }
        }
        #[cfg(not(all(target_arch = "x86_64", not(w4ax_portable))))]
        matches!(self, Self::Scalar)
    }

    /// Returns the fastest available instruction set.
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

    /// The instruction set that `W4AX_CPU` names, or the best one if the variable is unset or
    /// empty.
    pub(super) fn from_env() -> Result<Self> {
        match std::env::var_os("W4AX_CPU") {
            Some(name) if !name.is_empty() => Self::named(&name.to_string_lossy()),
            _ => Ok(Self::best()),
        }
    }

    /// Returns the instruction set of that name.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable) if no instruction set has the name or this
    /// machine does not support it.
    pub fn named(name: &str) -> Result<Self> {
        let isa = Self::ALL
            .into_iter()
            .find(|isa| isa.name() == name)
            .ok_or_else(|| Unavailable::UnknownInstructionSet.of(requested(name)))?;
        isa.check().map(|()| isa)
    }
}

/// The text of a request, for errors.
fn requested(name: &str) -> String {
    format!("CPU instruction set `{name}`")
}

/// Runs a task with the instruction set of a `Cpu`.
pub(super) fn enter<T: Task>(isa: Isa, task: T) -> T::Output {
    // SAFETY: a `Cpu` holds an instruction set only after `Isa::is_available` has returned true for
    // it.
    unsafe {
        match isa {
            Isa::Scalar => arch::scalar::Scalar::enter(task),
            #[cfg(all(target_arch = "x86_64", not(w4ax_portable)))]
            Isa::Avx2 => arch::x86_64::avx2::Avx2::enter(task),
            #[cfg(all(target_arch = "x86_64", not(w4ax_portable)))]
            Isa::Avx512Vnni => arch::x86_64::avx512::Avx512Vnni::enter(task),
            #[cfg(all(target_arch = "x86_64", not(w4ax_portable)))]
            Isa::Avx512Bf16 => arch::x86_64::avx512::Avx512Bf16::enter(task),
            #[cfg(not(all(target_arch = "x86_64", not(w4ax_portable))))]
            _ => unreachable!("only the scalar instruction set is available here"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_or_rejects_names() {
        for isa in Isa::ALL {
            assert_eq!(Isa::named(isa.name()).is_ok(), isa.is_available());
        }
        assert!(Isa::Scalar.is_available());
        let error = Isa::named("neon").unwrap_err().to_string();
        assert!(error.contains("neon") && error.contains("avx512vnni"));
    }
}
