//! Safetensors files whose tensors have one entry per row: recordings and datasets.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use w4ax::{Error, Result};

/// Reads a whole file and passes its bytes and its name to `parse`.
///
/// # Errors
/// [`Error::Io`], and those of `parse`.
pub fn load<T>(path: &Path, parse: impl FnOnce(&[u8], &str) -> Result<T>) -> Result<T> {
    let file = path.display().to_string();
    match std::fs::read(path) {
        Ok(bytes) => parse(&bytes, &file),
        Err(source) => Err(Error::Io { file, source }),
    }
}

/// The tensors of a file, `[rows, ..]` each.
pub struct Columns<'a> {
    tensors: SafeTensors<'a>,
    file: &'a str,
    rows: usize,
}

impl<'a> Columns<'a> {
    /// Opens the bytes of a file with as many rows as the tensor `counted`. `file` is its name in
    /// errors.
    ///
    /// # Errors
    /// [`Error::Format`] for bytes that are not safetensors, [`Error::MissingTensor`] if `counted`
    /// is missing.
    pub fn new(bytes: &'a [u8], file: &'a str, counted: &str) -> Result<Self> {
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| refuse(file, e.to_string()))?;
        let rows = match tensors.tensor(counted) {
            Ok(tensor) => tensor.shape().first().copied().unwrap_or(0),
            Err(_) => return Err(missing(file, counted)),
        };
        Ok(Self {
            tensors,
            file,
            rows,
        })
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns whether the file has the tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.tensor(name).is_ok()
    }

    /// Returns an [`Error::Format`] that names this file.
    pub fn refuse(&self, reason: impl Into<String>) -> Error {
        refuse(self.file, reason)
    }

    /// Returns the bytes of a tensor `[rows, row...]`.
    ///
    /// # Errors
    /// [`Error::MissingTensor`]. [`Error::Format`] for a tensor of another type or shape.
    pub fn bytes(&self, name: &str, dtype: Dtype, row: &[usize]) -> Result<&[u8]> {
        let tensor = self
            .tensors
            .tensor(name)
            .map_err(|_| missing(self.file, name))?;
        let expected = [&[self.rows], row].concat();
        if tensor.dtype() != dtype || tensor.shape() != expected {
            let (got, shape) = (tensor.dtype(), tensor.shape());
            let reason = format!("`{name}` is {got:?} {shape:?}: expected {dtype:?} {expected:?}");
            return Err(self.refuse(reason));
        }
        Ok(tensor.data())
    }

    /// Reads an F32 tensor `[rows, W]`.
    ///
    /// # Errors
    /// As [`Columns::bytes`]. [`Error::Format`] for a value that is not finite.
    pub fn floats<const W: usize>(&self, name: &str) -> Result<Vec<[f32; W]>> {
        let values = words(self.bytes(name, Dtype::F32, &[W])?, f32::from_le_bytes);
        if let Some(i) = values.iter().position(|x| !x.is_finite()) {
            let (value, row) = (values[i], i / W);
            let reason = format!("`{name}` is {value} at row {row}: expected a finite value");
            return Err(self.refuse(reason));
        }
        Ok(values.as_chunks().0.to_vec())
    }

    /// Reads an I32 tensor `[rows, row...]`.
    ///
    /// # Errors
    /// As [`Columns::bytes`].
    pub fn integers(&self, name: &str, row: &[usize]) -> Result<Vec<i32>> {
        Ok(words(
            self.bytes(name, Dtype::I32, row)?,
            i32::from_le_bytes,
        ))
    }
}

fn words<T>(bytes: &[u8], from_le: fn([u8; 4]) -> T) -> Vec<T> {
    let words = bytes.as_chunks().0.iter();
    words.map(|&word| from_le(word)).collect()
}

fn missing(file: &str, name: &str) -> Error {
    Error::MissingTensor {
        file: file.into(),
        name: name.into(),
    }
}

fn refuse(file: &str, reason: impl Into<String>) -> Error {
    Error::Format {
        file: file.into(),
        reason: reason.into(),
    }
}
