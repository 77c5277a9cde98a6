//! Writing a file whole or not at all.

use crate::{Error, Result};
use std::path::Path;

/// Writes to a temporary name in the same folder, then renames: a killed run leaves no half file under `path`.
///
/// # Errors
/// [`Error::Io`] with the path; nothing stays behind.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let no_name = || Error::io(path, std::io::ErrorKind::InvalidFilename.into());
    let mut name = path.file_name().ok_or_else(no_name)?.to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let write = || {
        use std::io::Write;
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|e| {
        // The temporary file is of no use to anybody; the error that matters is the first one.
        let _ = std::fs::remove_file(&temporary);
        Error::io(path, e)
    })
}
