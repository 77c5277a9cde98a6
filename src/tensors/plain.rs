//! The values of a plain tensor.

use super::TensorFile;
use crate::{Error, Result};
use half::{bf16, f16};
use safetensors::tensor::Dtype;

/// A tensor in memory, in its stored type.
#[derive(Clone, Debug, PartialEq)]
pub struct PlainTensor {
    /// The size of each dimension.
    pub shape: Vec<usize>,
    /// The values in row-major order.
    pub values: PlainValues,
}

/// The values of a tensor in row-major order.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PlainValues {
    /// BF16.
    Bf16(Vec<bf16>),
    /// F16.
    F16(Vec<f16>),
    /// F32.
    F32(Vec<f32>),
    /// The bytes of any other type, little-endian.
    Other(Dtype, Vec<u8>),
}

impl PlainTensor {
    /// Returns the type of the values.
    pub fn dtype(&self) -> Dtype {
        match self.values {
            PlainValues::Bf16(_) => Dtype::BF16,
            PlainValues::F16(_) => Dtype::F16,
            PlainValues::F32(_) => Dtype::F32,
            PlainValues::Other(dtype, _) => dtype,
        }
    }
}

impl TensorFile {
    /// Reads a tensor.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] if the file has no tensor of that name; [`Error::Io`].
    pub fn tensor(&self, name: &str) -> Result<PlainTensor> {
        let info = self.info(name).ok_or_else(|| Error::MissingTensor {
            file: self.name(),
            name: name.into(),
        })?;
        let values = match info.dtype {
            Dtype::BF16 => PlainValues::Bf16(self.read(name)?),
            Dtype::F16 => PlainValues::F16(self.read(name)?),
            Dtype::F32 => PlainValues::F32(self.read(name)?),
            dtype => PlainValues::Other(dtype, self.read(name)?),
        };
        Ok(PlainTensor {
            shape: info.shape.clone(),
            values,
        })
    }
}
