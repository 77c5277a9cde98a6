//! The tensors of a checkpoint, in one safetensors file or in several with an index.

use crate::tensors::TensorFile;
use crate::{Error, Result};
use safetensors::tensor::TensorInfo;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// What a safetensors index says.
#[derive(serde::Deserialize)]
struct Index {
    /// Tensor to file.
    weight_map: BTreeMap<String, String>,
}

/// The open files of a checkpoint.
#[derive(Debug)]
pub(super) struct Shards {
    files: Vec<TensorFile>,
    /// Tensor to file.
    places: BTreeMap<String, usize>,
    /// Where the configuration lies: the folder of the files.
    pub folder: PathBuf,
    index: Option<PathBuf>,
}

impl Shards {
    /// Opens a safetensors file, an index, or a folder with one of them. Only headers are read.
    pub fn open(path: &Path) -> Result<Self> {
        let path = if path.is_dir() { &find(path)? } else { path };
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        if path.extension() != Some(OsStr::new("json")) {
            let file = TensorFile::open(path)?;
            let places = file.names().into_iter().map(|name| (name, 0)).collect();
            return Ok(Self {
                files: vec![file],
                places,
                folder,
                index: None,
            });
        }
        let bad = |reason: String| Error::format(path.display().to_string(), reason);
        let text = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        let index: Index = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
        let mut files = Vec::new();
        let mut numbers = BTreeMap::new();
        let mut places = BTreeMap::new();
        for shard in index.weight_map.values() {
            if numbers.contains_key(shard) {
                continue;
            }
            if Path::new(shard).file_name() != Some(OsStr::new(shard)) {
                return Err(bad(format!(
                    "shard `{shard}` is not the name of a file beside the index"
                )));
            }
            let file = TensorFile::open(&folder.join(shard))?;
            // A tensor that the index forgets is there all the same; one in two shards is where the index says.
            places.extend(file.names().into_iter().map(|name| (name, files.len())));
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
            places.insert(tensor, number);
        }
        Ok(Self {
            files,
            places,
            folder,
            index: Some(path.to_owned()),
        })
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// Its files, and the index.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        (self.files.iter().map(TensorFile::path)).chain(self.index.as_deref())
    }

    /// The first file whose metadata has that `format`.
    pub fn of_format(&self, format: &str) -> Option<String> {
        let says = |file: &&TensorFile| {
            let found = file.metadata().and_then(|m| m.get("format"));
            found.is_some_and(|found| found == format)
        };
        self.files.iter().find(says).map(TensorFile::name)
    }

    /// The file that a tensor is in; for one that is nowhere, the first.
    pub fn file_of(&self, tensor: &str) -> String {
        let number = self.places.get(tensor).copied().unwrap_or(0);
        self.files.get(number).map_or_else(
            || self.folder.display().to_string(),
            |file| file.name().clone(),
        )
    }

    pub fn info(&self, tensor: &str) -> Option<&TensorInfo> {
        self.files[*self.places.get(tensor)?].info(tensor)
    }

    fn place(&self, tensor: &str) -> Result<&TensorFile> {
        match self.places.get(tensor) {
            Some(&number) => Ok(&self.files[number]),
            None => Err(Error::MissingTensor {
                file: self.file_of(tensor),
                name: tensor.into(),
            }),
        }
    }

    /// What a tensor is.
    pub fn expect(&self, tensor: &str) -> Result<&TensorInfo> {
        let file = self.place(tensor)?;
        file.info(tensor).ok_or_else(|| Error::MissingTensor {
            file: file.name(),
            name: tensor.into(),
        })
    }

    /// The values of a tensor.
    pub fn read<T: bytemuck::Pod>(&self, tensor: &str) -> Result<Vec<T>> {
        self.place(tensor)?.read(tensor)
    }

    /// Copies the bytes of a tensor, a piece at a time.
    pub fn copy(
        &self,
        tensor: &str,
        to: &mut dyn std::io::Write,
        written: &dyn Fn(std::io::Error) -> Error,
    ) -> Result<()> {
        self.place(tensor)?.copy(tensor, to, written)
    }

    /// An error about a tensor.
    pub fn bad(&self, tensor: &str, reason: impl Into<String>) -> Error {
        Error::tensor(self.file_of(tensor), tensor, reason)
    }
}

/// The index or the one safetensors file of a folder.
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
                "expected model.safetensors, model.safetensors.index.json or one file of that kind, found {}",
                many.len()
            ),
        )),
    }
}
