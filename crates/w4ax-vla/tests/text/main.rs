//! The prompt and its token ids.

mod own_tokenizer;
mod prompts;
mod released_tokenizer;

use std::path::PathBuf;

fn data() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}
