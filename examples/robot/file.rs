//! Writing a file whole or not at all.

use std::io::Write;
use std::path::Path;

use w4ax::{Error, Result};

/// Writes to a temporary name in the same folder, then renames: a killed run leaves no half file under `path`.
///
/// # Errors
/// [`Error::Io`] with the path.
pub fn write_whole(path: &Path, text: &str) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let write = || {
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|source| {
        // What is left of a failed write is in no one's way; the first error is the one that matters.
        let _ = std::fs::remove_file(&temporary);
        Error::Io {
            file: path.display().to_string(),
            source,
        }
    })
}
