//! The errors of this crate.

use std::path::PathBuf;

/// A `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why machine code could not be read or a time could not be predicted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The disassemblers are not installed.
    #[error(
        "missing tools: expected cuobjdump and nvdisasm in third_party/sass/bin or in PATH \
         (`third_party/fetch sass`)"
    )]
    MissingTools,
    /// A tool could not be started.
    #[error("{} could not be started", tool.display())]
    Start {
        /// Path of the tool.
        tool: PathBuf,
        /// Why it could not be started.
        source: std::io::Error,
    },
    /// `cuobjdump` failed.
    #[error("cuobjdump {option} {}: {output}", library.display())]
    Cuobjdump {
        /// The option it was called with.
        option: &'static str,
        /// The library it was called on.
        library: PathBuf,
        /// What it wrote to stderr.
        output: String,
    },
    /// The output of `cuobjdump` does not have the expected form.
    #[error("unexpected line of cuobjdump: `{line}`: expected a number after {field}:")]
    Listing {
        /// The field without a number.
        field: &'static str,
        /// The line that was read.
        line: String,
    },
    /// The build of w4ax has no kernels.
    #[error("this build has no kernels: run third_party/fetch, or set NVCC and W4AX_CUTLASS_DIR")]
    NoKernels,
    /// The library has no such kernel.
    #[error("no machine code of {symbol} for {arch} (names are demangled by c++filt)")]
    NoSuchKernel {
        /// Part of the demangled name.
        symbol: String,
        /// The architecture, such as `sm_80`.
        arch: String,
    },
    /// A GEMM kernel has no loop with matrix multiplications.
    #[error("{arch} {name}: no loop has a matrix multiplication")]
    NoMainLoop {
        /// The architecture, such as `sm_80`.
        arch: String,
        /// The demangled name.
        name: String,
    },
    /// The model has no description of a tile.
    #[error("unknown tile {tile} of family {family}")]
    UnknownTile {
        /// Name of the family.
        family: String,
        /// Number of the tile.
        tile: u32,
    },
    /// The main loop of a kernel multiplies more or less often than its tile implies.
    #[error(
        "{kernel}: {found} multiplications in an iteration of the main loop: expected {expected}"
    )]
    TileMismatch {
        /// Name of the kernel.
        kernel: String,
        /// Multiplications in the machine code.
        found: f64,
        /// Multiplications by the tile.
        expected: usize,
    },
    /// Nothing in the build runs on an architecture, or the model has no limits of it.
    #[error("unsupported architecture {0}: no kernels of its generation, or no known limits")]
    UnsupportedArch(String),
    /// A block needs more than a multiprocessor has.
    #[error("{kernel} does not fit on {device}")]
    DoesNotFit {
        /// Name of the kernel.
        kernel: String,
        /// Name of the device.
        device: String,
    },
    /// No kernel supports a call.
    #[error("no kernel supports the call: {0}")]
    NoCandidate(String),
    /// A call is invalid.
    #[error(transparent)]
    W4ax(#[from] w4ax::Error),
    /// A table could not be read or written.
    #[cfg(feature = "cuda")]
    #[error("{}: {source}", path.display())]
    Table {
        /// Path of the table.
        path: PathBuf,
        /// Why it could not be written.
        source: csv::Error,
    },
}
