//! Atomic writing of files.

use crate::{Error, Result};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes a file under a temporary name in the same folder, then renames it to `path`.
///
/// A process that is killed while it writes leaves no partial file under `path`.
///
/// # Errors
/// [`Error::Io`] if the file cannot be written, or if `path` exists and is not a regular file. The
/// temporary file is removed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = temporary(path)?;
    let write = || {
        use std::io::Write;
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        name(&temporary, path)
    };
    write().map_err(|e| {
        // Best effort: the first error is the one to report.
        let _ = std::fs::remove_file(&temporary);
        Error::io(path, e)
    })
}

/// A name next to `path` that no other writer of this or another process uses.
///
/// Rejects a `path` that exists and is not a regular file before anything is written: the rename
/// would fail for a folder and would replace a device.
pub(crate) fn temporary(path: &Path) -> Result<PathBuf> {
    if let Ok(existing) = std::fs::metadata(path)
        && !existing.is_file()
    {
        let what = if existing.is_dir() {
            "is a folder: expected a file"
        } else {
            "is not a regular file and would be replaced: expected a file"
        };
        return Err(Error::io(path, std::io::Error::other(what)));
    }
    sibling(path)
}

/// A name next to `path` that no other writer of this or another process uses.
pub(crate) fn sibling(path: &Path) -> Result<PathBuf> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let no_name = || Error::io(path, std::io::ErrorKind::InvalidFilename.into());
    let mut name = path.file_name().ok_or_else(no_name)?.to_owned();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    name.push(format!(".{}-{count}.tmp", std::process::id()));
    Ok(path.with_file_name(name))
}

/// Renames a written file or folder to its final name.
pub(crate) fn name(temporary: &Path, path: &Path) -> std::io::Result<()> {
    std::fs::rename(temporary, path)?;
    // The rename is durable once the folder is synchronized. Systems that cannot do that still keep
    // the file.
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    if let Ok(folder) = File::open(folder.unwrap_or(Path::new("."))) {
        let _ = folder.sync_all();
    }
    Ok(())
}
