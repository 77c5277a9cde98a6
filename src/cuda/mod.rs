//! The CUDA kernels: what was built, and their private ABI.

use crate::Result;

// bindgen's layout, so that the test that makes it anew can compare texts.
#[allow(dead_code, missing_docs, non_camel_case_types, clippy::all, clippy::undocumented_unsafe_blocks)]
#[rustfmt::skip]
mod bindings;

/// What the kernels in this build were made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildInfo {
    /// What there is code for, such as `80;90a;90-ptx`: machine code by architecture, and PTX that newer chips compile.
    pub archs: &'static str,
    /// The version of nvcc.
    pub nvcc: &'static str,
    /// The version of CUTLASS.
    pub cutlass: &'static str,
}

/// What the kernels in this build were made with, or why there are none.
#[cfg(w4ax_kernels)]
pub fn build_info() -> Result<BuildInfo> {
    Ok(BuildInfo {
        archs: env!("W4AX_KERNEL_ARCHS"),
        nvcc: env!("W4AX_NVCC_VERSION"),
        cutlass: env!("W4AX_CUTLASS_VERSION"),
    })
}

/// What the kernels in this build were made with, or why there are none.
#[cfg(not(w4ax_kernels))]
pub fn build_info() -> Result<BuildInfo> {
    Err(crate::Error::Backend {
        asked: "cuda".into(),
        reason: concat!("this build holds no kernels: ", env!("W4AX_NO_KERNELS")).into(),
    })
}
