//! Reading of a packed file, weight by weight.

use super::PackedWeight;
use super::format::{Entry, FORMAT, entries, read};
use crate::tensors::{PlainTensor, TensorFile};
use crate::{Error, Result};
use safetensors::tensor::Dtype;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// An open packed file, whose weights and plain tensors are read one at a time.
///
/// [`PackedFile`](super::PackedFile) reads all weights at once, and no other tensor.
///
/// ```
/// use w4ax::weights::{PackedReader, PackedWriter};
/// use w4ax::weights::safetensors::{Dtype, tensor::TensorView};
/// use w4ax::{Grouping, MatRef, Quantize};
/// # fn main() -> w4ax::Result<()> {
/// # let folder = std::env::temp_dir().join(format!("w4ax-reader-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// let path = folder.join("model.safetensors");
/// let mut writer = PackedWriter::create(&path, 1, 1, "layer".len() + "norm".len())?;
/// let plain = vec![0.5f32; 32 * 64];
/// writer.weight("layer", &Quantize::new(Grouping::G32).pack(MatRef::new(&plain, 32, 64)?)?)?;
/// let norm = bytemuck::cast_slice(&[1f32; 64]);
/// writer.tensor("norm", &TensorView::new(Dtype::F32, vec![64], norm).unwrap())?;
/// writer.finish()?;
///
/// let file = PackedReader::open(&path)?;
/// assert_eq!(file.names().collect::<Vec<_>>(), ["layer"]);
/// assert_eq!(file.weight("layer")?.k(), 64);
/// assert_eq!(file.tensor_names().collect::<Vec<_>>(), ["norm"]);
/// assert_eq!(file.tensor("norm")?.shape, [64]);
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PackedReader {
    file: TensorFile,
    entries: BTreeMap<String, Entry>,
    /// Names of the tensors that are no part of a weight.
    plain: BTreeSet<String>,
}

impl PackedReader {
    /// Opens a file. Reads its header only.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read; [`Error::Format`] or [`Error::Json`] for a truncated,
    /// foreign or newer file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let file = TensorFile::open(path.as_ref())?;
        let entries = entries(file.metadata(), &file.name())?;
        let mut plain: BTreeSet<String> = file.names().into_iter().collect();
        for name in entries.keys() {
            for piece in Entry::pieces() {
                plain.remove(&format!("{name}.{piece}"));
            }
        }
        Ok(Self {
            file,
            entries,
            plain,
        })
    }

    /// Returns whether a safetensors file is a packed file, of any version.
    ///
    /// # Errors
    /// As [`TensorFile::open`].
    pub fn recognizes(path: impl AsRef<Path>) -> Result<bool> {
        let file = TensorFile::open(path.as_ref())?;
        let format = file.metadata().and_then(|m| m.get("format"));
        Ok(format.is_some_and(|format| format == FORMAT))
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Returns the names of the packed weights, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Returns the names of the other tensors, sorted.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.plain.iter().map(String::as_str)
    }

    /// Returns the shape `[N, K]` of a packed weight, or `None` if it does not exist.
    pub fn weight_shape(&self, name: &str) -> Option<[usize; 2]> {
        Some(self.entries.get(name)?.shape())
    }

    /// Returns the type and the shape of a plain tensor, or `None` if it does not exist.
    pub fn tensor_info(&self, name: &str) -> Option<(Dtype, &[usize])> {
        let info = self.file.info(self.plain.get(name)?)?;
        Some((info.dtype, &info.shape))
    }

    /// Reads a packed weight.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] if the file has no weight of that name or the weight lacks a
    /// tensor; [`Error::Format`] for an inconsistent weight or a value out of range; [`Error::Io`].
    pub fn weight(&self, name: &str) -> Result<PackedWeight> {
        let file = self.file.name();
        match self.entries.get(name) {
            Some(entry) => read(&self.file, &file, name, entry),
            None => Err(self.missing(name)),
        }
    }

    /// Reads a plain tensor in its stored type.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] if the file has no plain tensor of that name; [`Error::Io`].
    pub fn tensor(&self, name: &str) -> Result<PlainTensor> {
        match self.plain.get(name) {
            Some(name) => self.file.tensor(name),
            None => Err(self.missing(name)),
        }
    }

    fn missing(&self, name: &str) -> Error {
        Error::MissingTensor {
            file: self.file.name(),
            name: name.into(),
        }
    }
}
