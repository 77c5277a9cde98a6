//! The text around an instruction.

use std::path::Path;

/// The text around an instruction. It depends on the release of the model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum PromptStyle {
    /// OpenVLA and OpenVLA-OFT: `In: What action should the robot take to ..?`.
    #[default]
    OpenVla,
    /// The models of release 0.1: a conversation between a user and an assistant.
    V01,
}

impl PromptStyle {
    /// Returns the style of a checkpoint: [`V01`](Self::V01) if the name of its folder contains
    /// `v01`.
    pub fn of_folder(folder: impl AsRef<Path>) -> Self {
        let folder = folder.as_ref();
        // `.` and `..` have no name of their own.
        let absolute = folder.canonicalize();
        let name = folder
            .file_name()
            .or_else(|| absolute.as_ref().ok()?.file_name())
            .unwrap_or_default();
        if name.to_string_lossy().contains("v01") {
            Self::V01
        } else {
            Self::OpenVla
        }
    }
}

/// Returns the prompt of an instruction, which is set in lower case.
///
/// ```
/// use w4ax_vla::text::{PromptStyle, prompt};
///
/// let text = prompt("Lift the RED block", PromptStyle::OpenVla);
/// assert_eq!(
///     text,
///     "In: What action should the robot take to lift the red block?\nOut:"
/// );
/// ```
pub fn prompt(instruction: &str, style: PromptStyle) -> String {
    let instruction = instruction.to_lowercase();
    match style {
        PromptStyle::OpenVla => {
            format!("In: What action should the robot take to {instruction}?\nOut:")
        }
        PromptStyle::V01 => format!(
            "A chat between a curious user and an artificial intelligence assistant. The \
             assistant gives helpful, detailed, and polite answers to the user's questions. USER: \
             What action should the robot take to {instruction}? ASSISTANT:"
        ),
    }
}
