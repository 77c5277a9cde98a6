//! Every way a call can fail, with the thing that is wrong named.

/// What a call of this crate answers when it cannot do what was asked.
///
/// Nothing is repaired silently: a call either does what it says or gives one of these.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A width other than 2, 4, 8 and 16.
    #[error("{0} is no activation width: the widths are 2, 4, 8 and 16 bits")]
    UnsupportedWidth(u32),

    /// Two shapes that must agree do not, or a shape is not possible.
    #[error("{what}: expected {expected}, got {got}")]
    Shape {
        /// What has the wrong shape.
        what: &'static str,
        /// The shape that it must have.
        expected: String,
        /// The shape that it has.
        got: String,
    },

    /// A buffer is too short for the shape and stride that it was given with.
    #[error("{what}: {needed} elements are needed, the buffer holds {got}")]
    Buffer {
        /// Which buffer.
        what: &'static str,
        /// Elements that the shape needs.
        needed: usize,
        /// Elements that there are.
        got: usize,
    },

    /// Raw bytes that cannot be read as elements: misaligned, or no whole number of them.
    #[error(
        "{what}: {len} bytes are needed as elements of {size} bytes at an address that is a multiple of {align}"
    )]
    Alignment {
        /// Which buffer.
        what: &'static str,
        /// The alignment that the element type needs.
        align: usize,
        /// Bytes of one element.
        size: usize,
        /// Bytes that were given.
        len: usize,
    },

    /// A number that must be finite is not.
    #[error("{what}: element {index} is {value}, it must be finite")]
    NotFinite {
        /// What holds it.
        what: &'static str,
        /// Where, in row-major order.
        index: usize,
        /// The value.
        value: f64,
    },

    /// A value outside its range.
    #[error("{what}: {value} is outside {range}")]
    Range {
        /// What the value is.
        what: &'static str,
        /// The value.
        value: String,
        /// The range that it must lie in.
        range: &'static str,
    },

    /// A file (or bytes in memory) that is not what it must be: truncated, foreign, newer, inconsistent.
    #[error("{file}: {reason}")]
    Format {
        /// The file, or what the bytes stand for.
        file: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A tensor that is not in the file.
    #[error("{file}: there is no tensor `{name}`")]
    MissingTensor {
        /// The file.
        file: String,
        /// The tensor that was asked for.
        name: String,
    },

    /// A tensor of a file that is not what it must be: its type, its shape, or what it holds.
    #[error("{file}: tensor `{tensor}`: {reason}")]
    Tensor {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A file that is sound as far as can be told, in a format that this crate does not read.
    #[error("{file}: {what} is not supported: {reason}")]
    Unsupported {
        /// The file that says so.
        file: String,
        /// What cannot be read, by its name in that file.
        what: String,
        /// Why.
        reason: String,
    },

    /// Reading or writing failed.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// What the operating system said.
        source: std::io::Error,
    },

    /// A backend that was asked for by name and is not there.
    #[error("{asked}: {reason}")]
    Backend {
        /// What was asked for.
        asked: String,
        /// Why it cannot be had.
        reason: String,
    },

    /// Something on another device, or ordered by another stream, than the call that it was given to.
    #[error("{what}: expected {expected}, got {got}")]
    DeviceMismatch {
        /// What is in the wrong place.
        what: &'static str,
        /// Where it must be.
        expected: String,
        /// Where it is.
        got: String,
    },

    /// A call of CUDA failed.
    #[error("{call}: {reason}")]
    Cuda {
        /// Which call.
        call: &'static str,
        /// What CUDA said.
        reason: String,
    },

    /// A step that enqueues what a conditional node of a CUDA graph cannot run.
    #[error("{body} enqueues {node}, which a conditional node of a CUDA graph cannot run")]
    GraphNode {
        /// Which part of the step: that at one width, or a layer.
        body: String,
        /// What it enqueues.
        node: &'static str,
    },

    /// A call that does not come where it belongs: a step that is begun twice, say.
    #[error("{call}: {reason}")]
    InvalidState {
        /// Which call.
        call: &'static str,
        /// What stands in its way.
        reason: String,
    },

    /// There is not the memory, or a size does not fit the address space.
    #[error("no memory for {what}")]
    OutOfMemory {
        /// What was to be allocated, with its sizes.
        what: String,
    },

    /// A configuration value that makes no sense.
    #[error("configuration: {field} {reason}")]
    Config {
        /// The field.
        field: &'static str,
        /// Why it is refused.
        reason: String,
    },
}

/// A result with this crate's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn format(file: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Format {
            file: file.into(),
            reason: reason.into(),
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
