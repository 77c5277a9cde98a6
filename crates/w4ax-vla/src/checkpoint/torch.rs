//! Files of torch: the components that OpenVLA-OFT saves beside the model.

use crate::{Result, VlaError};
use candle_core::pickle::PthTensors;
use candle_core::{DType, Tensor};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What training with several processes puts before each name.
const WRAPPER: &str = "module.";

/// A `.pt` file of torch that holds the tensors of one module, in the zip format.
///
/// Tensors are read on request, to the CPU: the device that the file names is ignored. The prefix
/// `module.` of a name, which training with several processes adds, is removed.
pub struct TorchFile {
    path: PathBuf,
    tensors: PthTensors,
    /// The name in the file, by the name without prefix.
    names: BTreeMap<String, String>,
}

impl std::fmt::Debug for TorchFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TorchFile")
            .field("path", &self.path)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl TorchFile {
    /// Opens a file. Reads names, shapes and types only.
    ///
    /// # Errors
    /// [`Io`](VlaError::Io), which names the file, for a file that cannot be read, is not in the
    /// zip format or is truncated, and for one without tensors.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let tensors = PthTensors::new(&path, None).map_err(|e| unreadable(&path, e))?;
        let stored = tensors.tensor_infos().keys();
        let names: BTreeMap<String, String> = stored
            .map(|stored| {
                let name = stored.strip_prefix(WRAPPER).unwrap_or(stored);
                (name.to_owned(), stored.clone())
            })
            .collect();
        if names.is_empty() {
            let reason = "no tensors: expected the state of a torch module";
            return Err(unreadable(&path, reason));
        }
        Ok(Self {
            path,
            tensors,
            names,
        })
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the tensors without the prefix `module.`, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// Returns the shape of a tensor. `None` if it does not exist.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let info = self.tensors.tensor_infos().get(self.names.get(name)?)?;
        Some(info.layout.dims().to_vec())
    }

    /// Reads a tensor of this shape. It is on the CPU and has its stored type, BF16 or F32; F16 is
    /// widened to F32.
    ///
    /// # Errors
    /// [`MissingTensor`](VlaError::MissingTensor), [`TensorShape`](VlaError::TensorShape),
    /// [`TensorType`](VlaError::TensorType), and [`Io`](VlaError::Io) for data that cannot be read.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let file = || self.path.display().to_string();
        let missing = || VlaError::MissingTensor {
            file: file(),
            name: name.to_owned(),
        };
        let stored = self.names.get(name).ok_or_else(missing)?;
        let info = self.tensors.tensor_infos().get(stored);
        let info = info.ok_or_else(missing)?;
        if info.layout.dims() != shape {
            return Err(VlaError::TensorShape {
                file: file(),
                name: name.to_owned(),
                expected: shape.to_vec(),
                got: info.layout.dims().to_vec(),
            });
        }
        if !matches!(info.dtype, DType::BF16 | DType::F16 | DType::F32) {
            return Err(VlaError::TensorType {
                file: file(),
                name: name.to_owned(),
                got: format!("{:?}", info.dtype),
                expected: "BF16, F16 or F32",
            });
        }
        let read = || -> candle_core::Result<Option<Tensor>> {
            let Some(tensor) = self.tensors.get(stored)? else {
                return Ok(None);
            };
            Ok(Some(match tensor.dtype() {
                DType::F16 => tensor.to_dtype(DType::F32)?,
                _ => tensor.contiguous()?,
            }))
        };
        let tensor = read().map_err(|e| unreadable(&self.path, format!("{name}: {e}")))?;
        tensor.ok_or_else(missing)
    }
}

/// Returns the error of a file that is not what its name promises.
fn unreadable(
    path: &Path,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> VlaError {
    VlaError::io(path, std::io::Error::other(source))
}
