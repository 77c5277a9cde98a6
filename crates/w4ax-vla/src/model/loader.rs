//! Loads layers from a source of weights onto a device.

use super::AnyLinear;
use crate::checkpoint::{StoredWeight, WeightSource};
use crate::{Result, VlaError, ops};
use candle_core::{DType, Device, Tensor};
use std::cell::Cell;
use w4ax::Width;
use w4ax::candle::{Backend, LayerWidth};

/// Loads tensors and layers of one source onto one device.
///
/// Weights keep their stored type, BF16 or F32. Activations have the type of the loader.
pub struct Loader<'a> {
    source: &'a dyn WeightSource,
    backend: Backend,
    device: Device,
    dtype: DType,
    width: LayerWidth,
    bytes: Cell<u64>,
}

impl<'a> Loader<'a> {
    /// Creates a loader for activations of a type, F32 or BF16. Packed weights run at
    /// [`Width::Bf16`] unless a width is set.
    ///
    /// # Errors
    /// If the type is another one, or the device is not supported.
    pub fn new(source: &'a dyn WeightSource, device: &Device, dtype: DType) -> Result<Self> {
        if !matches!(dtype, DType::F32 | DType::BF16) {
            return Err(VlaError::Input {
                what: "type of the activations",
                got: format!("{dtype:?}"),
                expected: "F32 or BF16".into(),
            });
        }
        Ok(Self {
            source,
            backend: Backend::new(device)?,
            device: device.clone(),
            dtype,
            width: Width::Bf16.into(),
            bytes: Cell::new(0),
        })
    }

    /// Sets the width of packed layers that are loaded from now on.
    #[must_use]
    pub fn with_width(mut self, width: impl Into<LayerWidth>) -> Self {
        self.width = width.into();
        self
    }

    /// Returns the device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Returns the type of the activations.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Returns the bytes that were loaded so far. A difference of two calls is the size of a part.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    fn count(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes as u64);
    }

    /// Returns the source.
    pub fn source(&self) -> &'a dyn WeightSource {
        self.source
    }

    /// Returns the shape of a tensor that must exist.
    ///
    /// # Errors
    /// [`VlaError::MissingTensor`].
    pub fn shape(&self, tensor: &str) -> Result<Vec<usize>> {
        let missing = || VlaError::MissingTensor {
            file: self.source.name(),
            name: tensor.into(),
        };
        self.source.shape(tensor).ok_or_else(missing)
    }

    /// Loads a tensor in its stored type.
    ///
    /// # Errors
    /// As [`WeightSource::tensor`].
    pub fn tensor(&self, tensor: &str, shape: &[usize]) -> Result<Tensor> {
        self.place(self.source.tensor(tensor, shape)?)
    }

    fn place(&self, tensor: Tensor) -> Result<Tensor> {
        self.count(tensor.elem_count() * tensor.dtype().size_in_bytes());
        Ok(tensor.to_device(&self.device)?)
    }

    /// Loads the linear layer `module` with `n` outputs and `k` inputs, plain or packed. With
    /// `bias`, the tensor `module.bias` is its bias.
    ///
    /// # Errors
    /// As [`WeightSource::weight`].
    pub fn linear(&self, module: &str, n: usize, k: usize, bias: bool) -> Result<AnyLinear> {
        let bias = bias
            .then(|| self.tensor(&format!("{module}.bias"), &[n]))
            .transpose()?;
        Ok(match self.source.weight(module, n, k)? {
            StoredWeight::Plain(weight) => {
                AnyLinear::Plain(ops::Linear::new(self.place(weight)?, bias)?)
            }
            StoredWeight::Packed(weight) => {
                self.count(weight.packed_bytes());
                let linear = self.backend.linear(weight, bias.as_ref())?;
                AnyLinear::Packed(linear.with_width(self.width.clone()))
            }
        })
    }
}
