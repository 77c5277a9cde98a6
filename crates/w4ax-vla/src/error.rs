//! The errors of this crate.

/// The error of a call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VlaError {
    /// An error of the kernels, the dispatcher or a file of packed weights.
    #[error(transparent)]
    W4ax(#[from] w4ax::Error),

    /// An error of a tensor operation.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),

    /// A file that could not be read or written.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// The error of the operating system.
        source: std::io::Error,
    },

    /// A JSON file that cannot be read.
    #[error("{file}: {source}")]
    Json {
        /// The file.
        file: String,
        /// The error of the JSON parser, with line and column.
        source: serde_json::Error,
    },

    /// A field of a configuration file with an invalid or unsupported value.
    #[error("{file}: `{field}` is {got}: expected {expected}")]
    Field {
        /// The file.
        file: String,
        /// The field, with the fields that contain it, separated by dots.
        field: String,
        /// The value.
        got: String,
        /// The values that are valid.
        expected: String,
    },

    /// A checkpoint without a file that it needs, or with several of them.
    #[error("{folder}: found {found} files of {what}: expected one")]
    Files {
        /// The folder of the checkpoint.
        folder: String,
        /// What the file holds, with the pattern of its name.
        what: String,
        /// Number of files that match.
        found: usize,
    },

    /// A checkpoint of a training run whose adapter was not merged into the base model.
    #[error(
        "{folder}: no model files, but lora_adapter: run OpenVLA-OFT's \
         vla-scripts/merge_lora_weights_and_save.py on this folder first"
    )]
    Unmerged {
        /// The folder of the checkpoint.
        folder: String,
    },

    /// A tensor that is missing from a checkpoint.
    #[error("{file}: no tensor `{name}`")]
    MissingTensor {
        /// The file, or the folder of the checkpoint.
        file: String,
        /// The name of the tensor.
        name: String,
    },

    /// A tensor of another shape than the model has.
    #[error("{file}: tensor `{name}` has shape {got:?}: expected {expected:?}")]
    TensorShape {
        /// The file, or the folder of the checkpoint.
        file: String,
        /// The name of the tensor.
        name: String,
        /// The shape that the model has.
        expected: Vec<usize>,
        /// The shape of the tensor.
        got: Vec<usize>,
    },

    /// A tensor of a type that cannot be read.
    #[error("{file}: tensor `{name}` has type {got}: expected {expected}")]
    TensorType {
        /// The file, or the folder of the checkpoint.
        file: String,
        /// The name of the tensor.
        name: String,
        /// The type of the tensor.
        got: String,
        /// The types that can be read.
        expected: &'static str,
    },

    /// Statistics of a data set that a checkpoint does not have, or a choice between several.
    #[error("{file}: {reason}: expected one of {}", available.join(", "))]
    NormStats {
        /// The file.
        file: String,
        /// What is wrong: the requested key, or that no key was given.
        reason: String,
        /// The keys of the file.
        available: Vec<String>,
    },

    /// An image that cannot be decoded.
    #[error("{file}: {source}")]
    Image {
        /// The file, or a name for the bytes.
        file: String,
        /// The error of the decoder.
        source: image::ImageError,
    },

    /// An input of another shape or size than the model takes.
    #[error("{what} is {got}: expected {expected}")]
    Input {
        /// The input.
        what: &'static str,
        /// What was given.
        got: String,
        /// What the model takes.
        expected: String,
    },

    /// A prompt that does not fit the context of the language model.
    #[error("sequence of {tokens} tokens: expected at most {max}, the context of the model")]
    Context {
        /// Tokens of the sequence, with patches and action tokens.
        tokens: usize,
        /// The context of the model.
        max: usize,
    },

    /// An error of the tokenizer.
    #[error("{file}: {reason}")]
    Tokenizer {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },

    /// A model that does not fit the memory of the machine. Nothing was loaded.
    #[error(
        "{what} needs {} MB of memory: expected at most {} MB, which are available",
        needed.div_ceil(1_000_000), available / 1_000_000
    )]
    Memory {
        /// What was to be loaded.
        what: String,
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that are available.
        available: u64,
    },

    /// A call in the wrong state.
    #[error("{call}: {reason}")]
    InvalidState {
        /// The call.
        call: &'static str,
        /// What is wrong with the state.
        reason: String,
    },
}

/// A result with this crate's [`VlaError`].
pub type Result<T, E = VlaError> = std::result::Result<T, E>;

impl VlaError {
    pub(crate) fn io(file: impl AsRef<std::path::Path>, source: std::io::Error) -> Self {
        Self::Io {
            file: file.as_ref().display().to_string(),
            source,
        }
    }
}
