//! The linear layer.

use super::device::{BackendDevice, DeviceLayer};
use super::rows::Rows;
use super::width::LayerWidth;
use crate::{Gemm, MatMut, MatRef, Width, WidthSource};
use candle_core::{CpuStorage, CustomOp1, Layout, Module, Result, Shape, Tensor};
use half::bf16;
use std::sync::Arc;

/// A linear layer with a packed weight, created by [`Backend::linear`](super::Backend::linear).
/// Clones share the weight.
///
/// The layers of a quantized checkpoint:
///
/// ```
/// use candle_core::Device;
/// use std::collections::BTreeMap;
/// use w4ax::candle::Backend;
/// use w4ax::checkpoint::Checkpoint;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let checkpoint = Checkpoint::open("tests/data/checkpoints/gptq_v2_desc_act")?;
/// let backend = Backend::new(&Device::Cpu)?;
/// let mut layers = BTreeMap::new();
/// for module in checkpoint.quantized() {
///     layers.insert(module, backend.linear(checkpoint.weight(module)?, None)?);
/// }
/// assert_eq!(layers["model.a"].k(), 136);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Linear {
    device: Arc<BackendDevice>,
    layer: Arc<DeviceLayer>,
    n: usize,
    k: usize,
    bytes: usize,
    width: LayerWidth,
}

impl Linear {
    /// Creates a layer of a weight `[n, k]` that takes `bytes`.
    pub(super) fn new(
        device: Arc<BackendDevice>,
        layer: DeviceLayer,
        (n, k): (usize, usize),
        bytes: usize,
    ) -> Self {
        Self {
            device,
            layer: Arc::new(layer),
            n,
            k,
            bytes,
            width: LayerWidth::Fixed(Width::Bf16),
        }
    }

    pub(super) fn device(&self) -> &Arc<BackendDevice> {
        &self.device
    }

    pub(super) fn layer(&self) -> &DeviceLayer {
        &self.layer
    }

    /// Sets the width of the layer: a [`Width`], an `Arc<StepFlag>` or, with feature `candle-cuda`,
    /// an `Arc<Latch>`.
    #[must_use]
    pub fn with_width(mut self, width: impl Into<LayerWidth>) -> Self {
        self.width = width.into();
        self
    }

    /// Returns N, the number of output channels.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Returns K, the number of inputs.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Returns the packed size of the weight in bytes ([`PackedWeight::packed_bytes`]).
    ///
    /// [`PackedWeight::packed_bytes`]: crate::PackedWeight::packed_bytes
    pub fn packed_bytes(&self) -> usize {
        self.bytes
    }

    /// Returns `y[.., N]` of `x[.., K]`, both BF16, at `width` instead of the layer's own width.
    ///
    /// # Errors
    /// - If x is not BF16, is on another device, or its last dimension is not K.
    /// - If the last dimension of x is not contiguous, or its rows are not at a fixed stride.
    pub fn forward_at(&self, x: &Tensor, width: Width) -> Result<Tensor> {
        self.run(x, width.into())
    }

    fn run(&self, x: &Tensor, width: WidthSource<'_>) -> Result<Tensor> {
        let op = LinearOp {
            linear: self,
            width,
        };
        x.apply_op1_no_bwd(&op)
    }
}

impl Module for Linear {
    /// Runs at the layer's own width. Errors as [`Linear::forward_at`].
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x, self.width.source())
    }
}

/// One call of a layer.
struct LinearOp<'a> {
    linear: &'a Linear,
    width: WidthSource<'a>,
}

impl LinearOp<'_> {
    /// Returns the shape of y for the layout of x.
    fn y_shape(&self, layout: &Layout) -> Shape {
        let mut dims = layout.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = self.linear.n;
        }
        Shape::from(dims)
    }
}

impl CustomOp1 for LinearOp<'_> {
    fn name(&self) -> &'static str {
        "w4ax-linear"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, k) = (self.linear.n, self.linear.k);
        let CpuStorage::BF16(x) = storage else {
            candle_core::bail!(
                "x: expected BF16, got {:?}",
                candle_core::backend::BackendStorage::dtype(storage)
            )
        };
        let rows = Rows::of(layout, k)?;
        #[allow(irrefutable_let_patterns)]
        // The enums have more variants with feature `candle-cuda`.
        let (BackendDevice::Cpu(device), DeviceLayer::Cpu { weight, bias }) =
            (&*self.linear.device, &*self.linear.layer)
        else {
            candle_core::bail!("x is on the CPU: expected the device of the layer")
        };
        let m = rows.rows;
        let mut y = vec![bf16::ZERO; m * n]; // [m, n]
        let x = MatRef::with_stride(&x[rows.start..], m, k, rows.stride)?; // [m, k]
        let gemm = Gemm::new(x, weight, self.width).bias(bias.as_deref());
        device.with_workspace(m, k, |workspace| {
            device.cpu.run(&gemm, MatMut::new(&mut y, m, n)?, workspace)
        })?;
        Ok((CpuStorage::BF16(y), self.y_shape(layout)))
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        let (BackendDevice::Cuda(place), DeviceLayer::Cuda(layer)) =
            (&*self.linear.device, &*self.linear.layer)
        else {
            candle_core::bail!("x is on a CUDA device: expected the device of the layer")
        };
        let rows = Rows::of(layout, self.linear.k)?;
        let y = place.run(layer, storage, &rows, self.width)?;
        Ok((y, self.y_shape(layout)))
    }
}
