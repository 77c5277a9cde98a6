//! The prompt and its token ids.
//!
//! The tokenizer is Llama-2's: byte-pair encoding with byte fallback over the whole text, without
//! a split into words. Two properties of the training data are kept:
//!
//! - The instruction is in lower case and otherwise unchanged.
//! - The ids end with the piece `▁` (29871 in Llama-2's vocabulary). It is appended unless the
//!   text ends with it already.
//!
//! Callers that have token ids pass them to the model directly; a tokenizer is then not needed.

mod prompt;
mod tokenizer;

pub use prompt::{PromptStyle, prompt};
pub use tokenizer::Tokenizer;
