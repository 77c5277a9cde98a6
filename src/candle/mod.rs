//! Linear layers on [candle](https://github.com/huggingface/candle)'s tensors: packed weights in, BF16 tensors through. Features `candle` (CPU)
//! and `candle-cuda` (CUDA as well).
//!
//! ```
//! use candle_core::{DType, Device, Module, Tensor};
//! use w4ax::{Grouping, MatRef, Width, Quantize, candle::Backend};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (n, k) = (96, 256);
//! let plain: Vec<f32> = (0..n * k).map(|i| (i % 13) as f32 / 13.0 - 0.5).collect();
//! let weight = Quantize::new(Grouping::G128).pack(MatRef::new(&plain, n, k)?)?;
//!
//! let backend = Backend::new(&Device::Cpu)?;
//! let linear = backend.linear(weight, None)?.with_width(Width::A8);
//! let x = Tensor::ones((2, 5, k), DType::BF16, &Device::Cpu)?;
//! assert_eq!(linear.forward(&x)?.dims(), [2, 5, n]);
//! // Another width, for this call only.
//! let y = linear.forward_at(&x, Width::A4)?;
//! # assert_eq!(y.dtype(), DType::BF16);
//! # Ok(())
//! # }
//! ```
//!
//! # Widths
//! A layer runs at the width that a call names ([`Linear::forward_at`]), at a fixed one, at that of the running step
//! ([`StepWidth`], one for all layers, set from a [`HostLatch`](crate::step::HostLatch) when a step begins), or, on CUDA, at what
//! a latch holds when the kernel runs. Without any it runs at BF16.
//!
//! # What is copied
//! Nothing, unless the weight has an order of k ([`PackedWeight::order`]): x is read where candle has it, y is written where candle will have it. Rows may be strided; a tensor whose last dimension
//! is not contiguous is an error, and so is one that is not BF16 ([`candle_core::Tensor::contiguous`], [`candle_core::Tensor::to_dtype`]
//! say what they do).
//!
//! On CUDA the launches go to the stream of candle's device, in its context; weights are uploaded when a layer is made.
//!
//! # Skipping layers
//! A decoder of such layers is a [`LayerStack`](crate::skip::LayerStack) whose error is candle's: `?` takes this crate's as well.
//! `tests/candle/stack.rs` has one.

#[cfg(feature = "candle-cuda")]
mod cuda;
mod width;

pub use width::{StepWidth, WidthSource};

use crate::cpu::{Cpu, Workspace};
use crate::{Gemm, MatMut, MatRef, PackedWeight, Width};
use candle_core::{
    CpuStorage, CustomOp1, D, DType, Device, Error, Layout, Module, Result, Shape, Tensor,
};
use half::bf16;
use std::sync::{Arc, Mutex, PoisonError};

/// As [`Error::wrap`] does it: the words stay, the type does not.
impl From<crate::Error> for Error {
    fn from(error: crate::Error) -> Self {
        Self::wrap(error)
    }
}

/// Where layers run: one of candle's devices, with the scratch memory that its layers share. Clones are the same backend.
///
/// Any thread may call, several at once too: on the CPU each call that runs has scratch memory of its own, on CUDA they are
/// enqueued one after the other.
#[derive(Clone, Debug)]
pub struct Backend(Arc<Place>);

#[derive(Debug)]
enum Place {
    Cpu {
        cpu: Cpu,
        /// Those that no call uses now.
        workspaces: Mutex<Vec<Workspace>>,
    },
    #[cfg(feature = "candle-cuda")]
    Cuda(cuda::Place),
}

impl Backend {
    /// The CPU as [`Cpu::new`] has it, or a CUDA device of candle's.
    ///
    /// # Errors
    /// If there is no such backend: [`crate::Error::Backend`] as candle's error; Metal devices, CUDA without the feature `candle-cuda`.
    pub fn new(device: &Device) -> Result<Self> {
        match device {
            Device::Cpu => Ok(Self::on_cpu(Cpu::new()?)),
            #[cfg(feature = "candle-cuda")]
            Device::Cuda(device) => Ok(Self(Arc::new(Place::Cuda(cuda::Place::new(device)?)))),
            other => candle_core::bail!("w4ax has no backend for {:?}", other.location()),
        }
    }

    /// The CPU with an instruction set and a pool of the caller's.
    pub fn on_cpu(cpu: Cpu) -> Self {
        Self(Arc::new(Place::Cpu {
            cpu,
            workspaces: Mutex::default(),
        }))
    }

    /// A layer `y[.., N] = x[.., K] * W[N, K]^T + bias[N]` at BF16 activations. `bias` has N values, of any float type.
    ///
    /// # Errors
    /// If the bias has another shape, or there is no memory for the weight on the device.
    ///
    /// A weight with an order of k ([`PackedWeight::order`]) gathers x in each call: on CUDA by candle's
    /// [`Tensor::index_select`].
    pub fn linear(&self, weight: PackedWeight, bias: Option<&Tensor>) -> Result<Linear> {
        let bias = match bias {
            Some(bias) if bias.dims() != [weight.n()] => {
                candle_core::bail!("bias: expected [{}], got {:?}", weight.n(), bias.dims())
            }
            Some(bias) => Some(bias.to_dtype(DType::F32)?.to_vec1::<f32>()?),
            None => None,
        };
        let (n, k) = (weight.n(), weight.k());
        #[allow(unused_mut, unused_assignments)] // Set with feature `candle-cuda`.
        let mut gather = None;
        let loaded = match &*self.0 {
            Place::Cpu { .. } => Loaded::Cpu { weight, bias },
            #[cfg(feature = "candle-cuda")]
            Place::Cuda(place) => {
                let (weight, order) = weight.split_order();
                if let Some(order) = order {
                    let device = Device::Cuda(place.device().clone());
                    gather = Some(Tensor::new(order.as_slice(), &device)?);
                }
                Loaded::Cuda(place.load(&weight, bias.as_deref())?)
            }
        };
        Ok(Linear {
            backend: self.clone(),
            loaded: Arc::new(loaded),
            order: gather,
            n,
            k,
            width: WidthSource::Fixed(Width::Bf16),
        })
    }
}

#[derive(Debug)]
enum Loaded {
    Cpu {
        weight: PackedWeight,
        bias: Option<Vec<f32>>,
    },
    #[cfg(feature = "candle-cuda")]
    Cuda(cuda::Loaded),
}

/// A linear layer with a packed weight, made by [`Backend::linear`]. Clones share the weight.
///
/// A converted checkpoint's layers, whatever their order of k:
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
    backend: Backend,
    loaded: Arc<Loaded>,
    /// Which of x's k stands where in the weight.
    order: Option<Tensor>,
    n: usize,
    k: usize,
    width: WidthSource,
}

impl Linear {
    /// The same layer at another width.
    #[must_use]
    pub fn with_width(mut self, width: impl Into<WidthSource>) -> Self {
        self.width = width.into();
        self
    }

    /// Output channels.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Inputs.
    pub fn k(&self) -> usize {
        self.k
    }

    /// `y[.., N]`, BF16, of `x[.., K]`, BF16, at this width, whatever the layer's own is.
    ///
    /// # Errors
    /// If x is not BF16, its last dimension is not K or not contiguous, its rows do not lie a fixed stride apart, or it is on another
    /// device than the layer.
    pub fn forward_at(&self, x: &Tensor, width: Width) -> Result<Tensor> {
        self.run(x, &WidthSource::Fixed(width))
    }

    fn run(&self, x: &Tensor, width: &WidthSource) -> Result<Tensor> {
        let call = Call {
            linear: self,
            width,
        };
        let gathered;
        let x = match &self.order {
            // Of another shape: the call says so.
            Some(order) if x.dims().last() == Some(&self.k) => {
                gathered = x.index_select(order, D::Minus1)?;
                &gathered
            }
            _ => x,
        };
        x.apply_op1_no_bwd(&call)
    }
}

impl Module for Linear {
    /// At the layer's own width; errors as [`Linear::forward_at`].
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x, &self.width)
    }
}

/// x as a matrix: the first element, rows, and the elements from row to row.
struct Rows {
    start: usize,
    rows: usize,
    stride: usize,
}

impl Rows {
    /// Of `[.., k]`: all dimensions but the last taken together.
    fn of(layout: &Layout, k: usize) -> Result<Self> {
        let (dims, strides) = (layout.dims(), layout.stride());
        let [outer @ .., last] = dims else {
            candle_core::bail!("x: expected [.., {k}], got a scalar")
        };
        if *last != k {
            candle_core::bail!("x: expected [.., {k}], got {dims:?}")
        }
        let rows = outer.iter().product();
        let not_rows = || {
            format!(
                "x: {dims:?} with strides {strides:?} is no matrix of contiguous rows; call contiguous() first"
            )
        };
        if k > 1 && strides[dims.len() - 1] != 1 {
            candle_core::bail!("{}", not_rows())
        }
        // The innermost dimension of more than one row has the stride; those around it must follow from it.
        let (mut stride, mut next) = (k, None);
        for (dim, their) in outer.iter().zip(strides).rev().filter(|(dim, _)| **dim > 1) {
            match next {
                None => stride = *their,
                Some(next) if next != *their => candle_core::bail!("{}", not_rows()),
                Some(_) => {}
            }
            next = Some(their * dim);
        }
        if rows > 1 && stride < k {
            candle_core::bail!("{}", not_rows())
        }
        Ok(Self {
            start: layout.start_offset(),
            rows,
            stride,
        })
    }
}

struct Call<'a> {
    linear: &'a Linear,
    width: &'a WidthSource,
}

impl Call<'_> {
    fn y_shape(&self, layout: &Layout) -> Shape {
        let mut dims = layout.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = self.linear.n;
        }
        Shape::from(dims)
    }
}

impl CustomOp1 for Call<'_> {
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
        #[allow(irrefutable_let_patterns)] // There are others with CUDA.
        let (Place::Cpu { cpu, workspaces }, Loaded::Cpu { weight, bias }) =
            (&*self.linear.backend.0, &*self.linear.loaded)
        else {
            candle_core::bail!("x is on the CPU, the layer is not")
        };
        #[allow(clippy::infallible_destructuring_match)] // Likewise.
        let width = match self.width {
            WidthSource::Fixed(width) => *width,
            WidthSource::Step(step) => step.get(),
            #[cfg(feature = "candle-cuda")]
            WidthSource::Latched(_) => candle_core::bail!(
                "a latch is a GPU's: on the CPU the width is that of a StepWidth"
            ),
        };
        let mut y = vec![bf16::ZERO; rows.rows * n];
        // One of its own for each call that runs: a call that waits for another one could wait for itself, on a thread of rayon's
        // that takes up the second while the first one's pieces run.
        let spare = || workspaces.lock().unwrap_or_else(PoisonError::into_inner);
        let last = spare().pop();
        let (max_m, max_k) = last.as_ref().map_or((0, 0), Workspace::sizes);
        let mut workspace = match last {
            Some(there) if rows.rows <= max_m && k <= max_k => there,
            _ => cpu.workspace(rows.rows.max(max_m), k.max(max_k))?,
        };
        let x = MatRef::with_stride(&x[rows.start..], rows.rows, k, rows.stride)?;
        let gemm = Gemm::new(x, weight, width).bias(bias.as_deref());
        let done = cpu.run(&gemm, MatMut::new(&mut y, rows.rows, n)?, &mut workspace);
        spare().push(workspace);
        done?;
        Ok((CpuStorage::BF16(y), self.y_shape(layout)))
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(
        &self,
        storage: &candle_core::CudaStorage,
        layout: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        let (Place::Cuda(place), Loaded::Cuda(loaded)) =
            (&*self.linear.backend.0, &*self.linear.loaded)
        else {
            candle_core::bail!("x is on a CUDA device, the layer is not")
        };
        let rows = Rows::of(layout, self.linear.k)?;
        let y = place.run(loaded, storage, &rows, self.width)?;
        Ok((y, self.y_shape(layout)))
    }
}
