//! Packed weights in a safetensors file, all in memory.

use super::PackedWeight;
use super::format::{Entry, Tensors, entries, little_endian, metadata, read, views};
use crate::tensors::TensorFile;
use crate::{Error, Result};
use safetensors::tensor::SafeTensors;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// The packed weights of a safetensors file, by name.
///
/// ```
/// use w4ax::{Grouping, MatRef, PackedFile, Quantize};
/// # fn main() -> w4ax::Result<()> {
/// let plain: Vec<f32> = (0..32 * 64).map(|i| (i % 9) as f32 - 4.0).collect();
/// let weight = Quantize::new(Grouping::G32).pack(MatRef::new(&plain, 32, 64)?)?;
/// let mut file = PackedFile::default();
/// file.weights.insert("layer".into(), weight.clone());
///
/// let bytes = file.to_bytes()?; // Or `save` and `load`.
/// assert_eq!(PackedFile::from_bytes(&bytes, "in memory")?.get("layer")?, &weight);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PackedFile {
    /// The weights by name, in the order of their names.
    pub weights: BTreeMap<String, PackedWeight>,
}

impl PackedFile {
    /// The newest version of the file format, which this crate writes. It reads all older versions
    /// too.
    pub const FORMAT_VERSION: u32 = 3;

    /// Returns the bytes of the file.
    ///
    /// # Errors
    /// [`Error::Format`] on a big-endian machine (the format is little-endian), or if the weights
    /// are too large for it.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        little_endian("packed weights")?;
        let mut tensors = Vec::new();
        let mut entries = BTreeMap::new();
        for (name, w) in &self.weights {
            tensors.extend(views(name, w)?);
            entries.insert(name.clone(), Entry::new(w));
        }
        safetensors::serialize(tensors, Some(metadata(&entries)?))
            .map_err(|e| Error::format("packed weights", e.to_string()))
    }

    /// Writes the file atomically: a process that is killed leaves no partial file under `path`.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written, otherwise as [`PackedFile::to_bytes`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        crate::file::write_atomically(path, &self.to_bytes()?)
    }

    /// Reads a file of [`PackedFile::save`] or [`super::PackedWriter`]. Other tensors are not read.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read, otherwise as [`PackedFile::from_bytes`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::load_only(path, |_| true)
    }

    /// Reads only the weights whose names are `wanted`, such as one layer of a model.
    ///
    /// # Errors
    /// As [`PackedFile::load`].
    pub fn load_only(path: impl AsRef<Path>, wanted: impl Fn(&str) -> bool) -> Result<Self> {
        let file = TensorFile::open(path.as_ref())?;
        Self::read(&file, file.metadata(), &file.name(), wanted)
    }

    /// Reads the bytes of a file; `file` names them in errors.
    ///
    /// # Errors
    /// [`Error::Format`] or [`Error::Json`] for a truncated, foreign, newer or inconsistent file,
    /// or a value out of range; [`Error::MissingTensor`] for a missing tensor.
    pub fn from_bytes(bytes: &[u8], file: &str) -> Result<Self> {
        little_endian(file)?;
        let bad = |reason: String| Error::format(file, reason);
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| bad(e.to_string()))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| bad(e.to_string()))?;
        Self::read(&tensors, header.metadata().as_ref(), file, |_| true)
    }

    fn read(
        tensors: &dyn Tensors,
        metadata: Option<&HashMap<String, String>>,
        file: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Self> {
        let entries = entries(metadata, file)?.into_iter();
        let weights = entries.filter(|(name, _)| wanted(name)).map(|(name, e)| {
            let weight = read(tensors, file, &name, &e)?;
            Ok((name, weight))
        });
        Ok(Self {
            weights: weights.collect::<Result<_>>()?,
        })
    }

    /// Returns the weight of that name.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] if the file has no weight of that name.
    pub fn get(&self, name: &str) -> Result<&PackedWeight> {
        self.weights.get(name).ok_or_else(|| Error::MissingTensor {
            file: "packed weights".into(),
            name: name.into(),
        })
    }
}
