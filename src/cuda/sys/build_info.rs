//! What the kernels of this build were compiled with.

use super::stubs;
use crate::Result;
#[cfg(not(w4ax_kernels))]
use crate::Unavailable;

/// The tools and the targets of the kernels in this build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BuildInfo {
    /// The targets, such as `80;90a;90-ptx`: machine code by architecture, and PTX that the driver
    /// compiles for newer devices.
    pub archs: &'static str,
    /// The version of nvcc.
    pub nvcc: &'static str,
    /// The version of CUTLASS.
    pub cutlass: &'static str,
    /// Whether the kernels run on the software device: emulated on the CPU, for tests only.
    pub emulated: bool,
}

/// Returns what the kernels of this build were compiled with.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) in a build without kernels, with the reason.
#[cfg(w4ax_kernels)]
pub fn build_info() -> Result<BuildInfo> {
    Ok(BuildInfo {
        archs: env!("W4AX_KERNEL_ARCHS"),
        nvcc: env!("W4AX_NVCC_VERSION"),
        cutlass: env!("W4AX_CUTLASS_VERSION"),
        emulated: cfg!(w4ax_software_device),
    })
}

/// Returns what the kernels of this build were compiled with.
///
/// # Errors
/// [`Error::Unavailable`](crate::Error::Unavailable) in a build without kernels, with the reason.
#[cfg(not(w4ax_kernels))]
pub fn build_info() -> Result<BuildInfo> {
    Err(Unavailable::NotBuilt {
        reason: stubs::WHY_NOT_BUILT,
    }
    .into())
}

/// Returns the names of all kernels; none in a build without kernels.
pub fn kernel_names() -> Vec<&'static str> {
    // SAFETY: the library returns a constant and static texts.
    unsafe {
        (0..stubs::w4axk_kernel_count())
            .map(|index| stubs::text(stubs::w4axk_kernel_name(index)))
            .collect()
    }
}
