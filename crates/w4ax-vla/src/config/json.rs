//! Reading JSON files of a checkpoint.

use crate::{Result, VlaError};
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::path::Path;

/// Reads and parses a JSON file.
pub(super) fn read<T: DeserializeOwned>(file: &Path) -> Result<T> {
    let text = std::fs::read_to_string(file).map_err(|source| VlaError::io(file, source))?;
    parse(&file.display().to_string(), &text)
}

/// Parses the text of a JSON file. `file` is its name for errors.
pub(super) fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|source| VlaError::Json {
        file: file.to_owned(),
        source,
    })
}

/// The checks of one file's fields.
pub(super) struct Fields<'a> {
    pub(super) file: &'a str,
}

impl Fields<'_> {
    /// Returns the error of a field.
    pub(super) fn error(&self, field: &str, got: impl Display, expected: &str) -> VlaError {
        VlaError::Field {
            file: self.file.to_owned(),
            field: field.to_owned(),
            got: got.to_string(),
            expected: expected.to_owned(),
        }
    }

    /// Returns the error of a field unless `valid`.
    pub(super) fn check(
        &self,
        valid: bool,
        field: &str,
        got: impl Display,
        expected: &str,
    ) -> Result<()> {
        if valid {
            Ok(())
        } else {
            Err(self.error(field, got, expected))
        }
    }
}
