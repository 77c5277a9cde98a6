//! The folder of a checkpoint, as a source of weights.

use super::component::Component;
use super::plain::tensor_of;
use super::source::check_shape;
use super::{StoredWeight, WeightSource};
use crate::{Result, VlaError};
use candle_core::Tensor;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use w4ax::checkpoint::Checkpoint;
use w4ax::tensors::PlainTensor;
use w4ax::weights::PackedReader;

/// The parts of OpenVLA-OFT in files of their own, which are also the prefixes of their tensors.
const COMPONENTS: [&str; 2] = ["action_head", "proprio_projector"];

/// The folder of a checkpoint. Headers are in memory; tensors are read on request, one at a time.
///
/// It holds one of:
/// - a checkpoint of Hugging Face: safetensors in BF16, F16 or F32, in one file or in shards with
///   an index, or quantized by one of the tools that [`w4ax::checkpoint`] reads;
/// - `model.safetensors` of `w4ax convert`: packed weights, and the other tensors unchanged.
///
/// OpenVLA-OFT's `action_head--*_checkpoint` and `proprio_projector--*_checkpoint` are read with
/// it: tensor `module.x` of the file is the tensor `action_head.x` or `proprio_projector.x`.
///
/// Tensors that the model does not use are ignored.
#[derive(Debug)]
pub struct VlaFolder {
    folder: PathBuf,
    model: Model,
    /// Names of the packed weights.
    packed: BTreeSet<String>,
    components: Vec<Component>,
}

#[derive(Debug)]
enum Model {
    Checkpoint(Checkpoint),
    Packed(PackedReader),
}

impl VlaFolder {
    /// Opens a folder. Reads headers only.
    ///
    /// # Errors
    /// [`VlaError::Unmerged`] or [`VlaError::Files`] for a folder without model files, or with
    /// several files of a component; [`VlaError::W4ax`] if a file or the index is invalid, or a
    /// file is truncated or missing.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref().to_owned();
        let files = Files::list(&folder)?;
        if files.model.is_empty() {
            let name = folder.display().to_string();
            return Err(match folder.join("lora_adapter").is_dir() {
                true => VlaError::Unmerged { folder: name },
                false => VlaError::Files {
                    folder: name,
                    what: "the model (model.safetensors, or shards with an index)".into(),
                    found: 0,
                },
            });
        }
        let single = folder.join("model.safetensors");
        let converted = !files.indexed && single.is_file() && PackedReader::recognizes(&single)?;
        let (model, packed) = if converted {
            let reader = PackedReader::open(&single)?;
            let names = reader.names().map(str::to_owned).collect();
            (Model::Packed(reader), names)
        } else {
            let checkpoint = Checkpoint::open(&folder)?;
            let names = checkpoint.quantized().map(str::to_owned).collect();
            (Model::Checkpoint(checkpoint), names)
        };
        let components = COMPONENTS
            .iter()
            .filter_map(|name| Component::open(&folder, name).transpose())
            .collect::<Result<_>>()?;
        Ok(Self {
            folder,
            model,
            packed,
            components,
        })
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Returns whether the model has packed weights.
    pub fn is_packed(&self) -> bool {
        !self.packed.is_empty()
    }

    /// Returns whether the folder has the file of a component, `action_head` or
    /// `proprio_projector`.
    pub fn has_component(&self, name: &str) -> bool {
        self.components.iter().any(|part| part.name() == name)
    }

    /// Returns the names of the plain tensors of the model and of its components, sorted within
    /// each file.
    pub fn tensor_names(&self) -> Vec<String> {
        let mut names: Vec<String> = match &self.model {
            Model::Checkpoint(checkpoint) => checkpoint.plain().map(str::to_owned).collect(),
            Model::Packed(reader) => reader.tensor_names().map(str::to_owned).collect(),
        };
        for part in &self.components {
            names.extend(part.tensor_names());
        }
        names
    }

    /// Returns the names of the packed weights, sorted.
    pub fn packed_names(&self) -> impl Iterator<Item = &str> {
        self.packed.iter().map(String::as_str)
    }

    /// Returns the component of a tensor and the tensor's name in the component's file.
    fn in_component<'a>(&self, tensor: &'a str) -> Option<(&Component, &'a str)> {
        let mut parts = self.components.iter();
        parts.find_map(|part| Some((part, part.strip(tensor)?)))
    }

    fn plain_shape(&self, tensor: &str) -> Option<Vec<usize>> {
        if let Some((part, rest)) = self.in_component(tensor) {
            return part.shape(rest);
        }
        let (_, shape) = match &self.model {
            Model::Checkpoint(checkpoint) => checkpoint.tensor_info(tensor)?,
            Model::Packed(reader) => reader.tensor_info(tensor)?,
        };
        Some(shape.to_vec())
    }

    fn packed_shape(&self, module: &str) -> Option<[usize; 2]> {
        self.packed.get(module)?;
        match &self.model {
            Model::Checkpoint(checkpoint) => checkpoint.weight_shape(module).ok(),
            Model::Packed(reader) => reader.weight_shape(module),
        }
    }

    fn plain(&self, tensor: &str) -> Result<PlainTensor> {
        Ok(match &self.model {
            Model::Checkpoint(checkpoint) => checkpoint.tensor(tensor)?,
            Model::Packed(reader) => reader.tensor(tensor)?,
        })
    }
}

impl WeightSource for VlaFolder {
    fn name(&self) -> String {
        self.folder.display().to_string()
    }

    fn shape(&self, tensor: &str) -> Option<Vec<usize>> {
        self.plain_shape(tensor).or_else(|| {
            let module = tensor.strip_suffix(".weight")?;
            Some(self.packed_shape(module)?.to_vec())
        })
    }

    fn tensor(&self, tensor: &str, shape: &[usize]) -> Result<Tensor> {
        check_shape(|| self.name(), tensor, self.plain_shape(tensor), shape)?;
        if let Some((part, rest)) = self.in_component(tensor) {
            return part.tensor(rest, shape);
        }
        tensor_of(self.plain(tensor)?, || self.name(), tensor, shape)
    }

    fn weight(&self, module: &str, n: usize, k: usize) -> Result<StoredWeight> {
        if !self.packed.contains(module) {
            let tensor = self.tensor(&format!("{module}.weight"), &[n, k])?;
            return Ok(StoredWeight::Plain(tensor));
        }
        let weight = match &self.model {
            Model::Checkpoint(checkpoint) => checkpoint.weight(module)?,
            Model::Packed(reader) => reader.weight(module)?,
        };
        let got = Some(vec![weight.n(), weight.k()]);
        check_shape(|| self.name(), module, got, &[n, k])?;
        Ok(StoredWeight::Packed(weight))
    }
}

/// The names of a folder's safetensors files.
struct Files {
    /// Files and indices of the model.
    model: Vec<String>,
    /// Whether an index is one of them.
    indexed: bool,
}

impl Files {
    fn list(folder: &Path) -> Result<Self> {
        let entries = std::fs::read_dir(folder).map_err(|e| VlaError::io(folder, e))?;
        let mut files = Self {
            model: Vec::new(),
            indexed: false,
        };
        for entry in entries {
            let entry = entry.map_err(|e| VlaError::io(folder, e))?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if name.ends_with("_checkpoint.safetensors") {
                // A component.
                continue;
            } else if name.ends_with(".safetensors.index.json") {
                files.indexed = true;
                files.model.push(name);
            } else if name.ends_with(".safetensors") {
                files.model.push(name);
            }
        }
        Ok(files)
    }
}
