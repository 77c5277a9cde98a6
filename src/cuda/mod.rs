//! The CUDA backend: GEMMs on NVIDIA GPUs from sm_80 on, from the same packed weights as on the
//! CPU.
//!
//! 1. [`Gpu::new`] opens a device, [`Gpu::upload`] copies a weight to it once.
//! 2. The caller owns the stream, the activations and the results ([`DeviceMatRef`],
//!    [`DeviceMatMut`]).
//! 3. [`Gemm`] describes a call, [`Gpu::run`] launches it. A launch allocates nothing, does not
//!    synchronize, and can be captured into a graph.
//!
//! A2, A4 and A8 have the bits of [`crate::reference::gemm`] on every device. BF16 is within the
//! bound of [`crate::numerics`], and has the same bits in every run and for every M within a family
//! of kernels.
//!
//! ```no_run
//! use half::bf16;
//! use w4ax::cuda::{DeviceMatMut, DeviceMatRef, Family, Gemm, GemmOptions, Gpu};
//! use w4ax::{Grouping, MatRef, Quantize, Width};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (m, n, k) = (7, 4096, 4096);
//! let plain: Vec<f32> = (0..n * k).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect(); // [n, k]
//! let packed = Quantize::new(Grouping::G128).pack(MatRef::new(&plain, n, k)?)?;
//!
//! let gpu = Gpu::new(0)?; // An error, not a panic, without a driver or a device.
//! println!("{} multiplies A4 with {}", gpu.name(), gpu.mma(Width::A4, Family::Decode)?);
//! let weight = gpu.upload(&packed)?;
//!
//! let stream = gpu.context().new_stream()?;
//! let x = stream.clone_htod(&vec![bf16::ONE; m * k])?; // [m, k]
//! let mut y = stream.alloc_zeros::<bf16>(m * n)?; // [m, n]
//! let mut workspace = gpu.workspace(&stream, m, k)?;
//! {
//!     let x = DeviceMatRef::new(x.as_view(), m, k)?;
//!     let mut y = DeviceMatMut::new(y.as_view_mut(), m, n)?;
//!     let gemm = Gemm::new(&x, &weight, Width::A4);
//!     println!("{}", gpu.plan(&gemm, &y)?);
//!     gpu.run(&stream, &gemm, &mut y, &mut workspace)?;
//!
//!     // The same bits from another kernel.
//!     let options = GemmOptions::default().with_family(Family::Prefill);
//!     gpu.run(&stream, &gemm.options(options), &mut y, &mut workspace)?;
//! }
//! let y: Vec<bf16> = stream.clone_dtoh(&y)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Activations that several GEMMs read
//! [`Gpu::quantize`] quantizes x once for all of q, k and v, or of gate and up, in the layout that
//! a family of kernels reads. The plan of a GEMM returns the family:
//!
//! ```no_run
//! # use cudarc::driver::CudaStream;
//! # use half::bf16;
//! # use w4ax::cuda::{
//! #     ActivationLayout, DeviceMatMut, DeviceMatRef, DeviceWeight, Gemm, Gpu,
//! #     QuantizedActivations, Workspace,
//! # };
//! # fn shared(gpu: &Gpu, stream: &CudaStream, x: &DeviceMatRef<'_, bf16>,
//! #     [gate, up]: [&DeviceWeight; 2], y: [&mut DeviceMatMut<'_, bf16>; 2],
//! #     quantized: &mut QuantizedActivations, workspace: &mut Workspace) -> w4ax::Result<()> {
//! let width = w4ax::Width::A8;
//! let family = gpu.plan(&Gemm::new(x, gate, width), y[0])?.family;
//! let operand = family.activation_layout().expect("the table never selects the plain family");
//! let layout = ActivationLayout::new(gate.grouping()).with_operand(operand);
//! gpu.quantize(stream, x, width, layout, quantized)?;
//! for (weight, y) in [gate, up].into_iter().zip(y) {
//!     gpu.run(stream, &Gemm::quantized(quantized, weight)?, y, workspace)?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Gpu::rms_norm_quantize`] and [`Gpu::silu_mul_quantize`] compute x and quantize it in one
//! launch, with the bytes that [`Gpu::rms_norm`] or [`Gpu::silu_mul`] and then [`Gpu::quantize`]
//! write. At a latched width the launch writes BF16 rows in steps of 16 bits. In
//! [`Gpu::add_rms_norm_quantize`] a residual connection comes first, in the same launch.
//!
//! # Routing by the flag
//! A launch whose width is a [`Latch`] runs at the width that the latch read from a [`MappedFlag`]
//! when the step began:
//!
//! ```no_run
//! # use cudarc::driver::CudaStream;
//! # use half::bf16;
//! # use std::sync::Arc;
//! # use w4ax::cuda::{
//! #     DeviceMatMut, DeviceMatRef, DeviceWeight, Gemm, Gpu, LatchOptions, MappedFlag, Workspace,
//! # };
//! # fn routed(gpu: &Gpu, stream: &Arc<CudaStream>, x: &DeviceMatRef<'_, bf16>,
//! #     weight: &DeviceWeight, y: &mut DeviceMatMut<'_, bf16>,
//! #     workspace: &mut Workspace) -> w4ax::Result<()> {
//! let flag = Arc::new(MappedFlag::new(gpu)?);
//! let latch = gpu.latch(stream, flag.clone(), 0)?;
//! for step in 0..100 {
//!     flag.requested().store(step, w4ax::Width::A4); // One store, no call of the driver.
//!     gpu.begin_step(stream, &latch, LatchOptions::default())?;
//!     gpu.run(stream, &Gemm::new(x, weight, &latch), y, workspace)?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`CudaEngine`] runs whole control steps this way, for a
//! [`StepPipeline`](crate::step::StepPipeline).
//!
//! # Weights in another order of k
//! [`Gpu::upload`] also copies the order of a weight of GPTQ's `desc_act`
//! ([`PackedWeight::order`](crate::PackedWeight::order)). [`Gpu::run`] gathers x into the workspace
//! before the GEMM. GEMMs that share an input and an order can share one [`Gpu::gather`]
//! ([`Gemm::gathered`]).
//!
//! # Skipped layers
//! [`SkipGraph`] is a step over a stack of layers of which the device skips some ([`crate::skip`]).
//! It is captured once from closures, with an IF node for each dynamic layer. The host stores the
//! allow-points before the step and reads the fates of the layers after it ([`SkipWords`]).
//!
//! # Without a GPU, a driver or kernels
//! [`Gpu::new`] returns [`Error::Unavailable`](crate::Error::Unavailable) with the reason and the
//! remedy ([`Unavailable`](crate::Unavailable)), also in a build without a CUDA toolkit (on
//! docs.rs, for example).
//!
//! # Version of the driver API
//! cudarc is compiled for one version of the driver API: that of `CUDARC_CUDA_VERSION` (such as
//! `13000`), otherwise that of an nvcc in PATH, otherwise the newest that it supports, whose
//! functions an older driver may not have. If a program is built without a toolkit, set the
//! variable to the version of its oldest driver (in `.cargo/config.toml`, under `[env]`). The
//! kernels do not depend on it: they query the driver for each function that they call.
//!
//! # Streams, threads, graphs
//! A [`Workspace`] serves one stream. Weights and [`Gpu`] can be shared freely. Launches use bare
//! addresses and no cudarc events, so memory must belong to the stream of the launch, or be foreign
//! memory whose owner orders its use ([`DeviceMatRef::from_raw`], [`StreamRef::from_raw`]). What a
//! graph has captured must outlive it, so capturing is `unsafe` ([`RoutedGraph::capture`],
//! [`SkipGraph::capture`], [`CudaStep`]).

mod gemm;
mod gpu;
mod memory;
mod skip;
mod step;
mod sys;
mod weight;

/// The version of cudarc in the signatures of this module.
pub use cudarc;
pub use gemm::{
    ActivationLayout, AddRmsNorm, DeviceProps, Gemm, GemmOptions, HiddenState, HiddenStateMut,
    KernelTable, LaunchPlan, Problem, QuantizedActivations, RmsNorm, SiluMul, Workspace,
};
pub use gpu::{Gpu, Kernel};
pub use memory::{DeviceMatMut, DeviceMatRef, DeviceVecRef, StreamRef};
pub use skip::{DeviceController, SkipGraph, SkipOptions, SkipPart, SkipRun, SkipWords};
pub use step::{
    ConditionalNodes, CudaEngine, CudaStep, Latch, LatchOptions, MappedFlag, Routed, RoutedGraph,
    Routing,
};
pub use sys::{
    BuildInfo, Family, Mma, Mode, OperandLayout, build_info, device_count, driver_version,
    kernel_names, runtime_version,
};
pub use weight::{DeviceOrder, DeviceWeight};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_send_and_sync() {
        fn shared<T: Send + Sync>() {}
        fn sent<T: Send>() {}
        shared::<Gpu>();
        shared::<DeviceWeight>();
        shared::<DeviceOrder>();
        shared::<DeviceMatRef<'static, f32>>();
        sent::<DeviceMatMut<'static, f32>>();
        sent::<Workspace>();
        shared::<MappedFlag>();
        shared::<Latch>();
        sent::<QuantizedActivations>();
        shared::<SkipWords>();
        sent::<SkipGraph>();
    }
}
