//! The factory of layers on one device.

#[cfg(feature = "candle-cuda")]
use super::cuda;
use super::device::{BackendDevice, CpuDevice, DeviceLayer};
use super::linear::Linear;
use crate::PackedWeight;
use crate::cpu::Cpu;
use candle_core::{DType, Device, Result, Tensor};
use std::sync::Arc;

/// One of candle's devices with the workspaces of its layers. Clones share them.
///
/// Layers may run on several threads at once. On the CPU, each running call uses a workspace of its
/// own. On CUDA, the calls are enqueued in order on one stream.
#[derive(Clone, Debug)]
pub struct Backend(Arc<BackendDevice>);

impl Backend {
    /// Creates a backend on the CPU, as [`Cpu::new`], or on a CUDA device of candle.
    ///
    /// # Errors
    /// - As [`Cpu::new`], as candle's error.
    /// - If the device is a Metal device, or a CUDA device without feature `candle-cuda`.
    pub fn new(device: &Device) -> Result<Self> {
        match device {
            Device::Cpu => Ok(Self::on_cpu(Cpu::new()?)),
            #[cfg(feature = "candle-cuda")]
            Device::Cuda(device) => {
                let device = BackendDevice::Cuda(cuda::Place::new(device)?);
                Ok(Self(Arc::new(device)))
            }
            other => candle_core::bail!("unsupported device {:?}", other.location()),
        }
    }

    /// Creates a backend on the CPU with the instruction set and the pool of `cpu`.
    pub fn on_cpu(cpu: Cpu) -> Self {
        Self(Arc::new(BackendDevice::Cpu(CpuDevice::new(cpu))))
    }

    /// Creates a layer `y[.., N] = x[.., K] * W[N, K]^T + bias[N]`, whose width is BF16. The bias
    /// may have any float type.
    ///
    /// A weight with an order of k ([`PackedWeight::order`]) gathers x in each call.
    ///
    /// # Errors
    /// If the shape of the bias is not `[N]`, or the device has no memory for the weight.
    pub fn linear(&self, weight: PackedWeight, bias: Option<&Tensor>) -> Result<Linear> {
        let (n, k) = (weight.n(), weight.k());
        let bytes = weight.packed_bytes();
        let bias = match bias {
            Some(bias) if bias.dims() != [n] => {
                candle_core::bail!("bias: expected [{n}], got {:?}", bias.dims())
            }
            Some(bias) => Some(bias.to_dtype(DType::F32)?.to_vec1::<f32>()?),
            None => None,
        };
        match &*self.0 {
            BackendDevice::Cpu(_) => {
                let layer = DeviceLayer::Cpu { weight, bias };
                Ok(Linear::new(self.0.clone(), layer, (n, k), bytes))
            }
            #[cfg(feature = "candle-cuda")]
            BackendDevice::Cuda(place) => {
                let layer = DeviceLayer::Cuda(place.load(&weight, bias.as_deref())?);
                Ok(Linear::new(self.0.clone(), layer, (n, k), bytes))
            }
        }
    }
}
