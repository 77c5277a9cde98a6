//! The components of OpenVLA-OFT, which are in files of their own.

use super::TorchFile;
use super::plain::tensor_of;
use crate::{Result, VlaError};
use candle_core::Tensor;
use std::path::{Path, PathBuf};
use w4ax::tensors::TensorFile;

/// Components that change the model in ways that are not supported, and what they belong to.
const UNSUPPORTED: [(&str, &str); 2] = [
    ("vision_backbone--", "FiLM"),
    ("noisy_action_projector--", "a diffusion head"),
];

/// Returns the file of a component, `action_head` or `proprio_projector`. `None` if the folder has
/// none.
///
/// As in the reference, it is the file whose name contains the component and `checkpoint`. It is a
/// `.pt` file or a safetensors file with the same tensors; of two files whose names differ only in
/// that, it is the `.pt` file.
///
/// # Errors
/// [`Files`](VlaError::Files), which lists them, for several files;
/// [`Input`](VlaError::Input) for a folder with a file of FiLM or of a diffusion head;
/// [`Io`](VlaError::Io) for a folder that cannot be read.
pub fn find_component(folder: impl AsRef<Path>, component: &str) -> Result<Option<PathBuf>> {
    let folder = folder.as_ref();
    let names = component_files(folder)?;
    for (prefix, owner) in UNSUPPORTED {
        if let Some(name) = names.iter().find(|name| name.starts_with(prefix)) {
            return Err(VlaError::Input {
                what: "component of the checkpoint",
                got: format!("{}, of {owner}", folder.join(name).display()),
                expected: "action_head or proprio_projector".to_owned(),
            });
        }
    }
    let mut found: Vec<&String> = names
        .iter()
        .filter(|name| name.contains(component))
        .collect();
    found.retain(|name| match name.strip_suffix(".safetensors") {
        Some(stem) => !names.contains(&format!("{stem}.pt")),
        None => true,
    });
    match found[..] {
        [] => Ok(None),
        [name] => Ok(Some(folder.join(name))),
        _ => {
            let list: Vec<&str> = found.iter().map(|name| name.as_str()).collect();
            Err(VlaError::Files {
                folder: folder.display().to_string(),
                what: format!("{component}--*_checkpoint ({})", list.join(", ")),
                found: found.len(),
            })
        }
    }
}

/// Returns the sorted names of all files of components.
fn component_files(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| VlaError::io(folder, e))? {
        let name = entry.map_err(|e| VlaError::io(folder, e))?.file_name();
        let Ok(name) = name.into_string() else {
            continue;
        };
        let tensors = name.ends_with(".pt") || name.ends_with(".safetensors");
        if tensors && name.contains("checkpoint") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The file of a component.
#[derive(Debug)]
pub(super) struct Component {
    name: &'static str,
    file: ComponentFile,
}

#[derive(Debug)]
enum ComponentFile {
    Torch(TorchFile),
    Safetensors(TensorFile),
}

impl Component {
    /// Opens the file of a component. `None` if the folder has none.
    pub(super) fn open(folder: &Path, name: &'static str) -> Result<Option<Self>> {
        let Some(path) = find_component(folder, name)? else {
            return Ok(None);
        };
        let file = if path.extension().is_some_and(|extension| extension == "pt") {
            ComponentFile::Torch(TorchFile::open(path)?)
        } else {
            ComponentFile::Safetensors(TensorFile::open(path)?)
        };
        Ok(Some(Self { name, file }))
    }

    /// Returns the name of the component.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Returns a tensor's name without the component. `None` for a tensor of another component.
    pub(super) fn strip<'a>(&self, tensor: &'a str) -> Option<&'a str> {
        tensor.strip_prefix(self.name)?.strip_prefix('.')
    }

    /// Returns the names of the tensors, beginning with the component.
    pub(super) fn tensor_names(&self) -> Vec<String> {
        let full = |name: &str| format!("{}.{name}", self.name);
        match &self.file {
            ComponentFile::Torch(file) => file.names().map(full).collect(),
            ComponentFile::Safetensors(file) => {
                let names = file.names();
                let names = names.iter();
                let names = names.map(|name| name.strip_prefix("module.").unwrap_or(name));
                names.map(full).collect()
            }
        }
    }

    /// Returns the shape of a tensor by its name without the component.
    pub(super) fn shape(&self, rest: &str) -> Option<Vec<usize>> {
        match &self.file {
            ComponentFile::Torch(file) => file.shape(rest),
            ComponentFile::Safetensors(file) => Some(file.info(&stored(file, rest))?.shape.clone()),
        }
    }

    /// Reads a tensor by its name without the component.
    pub(super) fn tensor(&self, rest: &str, shape: &[usize]) -> Result<Tensor> {
        match &self.file {
            ComponentFile::Torch(file) => file.tensor(rest, shape),
            ComponentFile::Safetensors(file) => {
                let plain = file.tensor(&stored(file, rest))?;
                tensor_of(plain, || self.name.to_owned(), rest, shape)
            }
        }
    }
}

/// Returns the name in a safetensors file: training with several processes adds `module.`.
fn stored(file: &TensorFile, rest: &str) -> String {
    let wrapped = format!("module.{rest}");
    match file.info(&wrapped) {
        Some(_) => wrapped,
        None => rest.into(),
    }
}
