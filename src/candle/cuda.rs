//! The CUDA half: candle's context, stream and memory.

use super::rows::Rows;
use crate::cuda::{DeviceMatMut, DeviceMatRef, DeviceWeight, Gemm, Gpu, Workspace};
use crate::{PackedWeight, WidthSource};
use candle_core::cuda_backend::CudaStorageSlice;
use candle_core::{CudaDevice, CudaStorage, Error, Result};
use cudarc::driver::{CudaSlice, CudaStream};
use half::bf16;
use std::sync::{Arc, Mutex, PoisonError};

/// A device with the workspace of its stream.
#[derive(Debug)]
pub(super) struct Place {
    gpu: Gpu,
    device: CudaDevice,
    stream: Arc<CudaStream>,
    /// With the most tokens and inputs that it has room for.
    workspace: Mutex<Option<(Workspace, usize, usize)>>,
}

/// A layer's part of a device.
#[derive(Debug)]
pub(super) struct Loaded {
    weight: DeviceWeight,
    bias: Option<CudaSlice<f32>>,
}

impl Place {
    pub fn new(device: &CudaDevice) -> Result<Self> {
        let stream = device.cuda_stream();
        let gpu = Gpu::with_context(stream.context().clone()).map_err(Error::wrap)?;
        Ok(Self {
            gpu,
            device: device.clone(),
            stream,
            workspace: Mutex::new(None),
        })
    }

    pub fn device(&self) -> &CudaDevice {
        &self.device
    }

    pub fn load(&self, weight: &PackedWeight, bias: Option<&[f32]>) -> Result<Loaded> {
        let bias = bias
            .map(|bias| self.stream.clone_htod(bias))
            .transpose()
            .map_err(Error::wrap)?;
        Ok(Loaded {
            weight: self.gpu.upload(weight).map_err(Error::wrap)?,
            bias,
        })
    }

    /// `y[M, N]` in memory of candle's stream.
    pub fn run(
        &self,
        of: &Loaded,
        storage: &CudaStorage,
        rows: &Rows,
        width: WidthSource<'_>,
    ) -> Result<CudaStorage> {
        let CudaStorageSlice::BF16(x) = &storage.slice else {
            candle_core::bail!(
                "x: expected BF16, got {:?}",
                candle_core::backend::BackendStorage::dtype(storage)
            )
        };
        let (m, n, k) = (rows.rows, of.weight.n(), of.weight.k());
        // SAFETY: the GEMM writes all of it, in the stream's order before whatever reads it. (M = 0: there is nothing of it.)
        let mut y = unsafe { self.device.alloc::<bf16>((m * n).max(1)) }?;
        let mut workspace = self
            .workspace
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (max_m, max_k) = workspace.as_ref().map_or((0, 0), |(_, m, k)| (*m, *k));
        if m > max_m || k > max_k {
            let (m, k) = (m.max(max_m), k.max(max_k));
            // The old one's memory is freed in the stream's order.
            *workspace = Some((
                self.gpu
                    .workspace(&self.stream, m, k)
                    .map_err(Error::wrap)?,
                m,
                k,
            ));
        }
        if let Some((workspace, ..)) = workspace.as_mut() {
            // A view of candle's memory on candle's stream: one on another is refused by the launch.
            let x = DeviceMatRef::with_stride(x.slice(rows.start..), m, k, rows.stride)
                .map_err(Error::wrap)?;
            let bias = of
                .bias
                .as_ref()
                .map(|bias| DeviceMatRef::new(bias.as_view(), 1, n))
                .transpose()
                .map_err(Error::wrap)?;
            let gemm = Gemm::new(&x, &of.weight, width).bias(bias.as_ref());
            let mut to = DeviceMatMut::new(y.as_view_mut(), m, n).map_err(Error::wrap)?;
            self.gpu
                .gemm(&self.stream, &gemm, &mut to, workspace)
                .map_err(Error::wrap)?;
        }
        Ok(CudaStorage::wrap_cuda_slice(y, self.device.clone()))
    }
}
