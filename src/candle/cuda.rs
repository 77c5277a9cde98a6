//! The CUDA backend of the layers: candle's context, stream and memory.

use super::rows::Rows;
use crate::cuda::{DeviceMatMut, DeviceMatRef, DeviceVecRef, DeviceWeight, Gemm, Gpu, Workspace};
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
    /// The workspace, with the largest M and K that it supports.
    workspace: Mutex<Option<(Workspace, usize, usize)>>,
}

/// The operands of a layer on a device.
#[derive(Debug)]
pub(super) struct Loaded {
    weight: DeviceWeight,
    bias: Option<CudaSlice<f32>>, // [N]
}

impl Place {
    pub fn new(device: &CudaDevice) -> Result<Self> {
        let stream = device.cuda_stream();
        let gpu = Gpu::with_context(stream.context().clone())?;
        Ok(Self {
            gpu,
            device: device.clone(),
            stream,
            workspace: Mutex::new(None),
        })
    }

    pub fn load(&self, weight: &PackedWeight, bias: Option<&[f32]>) -> Result<Loaded> {
        let bias = bias
            .map(|bias| self.stream.clone_htod(bias))
            .transpose()
            .map_err(Error::wrap)?;
        Ok(Loaded {
            weight: self.gpu.upload(weight)?,
            bias,
        })
    }

    /// Runs a layer. Returns `y[M, N]` in memory of candle's stream.
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
        // SAFETY: the GEMM writes all m * n elements, in stream order before any read. (The element
        // for M = 0 is not read.)
        let mut y = unsafe { self.device.alloc::<bf16>((m * n).max(1)) }?;
        let mut workspace = self
            .workspace
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (max_m, max_k) = workspace.as_ref().map_or((0, 0), |(_, m, k)| (*m, *k));
        if m > max_m || k > max_k {
            let (m, k) = (m.max(max_m), k.max(max_k));
            // The memory of the previous workspace is freed in stream order.
            *workspace = Some((self.gpu.workspace(&self.stream, m, k)?, m, k));
        }
        if let Some((workspace, ..)) = workspace.as_mut() {
            // A view of candle's memory on candle's stream: `run` rejects memory of another stream.
            let x = DeviceMatRef::with_stride(x.slice(rows.start..), m, k, rows.stride)?;
            let bias = (of.bias.as_ref())
                .map(|bias| DeviceVecRef::new(bias.as_view(), n))
                .transpose()?;
            let gemm = Gemm::new(&x, &of.weight, width).bias(bias.as_ref());
            let mut y = DeviceMatMut::new(y.as_view_mut(), m, n)?;
            self.gpu.run(&self.stream, &gemm, &mut y, workspace)?;
        }
        Ok(CudaStorage::wrap_cuda_slice(y, self.device.clone()))
    }
}
