//! The tokenizer of a checkpoint.

use super::{PromptStyle, prompt};
use crate::{Result, VlaError};
use std::path::Path;

/// The piece that stands for one space.
const SPACE: &str = "\u{2581}";

/// The token that begins a sequence.
const BOS: &str = "<s>";

/// The tokenizer of a checkpoint, read from its `tokenizer.json`.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    file: String,
    bos: u32,
    space: u32,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("file", &self.file)
            .field("bos", &self.bos)
            .field("space", &self.space)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Reads `tokenizer.json` of a checkpoint's folder.
    ///
    /// # Errors
    /// [`Io`](VlaError::Io) for a file that cannot be read, [`Tokenizer`](VlaError::Tokenizer) for
    /// one that is not a tokenizer or lacks the piece `▁` or the token `<s>`.
    pub fn load(folder: impl AsRef<Path>) -> Result<Self> {
        let file = folder.as_ref().join("tokenizer.json");
        let bytes = std::fs::read(&file).map_err(|source| VlaError::io(&file, source))?;
        Self::from_bytes(&file.display().to_string(), &bytes)
    }

    /// Parses the bytes of a `tokenizer.json`. `file` is its name for errors.
    ///
    /// # Errors
    /// [`Tokenizer`](VlaError::Tokenizer), as [`load`](Self::load).
    pub fn from_bytes(file: &str, bytes: &[u8]) -> Result<Self> {
        let error = |reason: String| VlaError::Tokenizer {
            file: file.to_owned(),
            reason,
        };
        let mut inner =
            tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| error(e.to_string()))?;
        // A prompt is neither cut nor padded: the model checks its length.
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|e| error(e.to_string()))?;
        let id = |piece: &str| {
            inner
                .token_to_id(piece)
                .ok_or_else(|| error(format!("no piece `{piece}`: expected a Llama tokenizer")))
        };
        Ok(Self {
            bos: id(BOS)?,
            space: id(SPACE)?,
            file: file.to_owned(),
            inner,
        })
    }

    /// The id of the token that begins a sequence.
    pub fn bos(&self) -> u32 {
        self.bos
    }

    /// The id of the piece `▁`, with which the ids of a prompt end.
    pub fn space(&self) -> u32 {
        self.space
    }

    /// Number of ids, including added tokens.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Returns the ids of a text, beginning with that of `<s>`.
    ///
    /// # Errors
    /// [`Tokenizer`](VlaError::Tokenizer) for a text that cannot be encoded.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        // The first id does not depend on the post-processor of the file.
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|e| VlaError::Tokenizer {
                file: self.file.clone(),
                reason: e.to_string(),
            })?;
        let mut ids = vec![self.bos];
        ids.extend(encoding.get_ids());
        Ok(ids)
    }

    /// Returns the ids of an instruction's prompt: those of [`encode`](Self::encode), with the id
    /// of `▁` appended unless it is the last one already.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_prompt(&self, instruction: &str, style: PromptStyle) -> Result<Vec<u32>> {
        let mut ids = self.encode(&prompt(instruction, style))?;
        self.append_space(&mut ids);
        Ok(ids)
    }

    /// Appends the id of `▁` unless it is the last one already.
    pub fn append_space(&self, ids: &mut Vec<u32>) {
        if ids.last() != Some(&self.space) {
            ids.push(self.space);
        }
    }
}
