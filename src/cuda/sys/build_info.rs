//! What the kernels in this build are.

use crate::Result;
use crate::cuda::sys;

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
///
/// # Errors
/// [`crate::Error::Unavailable`] in a build without kernels.
#[cfg(w4ax_kernels)]
pub fn build_info() -> Result<BuildInfo> {
    Ok(BuildInfo {
        archs: env!("W4AX_KERNEL_ARCHS"),
        nvcc: env!("W4AX_NVCC_VERSION"),
        cutlass: env!("W4AX_CUTLASS_VERSION"),
    })
}

/// What the kernels in this build were made with, or why there are none.
///
/// # Errors
/// [`crate::Error::Unavailable`] in a build without kernels.
#[cfg(not(w4ax_kernels))]
pub fn build_info() -> Result<BuildInfo> {
    Err(crate::Unavailable::NotBuilt {
        reason: sys::WHY_NOT_BUILT,
    }
    .into())
}

/// The names of all kernels in the library; none in a build without kernels.
pub fn kernel_names() -> Vec<&'static str> {
    // SAFETY: a constant of the library, and static texts.
    unsafe {
        (0..sys::w4axk_kernel_count())
            .map(|index| sys::text(sys::w4axk_kernel_name(index)))
            .collect()
    }
}
