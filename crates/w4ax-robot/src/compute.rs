//! The backend of the quantized layers: the CPU or, with feature `cuda`, a GPU.

use half::bf16;
use std::time::Duration;
use w4ax::cpu::{self, Cpu};
use w4ax::step::{HostLatch, StepFlag};
use w4ax::{Error, Gemm, MatMut, MatRef, PackedWeight, Result, Width};

use super::hidden::widen;

/// The backend that computes layers.
#[derive(Clone)]
pub enum Compute {
    /// On the CPU.
    Cpu(Cpu),
    /// On a GPU. Weights stay on the device; activations are copied for each layer.
    #[cfg(feature = "cuda")]
    Cuda(w4ax::cuda::Gpu, Routing),
}

/// What selects the kernel of a step's width on a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Routing {
    /// Each kernel reads the latched width.
    #[default]
    Kernel,
    /// The conditional nodes of a graph for each layer.
    Graph,
    /// The host reads the flag, and launches the kernels of that width.
    Host,
}

/// The width of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepWidth {
    /// A fixed width.
    Fixed(Width),
    /// The width of the step's latch.
    Latched,
    /// The width of the step's latch, or this floor if it is wider.
    AtLeast(Width),
}

impl StepWidth {
    /// Returns the width of a layer with a floor in a step of this width.
    pub fn at_least(self, floor: Width) -> Self {
        match self {
            Self::Fixed(width) => Self::Fixed(width.max(floor)),
            // Every width is at least A2.
            Self::Latched if floor == Width::A2 => Self::Latched,
            Self::Latched => Self::AtLeast(floor),
            Self::AtLeast(other) => Self::AtLeast(other.max(floor)),
        }
    }
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
    /// Returns the first GPU.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if there is no GPU.
    #[cfg(feature = "cuda")]
    pub fn cuda(routing: Routing) -> Result<Self> {
        Ok(Self::Cuda(w4ax::cuda::Gpu::new(0)?, routing))
    }

    /// Returns an error: this build does not have feature `cuda`.
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

    /// Places a packed weight on the backend's device.
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

    /// Allocates the buffers for layers of up to `widest` inputs and outputs and `rows` rows.
    ///
    /// # Errors
    /// [`Error::Cuda`] if a GPU is out of memory.
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

/// A weight on the device that reads it.
pub struct Layer {
    weight: Weight,
    #[cfg(feature = "cuda")]
    device: Option<std::sync::Arc<w4ax::cuda::DeviceWeight>>,
}

enum Weight {
    Packed(PackedWeight),
    /// A BF16 weight's values, `[n, k]`, for the unquantized reference policy.
    Plain {
        n: usize,
        k: usize,
        data: Vec<f32>,
    },
}

impl Layer {
    /// A weight that is not quantized. It is multiplied on the host at every width.
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

    /// Returns N and K.
    pub fn shape(&self) -> (usize, usize) {
        match &self.weight {
            Weight::Packed(w) => (w.n(), w.k()),
            Weight::Plain { n, k, .. } => (*n, *k),
        }
    }

    /// Returns the bytes of the weight, scales included. A plain weight counts as BF16.
    pub fn bytes(&self) -> usize {
        match &self.weight {
            Weight::Packed(w) => w.packed_bytes(),
            Weight::Plain { data, .. } => data.len() * size_of::<bf16>(),
        }
    }
}

/// Returns `x . w` in f32. Sixteen partial sums fill the vector registers.
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

/// The flag and the latch of steps that the host routes.
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

    /// Returns the width of a layer.
    fn width(&self, width: StepWidth) -> Width {
        match width {
            StepWidth::Fixed(width) => width,
            StepWidth::Latched => self.latch.width(),
            StepWidth::AtLeast(floor) => self.latch.width().max(floor),
        }
    }
}

/// Computes layers without allocation.
pub enum Engine {
    /// On the CPU.
    Cpu(Cpu, cpu::Workspace, HostSteps),
    /// On a GPU.
    #[cfg(feature = "cuda")]
    Cuda(Box<cuda::Engine>),
}

impl Engine {
    /// Returns the backend.
    pub fn compute(&self) -> Compute {
        match self {
            Self::Cpu(cpu, ..) => Compute::Cpu(cpu.clone()),
            #[cfg(feature = "cuda")]
            Self::Cuda(engine) => Compute::Cuda(engine.gpu.clone(), engine.routing),
        }
    }

    /// Checks that this backend can run layers at [`StepWidth::AtLeast`].
    ///
    /// # Errors
    /// [`Error::Range`] with [`Routing::Kernel`], whose kernels read the latched width alone.
    pub fn check_floors(&self) -> Result<()> {
        match self {
            #[cfg(feature = "cuda")]
            Self::Cuda(engine) if engine.routing == Routing::Kernel => Err(floors_unavailable()),
            _ => Ok(()),
        }
    }

    /// Returns the words of the control step: the requested width and the latched one.
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

    /// Computes `y[rows, N] = x[rows, K] * W[N, K]^T`.
    ///
    /// # Errors
    /// As [`Cpu::run`] or `Gpu::run`.
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
fn floors_unavailable() -> Error {
    Error::Range {
        what: "routing of layers with floors",
        value: "kernel, which reads the latched width alone".into(),
        range: "host or graph",
    }
}

#[cfg(feature = "cuda")]
pub mod cuda;
