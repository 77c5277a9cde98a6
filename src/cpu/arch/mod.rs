//! The microkernels, by instruction set.

pub(super) mod scalar;
#[cfg(all(target_arch = "x86_64", not(w4ax_portable)))]
pub(super) mod x86_64;
