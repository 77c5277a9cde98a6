//! The tensors of a checkpoint in one safetensors file, or in several files (shards) with an index.

use crate::tensors::{PlainTensor, TensorFile};
use crate::{Error, Result};
use safetensors::tensor::TensorInfo;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// A safetensors index.
#[derive(serde::Deserialize)]
struct ShardIndex {
    /// File name by tensor.
    weight_map: BTreeMap<String, String>,
}

/// The open files of a checkpoint.
#[derive(Debug)]
pub(super) struct Shards {
    files: Vec<TensorFile>,
    /// Index into `files` by tensor.
    locations: BTreeMap<String, usize>,
    /// The folder of the files, which also holds the configuration.
    pub folder: PathBuf,
    index: Option<PathBuf>,
}

impl Shards {
    /// Opens a safetensors file, an index, or a folder with one of them. Reads only headers.
    pub fn open(path: &Path) -> Result<Self> {
        let path = if path.is_dir() { &find(path)? } else { path };
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        if path.extension() != Some(OsStr::new("json")) {
            let file = TensorFile::open(path)?;
            let locations = file.names().into_iter().map(|name| (name, 0)).collect();
            return Ok(Self {
                files: vec![file],
                locations,
                folder,
                index: None,
            });
        }
        let bad = |reason: String| Error::format(path.display().to_string(), reason);
        let text = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        let index: ShardIndex = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
        let mut files = Vec::new();
        let mut numbers = BTreeMap::new();
        let mut locations = BTreeMap::new();
        for shard in index.weight_map.values() {
            if numbers.contains_key(shard) {
                continue;
            }
            if Path::new(shard).file_name() != Some(OsStr::new(shard)) {
                return Err(bad(format!(
                    "invalid shard `{shard}`: expected a file name in the folder of the index"
                )));
            }
            let shard_path = folder.join(shard);
            if !shard_path.exists() {
                return Err(bad(format!(
                    "`{shard}`, a file of the index, does not exist"
                )));
            }
            let file = TensorFile::open(&shard_path)?;
            // Tensors that the index does not list are included. The index decides for a tensor
            // that is in several shards.
            locations.extend(file.names().into_iter().map(|name| (name, files.len())));
            numbers.insert(shard.clone(), files.len());
            files.push(file);
        }
        for (tensor, shard) in index.weight_map {
            let number = numbers[&shard];
            if files[number].info(&tensor).is_none() {
                return Err(Error::MissingTensor {
                    file: files[number].name(),
                    name: tensor,
                });
            }
            locations.insert(tensor, number);
        }
        Ok(Self {
            files,
            locations,
            folder,
            index: Some(path.to_owned()),
        })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.locations.keys().map(String::as_str)
    }

    /// Returns the paths of the files and of the index.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        (self.files.iter().map(TensorFile::path)).chain(self.index.as_deref())
    }

    /// Returns the first file whose metadata has this `format`.
    pub fn with_format(&self, format: &str) -> Option<String> {
        let matches = |file: &&TensorFile| {
            let found = file.metadata().and_then(|m| m.get("format"));
            found.is_some_and(|found| found == format)
        };
        self.files.iter().find(matches).map(TensorFile::name)
    }

    /// Returns the file of a tensor, or the first file if the tensor does not exist.
    pub fn file_of(&self, tensor: &str) -> String {
        let number = self.locations.get(tensor).copied().unwrap_or(0);
        self.files.get(number).map_or_else(
            || self.folder.display().to_string(),
            |file| file.name().clone(),
        )
    }

    pub fn info(&self, tensor: &str) -> Option<&TensorInfo> {
        self.files[*self.locations.get(tensor)?].info(tensor)
    }

    fn locate(&self, tensor: &str) -> Result<&TensorFile> {
        match self.locations.get(tensor) {
            Some(&number) => Ok(&self.files[number]),
            None => Err(Error::MissingTensor {
                file: self.file_of(tensor),
                name: tensor.into(),
            }),
        }
    }

    /// Returns the type and shape of a tensor that must exist.
    pub fn expect(&self, tensor: &str) -> Result<&TensorInfo> {
        let file = self.locate(tensor)?;
        file.info(tensor).ok_or_else(|| Error::MissingTensor {
            file: file.name(),
            name: tensor.into(),
        })
    }

    /// Reads the values of a tensor.
    pub fn read<T: bytemuck::Pod>(&self, tensor: &str) -> Result<Vec<T>> {
        self.locate(tensor)?.read(tensor)
    }

    /// Reads a tensor in its stored type.
    pub fn tensor(&self, tensor: &str) -> Result<PlainTensor> {
        self.locate(tensor)?.tensor(tensor)
    }

    /// Copies the bytes of a tensor in chunks.
    pub fn copy(
        &self,
        tensor: &str,
        to: &mut dyn std::io::Write,
        written: &dyn Fn(std::io::Error) -> Error,
    ) -> Result<()> {
        self.locate(tensor)?.copy(tensor, to, written)
    }

    /// Returns an [`Error::Tensor`] with the file of the tensor.
    pub fn tensor_error(&self, tensor: &str, reason: impl Into<String>) -> Error {
        Error::tensor(self.file_of(tensor), tensor, reason)
    }
}

/// Finds the index or the only safetensors file of a folder.
fn find(folder: &Path) -> Result<PathBuf> {
    for name in ["model.safetensors.index.json", "model.safetensors"] {
        let path = folder.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    let mut found: [Vec<PathBuf>; 2] = Default::default();
    for entry in std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let path = entry.map_err(|e| Error::io(folder, e))?.path();
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or("");
        if name.ends_with(".safetensors.index.json") {
            found[0].push(path);
        } else if name.ends_with(".safetensors") {
            found[1].push(path);
        }
    }
    let [indices, files] = found;
    let candidates = if indices.is_empty() { files } else { indices };
    match <[PathBuf; 1]>::try_from(candidates) {
        Ok([path]) => Ok(path),
        Err(many) => Err(Error::format(
            folder.display().to_string(),
            format!(
                "found {} safetensors files: expected one, or an index, or model.safetensors",
                many.len()
            ),
        )),
    }
}
