//! Writing a file whole or not at all.

use crate::{Error, Result};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes to a temporary name in the same folder, then renames: a killed run leaves no half file under `path`.
///
/// # Errors
/// [`Error::Io`] with the path, also for one that is there and is no regular file (a folder, a device); nothing stays behind.
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
        // The temporary file is of no use to anybody; the error that matters is the first one.
        let _ = std::fs::remove_file(&temporary);
        Error::io(path, e)
    })
}

/// A name beside `path` that no other writer has, of this process or another. What is at `path` and is no file is refused here, before
/// anything is written: the rename would fail on a folder, and put a file in the place of a device.
pub(crate) fn temporary(path: &Path) -> Result<PathBuf> {
    if let Ok(there) = std::fs::metadata(path)
        && !there.is_file()
    {
        let what = if there.is_dir() {
            "it is a folder, not a file to write"
        } else {
            "it is no regular file, and would be replaced by one"
        };
        return Err(Error::io(path, std::io::Error::other(what)));
    }
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let no_name = || Error::io(path, std::io::ErrorKind::InvalidFilename.into());
    let mut name = path.file_name().ok_or_else(no_name)?.to_owned();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    name.push(format!(".{}-{count}.tmp", std::process::id()));
    Ok(path.with_file_name(name))
}

/// Gives a written file its name.
pub(crate) fn name(temporary: &Path, path: &Path) -> std::io::Result<()> {
    std::fs::rename(temporary, path)?;
    // The name itself is durable once its folder is. A system that cannot do that keeps the file all the same.
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    if let Ok(folder) = File::open(folder.unwrap_or(Path::new("."))) {
        let _ = folder.sync_all();
    }
    Ok(())
}
