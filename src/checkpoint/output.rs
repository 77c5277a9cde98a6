//! The conversion of a model's folder to another folder.

use super::Checkpoint;
use super::convert::{Convert, ConvertProgress, ConvertSummary};
use crate::weights::PackedReader;
use crate::{Error, Result, file};
use std::fs;
use std::path::{Path, PathBuf};

/// The packed file in the folder.
const MODEL: &str = "model.safetensors";

/// The files of a model, beside its weights, that are copied. `*` stands for any text.
const SIDE_FILES: [&str; 9] = [
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "dataset_statistics.json",
    "tokenizer*",
    // The components of OpenVLA-OFT.
    "*.pt",
    "*_checkpoint.safetensors",
];

/// The result of a conversion to a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FolderSummary {
    /// The conversion of the weights.
    pub weights: ConvertSummary,
    /// The names of the files that were copied, sorted.
    pub files: Vec<String>,
}

impl Convert {
    /// Converts `checkpoint` to the folder `output`: `model.safetensors`, and copies of the files
    /// that a model has beside its weights (configuration, tokenizer, preprocessing, statistics,
    /// components in `.pt` files).
    ///
    /// The folder appears whole: it is written under a temporary name beside `output` and renamed.
    /// An existing `output` must be empty or an earlier conversion, which is replaced.
    ///
    /// # Errors
    /// As [`run`](Self::run); [`Error::Config`] if `output` is a file, or a folder with other
    /// files. `output` is unchanged.
    pub fn run_to_folder(
        &self,
        checkpoint: &Checkpoint,
        output: impl AsRef<Path>,
        progress: impl FnMut(ConvertProgress<'_>),
    ) -> Result<FolderSummary> {
        let output = output.as_ref();
        check_replaceable(output)?;
        self.plan(checkpoint)?;
        let temporary = Temporary(file::sibling(output)?);
        fs::create_dir(&temporary.0).map_err(|e| Error::io(output, e))?;
        let files = copy_side_files(&checkpoint.shards.folder, &temporary.0)?;
        let weights = self.run(checkpoint, temporary.0.join(MODEL), progress)?;
        // Another process may have written to the folder meanwhile.
        check_replaceable(output)?;
        replace(&temporary.0, output).map_err(|e| Error::io(output, e))?;
        Ok(FolderSummary { weights, files })
    }
}

/// A folder that is removed unless it was renamed.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // Best effort: the first error is the one to report.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Copies the files of [`SIDE_FILES`] and returns their names, sorted.
fn copy_side_files(from: &Path, to: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(from).map_err(|e| Error::io(from, e))? {
        let entry = entry.map_err(|e| Error::io(from, e))?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let path = entry.path();
        if !is_side_file(&name) || path.is_dir() {
            continue;
        }
        let copied = || {
            let target = to.join(&name);
            fs::copy(&path, &target)?;
            fs::File::open(&target)?.sync_all()
        };
        copied().map_err(|e| Error::io(&path, e))?;
        names.push(name);
    }
    names.sort();
    Ok(names)
}

fn is_side_file(name: &str) -> bool {
    SIDE_FILES.iter().any(|pattern| {
        if let Some(end) = pattern.strip_prefix('*') {
            name.ends_with(end)
        } else if let Some(start) = pattern.strip_suffix('*') {
            name.starts_with(start)
        } else {
            name == *pattern
        }
    })
}

/// Checks that `output` does not exist, or is a folder that is empty or an earlier conversion.
fn check_replaceable(output: &Path) -> Result<()> {
    let reject = |reason: String| {
        let output = output.display();
        Err(Error::Config {
            field: "output",
            reason: format!("is {output}, {reason}"),
        })
    };
    match fs::symlink_metadata(output) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(Error::io(output, e)),
        Ok(existing) if !existing.is_dir() => {
            let reason = "not a folder: expected a name that ends in .safetensors, or a folder";
            return reject(reason.into());
        }
        Ok(_) => (),
    }
    let mut empty = true;
    for entry in fs::read_dir(output).map_err(|e| Error::io(output, e))? {
        let entry = entry.map_err(|e| Error::io(output, e))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if entry.path().is_dir() || (name != MODEL && !is_side_file(&name)) {
            return reject(format!(
                "a folder with `{name}`: expected a new folder or an earlier conversion"
            ));
        }
        empty = false;
    }
    let model = output.join(MODEL);
    if empty || matches!(PackedReader::recognizes(&model), Ok(true)) {
        return Ok(());
    }
    reject(format!(
        "a folder without a packed {MODEL}: expected a new folder or an earlier conversion"
    ))
}

/// Renames `temporary` to `output`. An existing `output` is removed once it is replaced, or renamed
/// back if that fails.
fn replace(temporary: &Path, output: &Path) -> std::io::Result<()> {
    if !output.exists() {
        return file::name(temporary, output);
    }
    let old = file::sibling(output).map_err(std::io::Error::other)?;
    fs::rename(output, &old)?;
    if let Err(error) = file::name(temporary, output) {
        fs::rename(&old, output)?;
        return Err(error);
    }
    fs::remove_dir_all(&old)
}
