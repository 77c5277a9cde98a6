//! Atomic writing of a packed file, tensor by tensor.

use super::PackedWeight;
use super::format::{Entry, metadata, views};
use crate::{Error, Result, file};
use safetensors::tensor::{Dtype, Metadata, TensorInfo, TensorView};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Writes a file for [`super::PackedFile::load`], one weight or tensor at a time, in the memory of
/// one.
///
/// The file is written under a temporary name in the same folder, its header last.
/// [`PackedWriter::finish`] makes the file durable and renames it. A process that is killed before
/// leaves at most a temporary file that does not load. A writer that is dropped before it finishes
/// removes the temporary file.
///
/// ```
/// use w4ax::weights::PackedWriter;
/// use w4ax::weights::safetensors::{Dtype, tensor::TensorView};
/// use w4ax::{Grouping, MatRef, PackedFile, Quantize};
/// # fn main() -> w4ax::Result<()> {
/// let folder = std::env::temp_dir().join(format!("w4ax-example-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// let path = folder.join("model.safetensors");
/// let mut writer = PackedWriter::create(&path, 2, 1, "layers.0".len() * 2 + "norm".len())?;
/// for name in ["layers.0", "layers.1"] {
///     let plain = vec![0.5f32; 32 * 64]; // One layer in memory at a time.
///     let weight = Quantize::new(Grouping::G32).pack(MatRef::new(&plain, 32, 64)?)?;
///     writer.weight(name, &weight)?;
/// }
/// let norm = bytemuck::cast_slice(&[1f32; 64]);
/// let norm = TensorView::new(Dtype::F32, vec![64], norm).unwrap(); // Any other tensor.
/// writer.tensor("norm", &norm)?;
/// writer.finish()?; // The file exists under its name from here on.
/// assert_eq!(PackedFile::load(&path)?.weights.len(), 2);
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PackedWriter {
    path: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
    /// Bytes reserved for the header.
    room: usize,
    at: usize,
    tensors: Vec<(String, TensorInfo)>,
    names: BTreeSet<String>,
    entries: BTreeMap<String, Entry>,
    /// Whether the last tensor was written only partly.
    broken: bool,
    finished: bool,
}

impl PackedWriter {
    /// Creates a file at `path` with a header that has room for that many weights and other
    /// tensors, whose names have `name_bytes` bytes in total.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder cannot be written to; [`Error::Format`] on a big-endian machine.
    pub fn create(path: &Path, weights: usize, others: usize, name_bytes: usize) -> Result<Self> {
        if cfg!(target_endian = "big") {
            let reason = "the format needs a little-endian machine";
            return Err(Error::format(path.display().to_string(), reason));
        }
        let temporary = file::temporary(path)?;
        // An escaped byte of a name takes 6 bytes, in the metadata of a weight 12. A name occurs at
        // most six times. The rest of an entry is a type, a shape of a few numbers and two
        // offsets.
        let room = (1024 + 6 * 200 * weights + 250 * others + 42 * name_bytes).next_multiple_of(64);
        let file = File::create(&temporary).map_err(|e| Error::io(&temporary, e))?;
        let mut writer = Self {
            path: path.to_owned(),
            temporary,
            file: BufWriter::with_capacity(1 << 20, file),
            room: room - 8,
            at: 0,
            tensors: Vec::new(),
            names: BTreeSet::new(),
            entries: BTreeMap::new(),
            broken: false,
            finished: false,
        };
        // A header of no bytes: the file is not a safetensors file until the end.
        writer.bytes(&vec![0; room])?;
        Ok(writer)
    }

    fn error(&self, e: std::io::Error) -> Error {
        Error::io(&self.temporary, e)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_all(bytes);
        written.map_err(|e| self.error(e))
    }

    fn begin(&mut self, name: &str, dtype: Dtype, shape: &[usize], bytes: usize) -> Result<()> {
        if !self.names.insert(name.to_owned()) {
            let reason = "a tensor of this name exists already";
            return Err(Error::tensor(self.path.display().to_string(), name, reason));
        }
        let data_offsets = (self.at, self.at + bytes);
        self.at += bytes;
        let shape = shape.to_vec();
        let info = TensorInfo {
            dtype,
            shape,
            data_offsets,
        };
        self.tensors.push((name.to_owned(), info));
        self.broken = true;
        Ok(())
    }

    /// Adds a tensor that is not a packed weight, such as a bias, a norm or an embedding.
    ///
    /// # Errors
    /// As [`PackedWriter::weight`].
    pub fn tensor(&mut self, name: &str, view: &TensorView<'_>) -> Result<()> {
        self.begin(name, view.dtype(), view.shape(), view.data().len())?;
        self.bytes(view.data())?;
        self.broken = false;
        Ok(())
    }

    /// Adds a weight.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Tensor`] if one of its tensors has the name of an earlier one.
    pub fn weight(&mut self, name: &str, weight: &PackedWeight) -> Result<()> {
        for (piece, view) in views(name, weight)? {
            self.tensor(&piece, &view)?;
        }
        self.entries.insert(name.to_owned(), Entry::new(weight));
        Ok(())
    }

    /// Adds a tensor whose bytes `write` writes.
    ///
    /// # Errors
    /// As [`PackedWriter::weight`], and the errors of `write`.
    pub(crate) fn tensor_by(
        &mut self,
        name: &str,
        info: &TensorInfo,
        write: impl FnOnce(&mut dyn Write, &dyn Fn(std::io::Error) -> Error) -> Result<()>,
    ) -> Result<()> {
        let bytes = info.data_offsets.1 - info.data_offsets.0;
        self.begin(name, info.dtype, &info.shape, bytes)?;
        let temporary = self.temporary.clone();
        write(&mut self.file, &|e| Error::io(&temporary, e))?;
        self.broken = false;
        Ok(())
    }

    /// Writes the header, makes the file durable and renames it.
    ///
    /// # Errors
    /// [`Error::Io`], with the temporary file removed; [`Error::Format`] if the header is larger
    /// than reserved, or an earlier tensor was written only partly.
    pub fn finish(mut self) -> Result<()> {
        let name = self.path.display().to_string();
        let bad = |reason: String| Error::format(&name, reason);
        if let (true, Some((tensor, _))) = (self.broken, self.tensors.last()) {
            return Err(bad(format!("`{tensor}` was written only partly")));
        }
        let tensors = std::mem::take(&mut self.tensors);
        let header = Metadata::new(Some(metadata(&self.entries)?), tensors)
            .map_err(|e| bad(e.to_string()))?;
        let mut text = serde_json::to_vec(&header).map_err(|e| Error::json(&name, "header", e))?;
        if text.len() > self.room {
            return Err(bad(format!(
                "header of {} bytes: expected at most {}",
                text.len(),
                self.room
            )));
        }
        text.resize(self.room, b' ');
        let size = (self.room as u64).to_le_bytes();
        let mut write = || {
            // The values are made durable first, because a header on disk implies that they are
            // complete.
            self.file.flush()?;
            self.file.get_ref().sync_all()?;
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(&size)?;
            self.file.write_all(&text)?;
            self.file.flush()?;
            self.file.get_ref().sync_all()?;
            file::name(&self.temporary, &self.path)
        };
        write().map_err(|e| Error::io(&self.path, e))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for PackedWriter {
    fn drop(&mut self) {
        if !self.finished {
            // Best effort: the error that ended the writing is the one to report.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}
