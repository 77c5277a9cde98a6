//! The device on which layers run.

#[cfg(feature = "candle-cuda")]
use super::cuda;
use super::linear::{DeviceLayer, Linear};
use crate::PackedWeight;
use crate::cpu::{Cpu, Workspace};
use candle_core::{DType, Device, Result, Tensor};
use std::sync::{Arc, Mutex, PoisonError};

/// One of candle's devices with the workspaces of its layers. Clones share them.
///
/// Layers may run on several threads at once. On the CPU, each running call uses a workspace of its
/// own. On CUDA, the calls are enqueued in order on one stream.
#[derive(Clone, Debug)]
pub struct Backend(pub(super) Arc<BackendDevice>);

#[derive(Debug)]
pub(super) enum BackendDevice {
    Cpu(CpuDevice),
    #[cfg(feature = "candle-cuda")]
    Cuda(cuda::Place),
}

/// The CPU, and the workspaces that no call uses at present.
#[derive(Debug)]
pub(super) struct CpuDevice {
    pub cpu: Cpu,
    workspaces: Mutex<Vec<Workspace>>,
}

impl CpuDevice {
    /// Calls `run` with a workspace for `m` rows of `k` inputs.
    ///
    /// Each running call has a workspace of its own. A call that waited for another call's
    /// workspace could wait for itself, because a thread of rayon may start the second call while
    /// the first one's tasks run.
    pub fn with_workspace(
        &self,
        m: usize,
        k: usize,
        run: impl FnOnce(&mut Workspace) -> crate::Result<()>,
    ) -> crate::Result<()> {
        let spare = || {
            self.workspaces
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        let last = spare().pop();
        let (max_m, max_k) = last.as_ref().map_or((0, 0), Workspace::sizes);
        let mut workspace = match last {
            Some(large_enough) if m <= max_m && k <= max_k => large_enough,
            _ => self.cpu.workspace(m.max(max_m), k.max(max_k))?,
        };
        let result = run(&mut workspace);
        spare().push(workspace);
        result
    }
}

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
        Self(Arc::new(BackendDevice::Cpu(CpuDevice {
            cpu,
            workspaces: Mutex::default(),
        })))
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
                Ok(Linear::new(self.clone(), layer, n, k))
            }
            #[cfg(feature = "candle-cuda")]
            BackendDevice::Cuda(place) => {
                let layer = DeviceLayer::Cuda(place.load(&weight, bias.as_deref())?);
                Ok(Linear::new(self.clone(), layer, n, k))
            }
        }
    }
}
