//! Tensors of one entry a row, out of a safetensors file: how recordings and datasets are read.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use w4ax::{Error, Result};

/// Reads a whole file; the bytes and what errors call it go to `parse`.
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

/// The tensors of a file whose first dimension is its rows.
pub struct Columns<'a> {
    tensors: SafeTensors<'a>,
    file: &'a str,
    rows: usize,
}

impl<'a> Columns<'a> {
    /// Bytes of a file with as many rows as the tensor `counted` has; `file` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Format`] for bytes that are no safetensors, [`Error::MissingTensor`] if that tensor is not there.
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

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Whether there is such a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.tensor(name).is_ok()
    }

    /// [`Error::Format`] of this file.
    pub fn refuse(&self, reason: impl Into<String>) -> Error {
        refuse(self.file, reason)
    }

    /// The bytes of a tensor, checked to be `[rows, row...]`.
    ///
    /// # Errors
    /// [`Error::MissingTensor`]; [`Error::Format`] for one of another type or shape.
    pub fn bytes(&self, name: &str, dtype: Dtype, row: &[usize]) -> Result<&[u8]> {
        let tensor = self
            .tensors
            .tensor(name)
            .map_err(|_| missing(self.file, name))?;
        let expected = [&[self.rows], row].concat();
        if tensor.dtype() != dtype || tensor.shape() != expected {
            let (got, shape) = (tensor.dtype(), tensor.shape());
            let reason =
                format!("`{name}` must be {dtype:?} {expected:?}, it is {got:?} {shape:?}");
            return Err(self.refuse(reason));
        }
        Ok(tensor.data())
    }

    /// F32 `[rows, W]`.
    ///
    /// # Errors
    /// As [`Columns::bytes`]; [`Error::Format`] for a value that is not finite.
    pub fn floats<const W: usize>(&self, name: &str) -> Result<Vec<[f32; W]>> {
        let values = words(self.bytes(name, Dtype::F32, &[W])?, f32::from_le_bytes);
        if let Some(i) = values.iter().position(|x| !x.is_finite()) {
            let (value, row) = (values[i], i / W);
            let reason = format!("`{name}` is {value} at row {row}, it must be finite");
            return Err(self.refuse(reason));
        }
        Ok(values.as_chunks().0.to_vec())
    }

    /// I32 `[rows, row...]`.
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
