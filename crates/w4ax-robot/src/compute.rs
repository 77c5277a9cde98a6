//! What computes the quantized layers: the CPU or, with feature `cuda`, a GPU.

use half::bf16;
use std::time::Duration;
use w4ax::cpu::{self, Cpu};
use w4ax::step::{HostLatch, StepFlag};
use w4ax::{Error, Gemm, MatMut, MatRef, PackedWeight, Result, Width};

use super::hidden::widen;

/// Where layers are computed.
#[derive(Clone)]
pub enum Compute {
    /// On the CPU.
    Cpu(Cpu),
    /// On a GPU: weights stay there, activations come and go at every layer.
    #[cfg(feature = "cuda")]
    Cuda(w4ax::cuda::Gpu, Routing),
}

/// Who branches on the width of a step on a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Routing {
    /// Each kernel, by what the latch has read.
    #[default]
    Kernel,
    /// A graph for each layer, by its conditional nodes.
    Graph,
    /// The host: it reads the flag, and launches the kernels of that width.
    Host,
}

/// The width of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepWidth {
    /// This one.
    Fixed(Width),
    /// What the step's latch has read.
    Latched,
}

impl From<Width> for StepWidth {
    fn from(width: Width) -> Self {
        Self::Fixed(width)
    }
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
            Self::Cuda(gpu, routing) => write!(f, "{gpu:?}, routed by {routing:?}"),
        }
    }
}

impl Compute {
    /// The first GPU.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if there is none, or the program was built without feature `cuda`.
    #[cfg(feature = "cuda")]
    pub fn cuda(routing: Routing) -> Result<Self> {
        Ok(Self::Cuda(w4ax::cuda::Gpu::new(0)?, routing))
    }

    /// The first GPU: an error in this build, which has no feature `cuda`.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    #[cfg(not(feature = "cuda"))]
    pub fn cuda(_: Routing) -> Result<Self> {
        Err(Error::Unavailable {
            requested: "cuda".into(),
            reason: w4ax::Unavailable::NoFeature { feature: "cuda" },
        })
    }

    /// A packed weight, where it will be read.
    ///
    /// # Errors
    /// As `Gpu::upload`.
    pub fn layer(&self, packed: PackedWeight) -> Result<Layer> {
        Ok(Layer {
            #[cfg(feature = "cuda")]
            device: match self {
                Self::Cpu(_) => None,
                Self::Cuda(gpu, _) => Some(std::sync::Arc::new(gpu.upload(&packed)?)),
            },
            weight: Weight::Packed(packed),
        })
    }

    /// All that layers of up to `widest` inputs and outputs need, for up to `rows` rows.
    ///
    /// # Errors
    /// [`Error::Cuda`] if a GPU has no memory for it.
    pub fn engine(self, rows: usize, widest: usize) -> Result<Engine> {
        match self {
            Self::Cpu(cpu) => {
                let workspace = cpu.workspace(rows, widest)?;
                Ok(Engine::Cpu(cpu, workspace, HostSteps::new()))
            }
            #[cfg(feature = "cuda")]
            Self::Cuda(gpu, routing) => Ok(Engine::Cuda(Box::new(cuda::Engine::new(
                gpu, routing, rows, widest,
            )?))),
        }
    }
}

/// A weight, where it is read.
pub struct Layer {
    weight: Weight,
    #[cfg(feature = "cuda")]
    device: Option<std::sync::Arc<w4ax::cuda::DeviceWeight>>,
}

enum Weight {
    Packed(PackedWeight),
    /// `[n][k]`: a BF16 weight's values, for the unquantized policy that others are compared with.
    Plain {
        n: usize,
        k: usize,
        data: Vec<f32>,
    },
}

impl Layer {
    /// A weight that is not quantized: whatever the width is, it is multiplied as it is, on the host.
    pub fn plain(weight: MatRef<'_, bf16>) -> Self {
        let (n, k) = (weight.rows(), weight.cols());
        let data = (0..n).flat_map(|row| weight.row(row).iter().map(|w| w.to_f32()));
        Self {
            weight: Weight::Plain {
                n,
                k,
                data: data.collect(),
            },
            #[cfg(feature = "cuda")]
            device: None,
        }
    }

    /// N and K.
    pub fn shape(&self) -> (usize, usize) {
        match &self.weight {
            Weight::Packed(w) => (w.n(), w.k()),
            Weight::Plain { n, k, .. } => (*n, *k),
        }
    }

    /// Bytes of the weight, scales included; of a plain one, in BF16.
    pub fn bytes(&self) -> usize {
        match &self.weight {
            Weight::Packed(w) => w.packed_bytes(),
            Weight::Plain { data, .. } => data.len() * size_of::<bf16>(),
        }
    }
}

/// `x . w` in f32, by sixteen sums, which fit the vector registers.
fn dot(x: &[bf16], w: &[f32]) -> f32 {
    let f32 = |x: &bf16| widen(*x);
    let ((x, x_rest), (w, w_rest)) = (x.as_chunks::<16>(), w.as_chunks::<16>());
    let mut sums = [0.0; 16];
    for (x, w) in x.iter().zip(w) {
        for (sum, (x, w)) in sums.iter_mut().zip(x.iter().zip(w)) {
            *sum += f32(x) * w;
        }
    }
    let rest = x_rest.iter().zip(w_rest).map(|(x, w)| f32(x) * w);
    sums.iter().sum::<f32>() + rest.sum::<f32>()
}

/// Steps whose flag is read on the host.
pub struct HostSteps {
    words: Box<StepFlag>,
    latch: HostLatch,
}

impl HostSteps {
    fn new() -> Self {
        Self {
            words: Box::new(StepFlag::new()),
            latch: HostLatch::new(0),
        }
    }

    fn latch(&mut self) {
        self.latch.latch(&self.words, Duration::ZERO);
    }

    /// What a layer runs at.
    fn width(&self, width: StepWidth) -> Width {
        match width {
            StepWidth::Fixed(width) => width,
            StepWidth::Latched => self.latch.width(),
        }
    }
}

/// Computes layers; nothing is allocated on the way.
pub enum Engine {
    /// On the CPU.
    Cpu(Cpu, cpu::Workspace, HostSteps),
    /// On a GPU.
    #[cfg(feature = "cuda")]
    Cuda(Box<cuda::Engine>),
}

impl Engine {
    /// What computes.
    pub fn compute(&self) -> Compute {
        match self {
            Self::Cpu(cpu, ..) => Compute::Cpu(cpu.clone()),
            #[cfg(feature = "cuda")]
            Self::Cuda(engine) => Compute::Cuda(engine.gpu.clone(), engine.routing),
        }
    }

    /// The words of the control step: the requested width, and the one that was latched.
    pub fn words(&self) -> &StepFlag {
        match self {
            Self::Cpu(_, _, steps) => &steps.words,
            #[cfg(feature = "cuda")]
            Self::Cuda(engine) => engine.words(),
        }
    }

    /// Begins the next step: latches the width that the flag holds.
    ///
    /// # Errors
    /// As `Gpu::begin_step`.
    pub fn latch(&mut self) -> Result<()> {
        match self {
            Self::Cpu(_, _, steps) => {
                steps.latch();
                Ok(())
            }
            #[cfg(feature = "cuda")]
            Self::Cuda(engine) => engine.latch(),
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
        width: StepWidth,
        y: &mut [bf16],
    ) -> Result<()> {
        let (n, k) = layer.shape();
        let w = match &layer.weight {
            Weight::Packed(w) => w,
            Weight::Plain { data, .. } => {
                let (x, mut y) = (MatRef::new(x, rows, k)?, MatMut::new(y, rows, n)?);
                for row in 0..rows {
                    let places = y.row_mut(row).iter_mut();
                    for (y, w) in places.zip(data.chunks(k)) {
                        *y = bf16::from_f32(dot(x.row(row), w));
                    }
                }
                return Ok(());
            }
        };
        match self {
            Self::Cpu(cpu, workspace, steps) => {
                let width = steps.width(width);
                let x = MatRef::new(x, rows, k)?;
                let y = MatMut::new(y, rows, n)?;
                cpu.run(&Gemm::new(x, w, width), y, workspace)
            }
            #[cfg(feature = "cuda")]
            Self::Cuda(engine) => {
                let weight = layer.device.as_ref().ok_or_else(|| Error::DeviceMismatch {
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
pub mod cuda;
