//! The description of a GEMM on a device.

use super::activations::{Contents, QuantizedActivations, wrong_contents};
use super::options::GemmOptions;
use crate::cuda::memory::{DeviceMatMut, DeviceMatRef, DeviceVecRef, Place};
use crate::cuda::{DeviceOrder, DeviceWeight, Family, Latch, OperandLayout};
use crate::{Error, Result, WidthSource};
use half::bf16;

/// One GEMM on a device, `y[M, N] = x[M, K] * W[N, K]^T + bias[N]`: its operands, its width, and
/// its options.
///
/// [`Gpu::run`](crate::cuda::Gpu::run) launches it. [`w4ax::Gemm`](crate::Gemm) is the same
/// description for operands in host memory.
///
/// # Weights in another order of k
/// `x` is in the order of the matrix, whatever the order of the weight is
/// ([`DeviceWeight::order`]): [`Gpu::run`](crate::cuda::Gpu::run) gathers `x` into the workspace.
/// GEMMs that share an input and an order can share one gather:
///
/// ```no_run
/// # use cudarc::driver::CudaStream;
/// # use half::bf16;
/// # use w4ax::cuda::{DeviceMatMut, DeviceMatRef, DeviceWeight, Gemm, Gpu, Workspace};
/// # fn shared(gpu: &Gpu, stream: &CudaStream, x: &DeviceMatRef<'_, bf16>,
/// #     [gate, up]: [&DeviceWeight; 2], y: [&mut DeviceMatMut<'_, bf16>; 2],
/// #     gathered: &mut DeviceMatMut<'_, bf16>, workspace: &mut Workspace) -> w4ax::Result<()> {
/// let order = gate.order().expect("a weight with an order of k");
/// gpu.gather(stream, order, x, gathered)?;
/// let x = gathered.as_ref();
/// for (weight, y) in [gate, up].into_iter().zip(y) {
///     gpu.run(stream, &Gemm::gathered(&x, weight, w4ax::Width::A8), y, workspace)?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Gemm<'a> {
    input: Input<'a>,
    weight: &'a DeviceWeight,
    width: WidthSource<'a>,
    bias: Option<&'a DeviceVecRef<'a, f32>>,
    options: GemmOptions,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Input<'a> {
    /// In the order of the matrix.
    Bf16(&'a DeviceMatRef<'a, bf16>),
    /// In the order of the weight.
    Gathered(&'a DeviceMatRef<'a, bf16>),
    Quantized(&'a QuantizedActivations, Contents),
    /// BF16 for steps of 16 bits, quantized for the others. Both are in the order of the weight.
    Latched(&'a DeviceMatRef<'a, bf16>, &'a QuantizedActivations),
}

impl<'a> Gemm<'a> {
    fn of(input: Input<'a>, weight: &'a DeviceWeight, width: WidthSource<'a>) -> Self {
        Self {
            input,
            weight,
            width,
            bias: None,
            options: GemmOptions::default(),
        }
    }

    /// A GEMM of `x[M, K]`, which it quantizes to a [`Width`](crate::Width), or to the width that a
    /// [`Latch`] holds.
    ///
    /// The shapes are checked when the GEMM runs.
    pub fn new(
        x: &'a DeviceMatRef<'a, bf16>,
        weight: &'a DeviceWeight,
        width: impl Into<WidthSource<'a>>,
    ) -> Self {
        Self::of(Input::Bf16(x), weight, width.into())
    }

    /// A GEMM whose `x[M, K]` is already in the weight's order of k
    /// ([`Gpu::gather`](crate::cuda::Gpu::gather)).
    ///
    /// Equal to [`Gemm::new`] for a weight without an order.
    pub fn gathered(
        x: &'a DeviceMatRef<'a, bf16>,
        weight: &'a DeviceWeight,
        width: impl Into<WidthSource<'a>>,
    ) -> Self {
        Self::of(Input::Gathered(x), weight, width.into())
    }

    /// A GEMM of activations that [`Gpu::quantize`](crate::cuda::Gpu::quantize) wrote.
    ///
    /// Their layout decides between the wgmma family and the other two. For a weight with an order
    /// of k they must have been gathered
    /// ([`ActivationLayout::with_gathered`](crate::cuda::ActivationLayout::with_gathered)).
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the activations are empty, have other groups than the weight or
    /// another order of k, or have a latched width (see [`Gemm::quantized_latched`]).
    pub fn quantized(
        activations: &'a QuantizedActivations,
        weight: &'a DeviceWeight,
    ) -> Result<Self> {
        let contents = activations.filled()?;
        let Some(width) = contents.width else {
            return Err(wrong_contents(
                "activations of one width".into(),
                "activations of a latched width, which need x too".into(),
            ));
        };
        contents.check_weight(weight)?;
        let input = Input::Quantized(activations, contents);
        Ok(Self::of(input, weight, width.into()))
    }

    /// A GEMM at a latched width, of activations that [`Gpu::quantize`](crate::cuda::Gpu::quantize)
    /// wrote at the same latch, or, in a step of 16 bits, of the `x` that they were quantized from.
    ///
    /// # Errors
    /// [`Error::Shape`] if the activations have another shape than x, [`Error::Mismatch`] if they
    /// are empty, have other groups than the weight or another order of k, or were not quantized at
    /// the width of `latch`.
    pub fn quantized_latched(
        x: &'a DeviceMatRef<'a, bf16>,
        activations: &'a QuantizedActivations,
        weight: &'a DeviceWeight,
        latch: &'a Latch,
    ) -> Result<Self> {
        let contents = activations.filled()?;
        contents.check_weight(weight)?;
        if (contents.m, contents.k) != (x.rows(), x.cols()) {
            let (expected, got) = ([x.rows(), x.cols()], [contents.m, contents.k]);
            return Err(Error::shape("quantized activations", expected, got));
        }
        if contents.latch != latch.place().address {
            return Err(wrong_contents(
                "the width of this latch".into(),
                "another width".into(),
            ));
        }
        let input = Input::Latched(x, activations);
        Ok(Self::of(input, weight, latch.into()))
    }

    /// Adds `bias[N]` in f32 before the result is rounded. `None` removes the bias.
    #[must_use]
    pub fn bias(self, bias: impl Into<Option<&'a DeviceVecRef<'a, f32>>>) -> Self {
        Self {
            bias: bias.into(),
            ..self
        }
    }

    /// Selects the kernel.
    #[must_use]
    pub fn options(self, options: GemmOptions) -> Self {
        Self { options, ..self }
    }

    pub(super) fn input(&self) -> Input<'a> {
        self.input
    }

    pub(super) fn weight(&self) -> &'a DeviceWeight {
        self.weight
    }

    pub(super) fn width(&self) -> WidthSource<'a> {
        self.width
    }

    pub(super) fn bias_vector(&self) -> Option<&'a DeviceVecRef<'a, f32>> {
        self.bias
    }

    /// M and K.
    pub(super) fn shape(&self) -> (usize, usize) {
        match &self.input {
            Input::Bf16(x) | Input::Gathered(x) | Input::Latched(x, _) => (x.rows(), x.cols()),
            Input::Quantized(_, contents) => (contents.m, contents.k),
        }
    }

    /// The order into which x must be gathered first.
    pub(super) fn gather(&self) -> Option<(&'a DeviceMatRef<'a, bf16>, &'a DeviceOrder)> {
        match self.input {
            Input::Bf16(x) => self.weight.order().map(|order| (x, order)),
            _ => None,
        }
    }

    pub(super) fn input_place(&self) -> &'a Place {
        match self.input {
            Input::Bf16(x) | Input::Gathered(x) | Input::Latched(x, _) => &x.place,
            Input::Quantized(activations, _) => activations.place(),
        }
    }

    /// The options, with the family that the layout of quantized activations implies.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the requested family reads another layout.
    pub(super) fn effective_options(&self) -> Result<GemmOptions> {
        let contents = match self.input {
            Input::Quantized(_, contents) => contents,
            Input::Latched(_, activations) => activations.filled()?,
            _ => return Ok(self.options),
        };
        let operand = contents.layout.operand();
        match (self.options.family(), operand) {
            (None, OperandLayout::CoreMatrices) => Ok(self.options.with_family(Family::Wgmma)),
            // The kernel library rejects a family that reads no quantized activations.
            (Some(family), _) if family.activation_layout().is_some_and(|l| l != operand) => {
                Err(wrong_contents(
                    format!("the layout of the {family} family"),
                    operand.to_string(),
                ))
            }
            _ => Ok(self.options),
        }
    }

    /// Checks the shapes of all operands against the weight.
    pub(super) fn check_shapes(&self, y: &DeviceMatMut<'_, bf16>) -> Result<()> {
        let ((m, k), w) = (self.shape(), self.weight);
        if k != w.k() {
            return Err(Error::shape("x", [m, w.k()], [m, k]));
        }
        let (expected, got) = ([m, w.n()], [y.rows(), y.cols()]);
        if expected != got {
            return Err(Error::shape("y", expected, got));
        }
        if let Some(bias) = self.bias
            && bias.len() != w.n()
        {
            return Err(Error::shape("bias", [w.n()], [bias.len()]));
        }
        Ok(())
    }
}
