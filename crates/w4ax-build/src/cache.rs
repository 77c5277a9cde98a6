//! The cache of compiled objects, each recorded with the contents of the files that it was made
//! from.
//!
//! The folder of an object is named after its source and a key of the tools and options. It also
//! contains a list of the source files and their hashes. Hashes are used instead of times, so that
//! a checkout or a fetch that writes the same bytes again compiles nothing. All profiles and
//! feature sets of a target folder share the cache, because their kernels are the same.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

/// The place of one object in the cache.
pub struct Slot {
    folder: PathBuf,
    object: PathBuf,
}

/// Hashes of files, each read once per run: most headers are shared by all sources.
#[derive(Default)]
pub struct Hashes(Mutex<HashMap<PathBuf, Option<u64>>>);

impl Hashes {
    /// Returns the hash of a file's bytes; `None` if it cannot be read.
    fn of(&self, file: &Path) -> Option<u64> {
        let mut known = self.0.lock().expect("no holder of the lock panics");
        *known
            .entry(file.to_path_buf())
            .or_insert_with(|| Some(hash(&std::fs::read(file).ok()?)))
    }
}

fn hash(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl Slot {
    /// Returns the place of the object of `source`. `key` describes the tools and options.
    pub fn new(cache: &Path, source: &Path, key: &(impl Hash + ?Sized)) -> Self {
        let stem = source.file_stem().unwrap_or_default().to_string_lossy();
        let folder = cache.join(format!("{stem}-{:016x}", hash(&(source, hash(key)))));
        Self {
            object: folder.join(format!("{stem}.o")),
            folder,
        }
    }

    /// Returns the folder of the object.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the path of the object.
    pub fn object(&self) -> &Path {
        &self.object
    }

    fn list(&self) -> PathBuf {
        self.folder.join("files")
    }

    /// Returns the files that the object was made from, if it exists and none of them has changed.
    pub fn fresh(&self, hashes: &Hashes) -> Option<Vec<PathBuf>> {
        let list = std::fs::read_to_string(self.list()).ok()?;
        let unchanged = |line: &str| {
            let (recorded, file) = line.split_once(' ')?;
            let file = PathBuf::from(file);
            (hashes.of(&file)? == u64::from_str_radix(recorded, 16).ok()?).then_some(file)
        };
        let files = list.lines().map(unchanged).collect::<Option<Vec<_>>>()?;
        self.object.is_file().then_some(files)
    }

    /// Stores an object that was compiled from `files`, beginning at `start`. If a file was written
    /// after that, it may differ from what was compiled: the object is used once and not recorded.
    pub fn keep(
        &self,
        object: &Path,
        files: &[PathBuf],
        start: SystemTime,
        hashes: &Hashes,
    ) -> io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        // The list is removed first and written last: without it the object is not used.
        let _ = std::fs::remove_file(self.list());
        std::fs::rename(object, &self.object)?;
        let mut list = String::new();
        for file in files {
            let written = file.metadata()?.modified()?;
            match hashes.of(file) {
                Some(hash) if written < start => {
                    list += &format!("{hash:016x} {}\n", file.display())
                }
                _ => return Ok(()),
            }
        }
        let scratch = self.folder.join(format!("files-{}", std::process::id()));
        std::fs::write(&scratch, list)?;
        std::fs::rename(scratch, self.list())
    }
}

/// Returns the folder of the cache: in the target folder, which `cargo clean` removes, or in the
/// build script's own folder if cargo's layout is unknown.
pub fn folder(out_dir: &Path) -> PathBuf {
    let profile = out_dir
        .ancestors()
        .find(|folder| folder.file_name().is_some_and(|name| name == "build"));
    match profile.and_then(|build| build.parent()?.parent()) {
        Some(target) => target.join("w4ax-kernels"),
        None => out_dir.join("w4ax-kernels"),
    }
}
