//! What computes the quantised layers: the CPU or, with feature `cuda`, a GPU.

use half::bf16;
use w4ax::cpu::{self, Cpu};
use w4ax::{Error, MatMut, MatRef, PackedWeight, Precision, Result};

/// Where layers are computed.
#[derive(Clone)]
pub enum Compute {
    /// On the CPU.
    Cpu(Cpu),
    /// On a GPU: weights stay there, activations come and go at every layer.
    #[cfg(feature = "cuda")]
    Cuda(w4ax::cuda::Gpu),
}

impl From<Cpu> for Compute {
    fn from(cpu: Cpu) -> Self {
        Self::Cpu(cpu)
    }
}

impl std::fmt::Debug for Compute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu(cpu) => cpu.fmt(f),
            #[cfg(feature = "cuda")]
            Self::Cuda(gpu) => gpu.fmt(f),
        }
    }
}

impl Compute {
    /// The first GPU.
    ///
    /// # Errors
    /// [`Error::Backend`] if there is none, or the program was built without feature `cuda`.
    #[cfg(feature = "cuda")]
    pub fn cuda() -> Result<Self> {
        w4ax::cuda::Gpu::new(0).map(Self::Cuda)
    }

    /// The first GPU: an error in this build, which has no feature `cuda`.
    ///
    /// # Errors
    /// [`Error::Backend`].
    #[cfg(not(feature = "cuda"))]
    pub fn cuda() -> Result<Self> {
        Err(Error::Backend {
            asked: "cuda".into(),
            reason: "this program was built without it: build it with --features cuda".into(),
        })
    }

    /// A weight, where it will be read.
    ///
    /// # Errors
    /// As `Gpu::upload`.
    pub fn layer(&self, packed: PackedWeight) -> Result<Layer> {
        Ok(Layer {
            #[cfg(feature = "cuda")]
            device: match self {
                Self::Cpu(_) => None,
                Self::Cuda(gpu) => Some(gpu.upload(&packed)?),
            },
            packed,
        })
    }

    /// All that layers of up to `widest` inputs and outputs need, for up to `rows` rows.
    ///
    /// # Errors
    /// [`Error::Cuda`] if a GPU has no memory for it.
    pub fn engine(self, rows: usize, widest: usize) -> Result<Engine> {
        match self {
            Self::Cpu(cpu) => {
                let workspace = cpu.workspace(rows, widest);
                Ok(Engine::Cpu(cpu, workspace))
            }
            #[cfg(feature = "cuda")]
            Self::Cuda(gpu) => Ok(Engine::Cuda(Box::new(cuda::Engine::new(
                gpu, rows, widest,
            )?))),
        }
    }
}

/// A weight, where it is read.
pub struct Layer {
    /// On the host.
    pub packed: PackedWeight,
    #[cfg(feature = "cuda")]
    device: Option<w4ax::cuda::DeviceWeight>,
}

/// Computes layers; nothing is allocated on the way.
pub enum Engine {
    /// On the CPU.
    Cpu(Cpu, cpu::Workspace),
    /// On a GPU.
    #[cfg(feature = "cuda")]
    Cuda(Box<cuda::Engine>),
}

impl Engine {
    /// What computes.
    pub fn compute(&self) -> Compute {
        match self {
            Self::Cpu(cpu, _) => Compute::Cpu(cpu.clone()),
            #[cfg(feature = "cuda")]
            Self::Cuda(engine) => Compute::Cuda(engine.gpu.clone()),
        }
    }

    /// `y[rows, N] = x[rows, K] * W^T` at a width.
    ///
    /// # Errors
    /// As [`Cpu::gemm`] or `Gpu::gemm`.
    pub fn gemm(
        &mut self,
        rows: usize,
        x: &[bf16],
        layer: &Layer,
        width: Precision,
        y: &mut [bf16],
    ) -> Result<()> {
        let w = &layer.packed;
        match self {
            Self::Cpu(cpu, workspace) => {
                let x = MatRef::new(x, rows, w.k())?;
                let y = MatMut::new(y, rows, w.n())?;
                cpu.gemm(x, w, width, None, y, workspace)
            }
            #[cfg(feature = "cuda")]
            Self::Cuda(engine) => {
                let weight = layer.device.as_ref().ok_or_else(|| Error::Place {
                    what: "layer",
                    expected: "a layer on the GPU".into(),
                    got: "one on the host".into(),
                })?;
                engine.gemm(rows, x, weight, width, y)
            }
        }
    }
}

#[cfg(feature = "cuda")]
pub mod cuda {
    //! The GPU's engine: one stream, x and y on the device.

    use super::*;
    use std::sync::Arc;
    use w4ax::cuda::cudarc::driver::{CudaSlice, CudaStream, DriverError};
    use w4ax::cuda::{DeviceMatMut, DeviceMatRef, DeviceWeight, Gemm, Gpu, Workspace};

    /// A stream of a GPU with its memory.
    pub struct Engine {
        pub(super) gpu: Gpu,
        stream: Arc<CudaStream>,
        x: CudaSlice<bf16>,
        y: CudaSlice<bf16>,
        workspace: Workspace,
    }

    fn failed(call: &'static str) -> impl Fn(DriverError) -> Error {
        move |error| Error::Cuda {
            call,
            reason: error.to_string(),
        }
    }

    impl Engine {
        pub(super) fn new(gpu: Gpu, rows: usize, widest: usize) -> Result<Self> {
            let stream = gpu.context().new_stream().map_err(failed("new stream"))?;
            let memory = || {
                stream
                    .alloc_zeros(rows * widest)
                    .map_err(failed("allocating"))
            };
            let (x, y) = (memory()?, memory()?);
            Ok(Self {
                workspace: gpu.workspace(&stream, rows, widest)?,
                x,
                y,
                stream,
                gpu,
            })
        }

        pub(super) fn gemm(
            &mut self,
            rows: usize,
            x: &[bf16],
            weight: &DeviceWeight,
            width: Precision,
            y: &mut [bf16],
        ) -> Result<()> {
            let (n, k) = (weight.n(), weight.k());
            let (x, y) = (&x[..rows * k], &mut y[..rows * n]);
            let stream = &self.stream;
            stream
                .memcpy_htod(x, &mut self.x)
                .map_err(failed("copying x"))?;
            {
                let x = DeviceMatRef::new(self.x.as_view(), rows, k)?;
                let mut y = DeviceMatMut::new(self.y.as_view_mut(), rows, n)?;
                let gemm = Gemm::new(&x, weight, width);
                self.gpu.gemm(stream, &gemm, &mut y, &mut self.workspace)?;
            }
            let result = self.y.slice(..rows * n);
            stream
                .memcpy_dtoh(&result, y)
                .map_err(failed("copying y"))?;
            stream.synchronize().map_err(failed("waiting for y"))
        }
    }
}
