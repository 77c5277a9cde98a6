//! The microkernels of x86-64.

pub(in crate::cpu) mod avx2;
pub(in crate::cpu) mod avx512;
