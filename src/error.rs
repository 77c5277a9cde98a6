//! The errors of this crate.

use crate::{Shape, Unavailable};

/// The error of a call.
///
/// A call does what its documentation says or returns one of these; nothing is repaired silently.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A width other than 2, 4, 8 and 16.
    #[error("unsupported width {0}: expected 2, 4, 8 or 16")]
    UnsupportedWidth(u32),

    /// An operand whose shape does not fit the other operands, or is empty where it must not be.
    #[error("{what} has shape {got}: expected {expected}")]
    Shape {
        /// The operand.
        what: &'static str,
        /// The shape that fits.
        expected: Shape,
        /// The shape of the operand.
        got: Shape,
    },

    /// A matrix whose rows overlap.
    #[error("{what} has row stride {stride}: expected at least {cols}, its number of columns")]
    Stride {
        /// The matrix.
        what: &'static str,
        /// Its number of columns.
        cols: usize,
        /// Elements from the start of a row to the start of the next.
        stride: usize,
    },

    /// A matrix that does not fit the address space.
    #[error("{what} of shape {shape} with row stride {stride} does not fit the address space")]
    AddressSpace {
        /// The matrix.
        what: &'static str,
        /// Its shape.
        shape: Shape,
        /// Elements from the start of a row to the start of the next.
        stride: usize,
    },

    /// Operands that do not belong together: of different groupings, widths or layouts.
    #[error("mismatched {what}: {got}, expected {expected}")]
    Mismatch {
        /// The operand.
        what: &'static str,
        /// What fits the other operands.
        expected: String,
        /// What the operand has.
        got: String,
    },

    /// A buffer that is too short.
    #[error("buffer of {got} elements for {what}: expected at least {needed}")]
    Buffer {
        /// What the buffer is for.
        what: &'static str,
        /// Elements that the call needs.
        needed: usize,
        /// Elements of the buffer.
        got: usize,
    },

    /// Raw bytes that cannot be read as elements: misaligned, or not a whole number of elements.
    #[error(
        "{len} bytes for {what}: expected whole elements of {size} bytes at an address that is a multiple of {align}"
    )]
    Alignment {
        /// What the bytes are for.
        what: &'static str,
        /// The alignment of the element type in bytes.
        align: usize,
        /// The size of an element in bytes.
        size: usize,
        /// The number of bytes.
        len: usize,
    },

    /// A NaN or an infinity.
    #[error("element {index} of {what} is {value}: expected a finite number")]
    NotFinite {
        /// What contains it.
        what: &'static str,
        /// Its position in row-major order.
        index: usize,
        /// The value.
        value: f64,
    },

    /// A value out of range.
    #[error("{what} is {value}: expected {range}")]
    Range {
        /// What the value is.
        what: &'static str,
        /// The value.
        value: String,
        /// The values that are valid.
        range: &'static str,
    },

    /// An 8-bit value of a two-level weight ([`Scheme::TwoLevel`](crate::Scheme::TwoLevel)) out of
    /// range.
    #[error("8-bit weight of row {row}, k {k} is {value}: expected -127..=127")]
    Weight8 {
        /// The output channel.
        row: usize,
        /// The input, in the packed order.
        k: usize,
        /// The value.
        value: i32,
    },

    /// A file (or bytes in memory) that is truncated, foreign, newer or inconsistent.
    #[error("{file}: {reason}")]
    Format {
        /// The file, or a name for the bytes.
        file: String,
        /// What is wrong with it.
        reason: String,
    },

    /// JSON that cannot be read or written.
    #[error("{file}: {part}: {source}")]
    Json {
        /// The file, or a name for the bytes.
        file: String,
        /// The part of the file that is JSON.
        part: &'static str,
        /// The error of the JSON parser.
        source: serde_json::Error,
    },

    /// A tensor that is missing from a file.
    #[error("{file}: no tensor `{name}`")]
    MissingTensor {
        /// The file.
        file: String,
        /// The name of the tensor.
        name: String,
    },

    /// A tensor of a file with an invalid type, shape or value.
    #[error("{file}: tensor `{tensor}`: {reason}")]
    Tensor {
        /// The file.
        file: String,
        /// The name of the tensor.
        tensor: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A valid file in a format that this crate does not read.
    #[error("{file}: {what} is not supported: {reason}")]
    Unsupported {
        /// The file.
        file: String,
        /// What is unsupported, by its name in the file.
        what: String,
        /// Why.
        reason: String,
    },

    /// A file that could not be read or written.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// The error of the operating system.
        source: std::io::Error,
    },

    /// A backend, a device or a feature of one that is unavailable.
    #[error("{requested}: {reason}")]
    Unavailable {
        /// The request.
        requested: String,
        /// Why it cannot be met.
        #[source]
        reason: Unavailable,
    },

    /// Memory of another device, or ordered by another stream, than the call that it was given to.
    #[error("{what} is {got}: expected {expected}")]
    DeviceMismatch {
        /// The operand.
        what: &'static str,
        /// Where it must be.
        expected: String,
        /// Where it is.
        got: String,
    },

    /// A failed call of the CUDA driver.
    #[cfg(feature = "cuda")]
    #[error("{call}: {source}")]
    Driver {
        /// The call.
        call: &'static str,
        /// The error of the driver.
        source: cudarc::driver::DriverError,
    },

    /// A failed call of the CUDA runtime, or of the kernels.
    #[error("{call}: {reason}")]
    Cuda {
        /// The call.
        call: &'static str,
        /// The text of the error.
        reason: String,
    },

    /// A step that enqueues a node that conditional nodes of a CUDA graph do not support.
    #[error("{body} enqueues {node}: a conditional node of a CUDA graph does not support it")]
    GraphNode {
        /// The part of the step: the part at one width, or a layer.
        body: String,
        /// The node.
        node: &'static str,
    },

    /// A call in the wrong state, such as a step that is begun twice.
    #[error("{call}: {reason}")]
    InvalidState {
        /// The call.
        call: &'static str,
        /// What is wrong with the state.
        reason: String,
    },

    /// An allocation that failed, or whose size does not fit the address space.
    #[error("out of memory for {what}")]
    OutOfMemory {
        /// What was to be allocated, with its sizes.
        what: String,
    },

    /// An invalid configuration value.
    #[error("invalid configuration: {field} {reason}")]
    Config {
        /// The field.
        field: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
}

/// A result with this crate's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn shape(
        what: &'static str,
        expected: impl Into<Shape>,
        got: impl Into<Shape>,
    ) -> Self {
        Self::Shape {
            what,
            expected: expected.into(),
            got: got.into(),
        }
    }

    /// Converts the index of [`Error::NotFinite`] from that in row `row` to that in `[n, cols]`.
    pub(crate) fn in_row(self, row: usize, cols: usize) -> Self {
        match self {
            Self::NotFinite { what, index, value } => Self::NotFinite {
                what,
                index: row * cols + index,
                value,
            },
            other => other,
        }
    }

    pub(crate) fn format(file: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Format {
            file: file.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn json(
        file: impl Into<String>,
        part: &'static str,
        source: serde_json::Error,
    ) -> Self {
        Self::Json {
            file: file.into(),
            part,
            source,
        }
    }

    pub(crate) fn tensor(
        file: impl Into<String>,
        tensor: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self::Tensor {
            file: file.into(),
            tensor: tensor.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn unsupported(
        file: impl Into<String>,
        what: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self::Unsupported {
            file: file.into(),
            what: what.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn io(file: impl AsRef<std::path::Path>, source: std::io::Error) -> Self {
        Self::Io {
            file: file.as_ref().display().to_string(),
            source,
        }
    }
}
