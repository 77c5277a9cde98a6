//! Why a backend is unavailable.

/// Why a backend, a device or a feature of one is unavailable. Each text says what to do about it.
///
/// It is the reason of [`Error::Unavailable`](crate::Error::Unavailable).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// This machine, or this build, does not support the instruction set.
    #[error("this machine or this build does not support the instruction set")]
    NoInstructionSet,

    /// No instruction set has the name.
    #[error("unknown instruction set: expected scalar, avx2, avx512vnni or avx512bf16")]
    UnknownInstructionSet,

    /// The program was built without a feature of this crate.
    #[error("built without the feature: build with `--features {feature}`")]
    NoFeature {
        /// The feature.
        feature: &'static str,
    },

    /// The backend has no kernels for the scheme of the weight.
    #[error("{backend} has no kernels for this scheme: expected a weight of the grouped scheme")]
    NoScheme {
        /// The backend.
        backend: &'static str,
    },

    /// The threads of a pool could not be started.
    #[error("could not start the threads: {reason}")]
    NoThreads {
        /// The error of the operating system.
        reason: String,
    },

    /// The crate was compiled without a CUDA toolkit.
    #[error("built without kernels: {reason}; then build again")]
    NotBuilt {
        /// What the build did not find, and where to get it.
        reason: &'static str,
    },

    /// The CUDA driver (libcuda) is not installed.
    #[error(
        "no CUDA driver (libcuda) on this machine: install NVIDIA's driver, or pass it into the container (`--gpus all`)"
    )]
    NoDriver,

    /// The CUDA driver shows no device.
    #[error("the CUDA driver shows no device: {}", match .visible {
        Some(list) => format!("CUDA_VISIBLE_DEVICES is set to `{list}`; unset it, or name a device in it"),
        None => "check with nvidia-smi that one exists and that this user may open it".to_owned(),
    })]
    NoDevice {
        /// The value of `CUDA_VISIBLE_DEVICES`.
        visible: Option<String>,
    },

    /// No device has the number.
    #[error("no CUDA device {ordinal}: this process sees {count}, numbered from 0")]
    NoSuchDevice {
        /// The requested number.
        ordinal: usize,
        /// The number of devices.
        count: usize,
    },

    /// The driver is older than the CUDA runtime that the kernels are linked with.
    #[error(
        "the driver supports CUDA {driver}, the kernels need CUDA {runtime}: update the driver, or build the kernels with \
         an older toolkit"
    )]
    DriverTooOld {
        /// The CUDA version that the driver supports.
        driver: CudaVersion,
        /// The CUDA version that the kernels are linked with.
        runtime: CudaVersion,
    },

    /// The device is older than Ampere.
    #[error(
        "{name} has compute capability {}.{}: the kernels need 8.0 (Ampere) or newer", .capability.0, .capability.1
    )]
    DeviceTooOld {
        /// The device's name.
        name: String,
        /// Its compute capability.
        capability: (i32, i32),
    },

    /// The kernels were not compiled for this architecture.
    #[error(
        "the kernels were built for `{built_for}`, which {name} (compute capability {}.{}) cannot run: add its \
         architecture to W4AX_CUDA_ARCHS and build again", .capability.0, .capability.1
    )]
    NoKernelImage {
        /// The device's name.
        name: String,
        /// Its compute capability.
        capability: (i32, i32),
        /// The architectures that the kernels were compiled for.
        built_for: &'static str,
    },

    /// CUDA graphs of this driver, or of this build, have no conditional nodes.
    #[error(
        "the driver, or the CUDA toolkit that the kernels were built with, is older than 12.4, which conditional nodes need"
    )]
    NoConditionalNodes,

    /// CUDA returned another error.
    #[error("CUDA failed: {reason}")]
    Failed {
        /// The text of the error.
        reason: String,
    },
}

impl Unavailable {
    /// The error of a request that this is the reason of.
    pub(crate) fn of(self, requested: impl Into<String>) -> crate::Error {
        crate::Error::Unavailable {
            requested: requested.into(),
            reason: self,
        }
    }
}

/// A version of CUDA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CudaVersion {
    /// The major version.
    pub major: u32,
    /// The minor version.
    pub minor: u32,
}

impl std::fmt::Display for CudaVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}
