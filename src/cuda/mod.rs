//! The CUDA backend: GEMMs on NVIDIA GPUs from sm_80 on, from the same packed weights as the CPU's.
//!
//! A weight is uploaded once ([`Gpu::upload`]); activations and results are the caller's device memory
//! ([`DeviceMatRef`], [`DeviceMatMut`]), as is the stream. A launch allocates nothing, waits for nothing and can be captured
//! into a graph. A2, A4 and A8 have the bits of [`crate::reference::gemm`] on every device; BF16 is within the bound that
//! [`crate::numerics`] states, the same in every run and for every M within a family of kernels.
//!
//! ```no_run
//! use half::bf16;
//! use w4ax::cuda::{DeviceMatMut, DeviceMatRef, Family, Gemm, GemmOptions, Gpu};
//! use w4ax::{Grouping, MatRef, Width, Quantize};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (m, n, k) = (7, 4096, 4096);
//! let plain: Vec<f32> = (0..n * k).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect();
//! let packed = Quantize::new(Grouping::G128).pack(MatRef::new(&plain, n, k)?)?;
//!
//! let gpu = Gpu::new(0)?; // An error, not a panic, where there is no driver or device.
//! println!("{} multiplies A4 with {}", gpu.name(), gpu.mma(Width::A4, Family::Decode)?);
//! let weight = gpu.upload(&packed)?;
//!
//! let stream = gpu.context().new_stream()?;
//! let x = stream.clone_htod(&vec![bf16::ONE; m * k])?;
//! let mut y = stream.alloc_zeros::<bf16>(m * n)?;
//! let mut workspace = gpu.workspace(&stream, m, k)?;
//! {
//!     let x = DeviceMatRef::new(x.as_view(), m, k)?;
//!     let mut y = DeviceMatMut::new(y.as_view_mut(), m, n)?;
//!     let product = Gemm::new(&x, &weight, Width::A4);
//!     println!("{}", gpu.plan(&product, &y)?);
//!     gpu.gemm(&stream, &product, &mut y, &mut workspace)?;
//!
//!     // The same bits from another kernel.
//!     let options = GemmOptions { family: Some(Family::Prefill), ..Default::default() };
//!     gpu.gemm(&stream, &product.options(options), &mut y, &mut workspace)?;
//! }
//! let y: Vec<bf16> = stream.clone_dtoh(&y)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Activations that several GEMMs read
//! [`Gpu::quantize_pack`] quantizes x once for all of q, k and v, or of gate and up, in the order in which the kernels of a family
//! read it; what the table would run says which:
//!
//! ```no_run
//! # use half::bf16;
//! # use w4ax::cuda::{DeviceMatMut, DeviceMatRef, DeviceWeight, Gemm, Gpu, QuantizedActivations, ActivationLayout, Workspace};
//! # fn shared(gpu: &Gpu, stream: &cudarc::driver::CudaStream, x: &DeviceMatRef<'_, bf16>, [gate, up]: [&DeviceWeight; 2],
//! #     y: [&mut DeviceMatMut<'_, bf16>; 2], packed: &mut QuantizedActivations, workspace: &mut Workspace) -> w4ax::Result<()> {
//! let width = w4ax::Width::A8;
//! let family = gpu.plan(&Gemm::new(x, gate, width), y[0])?.family;
//! let layout = family.packed_layout().expect("the table never picks the plain family");
//! gpu.quantize_pack(stream, x, width, ActivationLayout { layout, ..gate.grouping().into() }, packed)?;
//! for (weight, y) in [gate, up].into_iter().zip(y) {
//!     gpu.gemm(stream, &Gemm::packed(packed, weight)?, y, workspace)?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Routed by the flag
//! A launch whose width is a [`Latch`] runs at what the latch read from a [`MappedFlag`] when the step began:
//!
//! ```no_run
//! # use half::bf16;
//! # use std::sync::Arc;
//! # use w4ax::cuda::{DeviceMatMut, DeviceMatRef, DeviceWeight, Gemm, Gpu, LatchOptions, MappedFlag, Workspace};
//! # fn routed(gpu: &Gpu, stream: &Arc<cudarc::driver::CudaStream>, x: &DeviceMatRef<'_, bf16>, weight: &DeviceWeight,
//! #     y: &mut DeviceMatMut<'_, bf16>, workspace: &mut Workspace) -> w4ax::Result<()> {
//! let flag = Arc::new(MappedFlag::new(gpu)?);
//! let latch = gpu.latch(stream, flag.clone(), 0)?;
//! for step in 0..100 {
//!     flag.requested().store(step, w4ax::Width::A4); // One store, no call of the driver.
//!     gpu.begin_step(stream, &latch, LatchOptions::default())?;
//!     gpu.gemm(stream, &Gemm::new(x, weight, &latch), y, workspace)?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`CudaEngine`] makes whole control steps of that, for a [`StepPipeline`](crate::step::StepPipeline).
//!
//! # Weights in another order of k
//! A weight of GPTQ's `desc_act` ([`PackedWeight::order`](crate::PackedWeight::order)) is uploaded with its order
//! ([`Gpu::upload_act_order`]); [`Gpu::gemm_act_order`] gathers x on the device and multiplies, or [`Gpu::gather`] does the
//! first part once for several weights of that order.
//!
//! # Layers that are skipped
//! [`SkipGraph`] is a step over a stack of layers of which the device leaves some out ([`crate::skip`]): captured once from
//! closures, with an IF node for each dynamic layer. The host stores the allow-points before the step and reads the layers'
//! fates after it ([`SkipWords`]).
//!
//! # Without a GPU, a driver or kernels
//! [`Gpu::new`] returns an [`Error::Unavailable`](crate::Error::Unavailable) that says what is missing and what to do about it
//! ([`Unavailable`] has the cases). Where the crate was built without a CUDA toolkit (docs.rs, say), it says that.
//!
//! # Which driver API
//! cudarc is compiled for one version of the driver API: what `CUDARC_CUDA_VERSION` says (`13000`), or else an nvcc in PATH, or else the
//! newest that it knows, with entry points that an older driver has not. A program that is built where there is no toolkit sets the variable to
//! its oldest driver's version (in `.cargo/config.toml`, under `[env]`). The kernels do not depend on it: they ask the driver for what they call.
//!
//! # Streams, threads, graphs
//! One [`Workspace`] serves one stream. Weights and [`Gpu`] are shared freely. Launches use bare addresses and no cudarc
//! events, so memory must belong to the launch's stream, or be foreign memory whose owner orders it
//! ([`DeviceMatRef::from_raw`]). What a graph has captured must outlive it:
//! what makes one is `unsafe` ([`RoutedGraph::capture`], [`SkipGraph::capture`], [`CudaStep`]).

mod gemm;
mod gpu;
mod memory;
mod skip;
mod step;
mod sys;
mod weight;

/// The version of cudarc that this module takes and gives.
pub use cudarc;
pub use gemm::{
    ActivationLayout, DeviceActOrderWeight, DeviceOrder, DeviceProps, Family, Gemm, GemmOptions,
    KernelTable, Mma, Mode, OperandLayout, Plan, Problem, QuantizedActivations,
};
pub use gpu::{Gpu, Kernel, KernelWidth};
pub use memory::{DeviceMatMut, DeviceMatRef, Workspace};
pub use skip::{DeviceController, SkipGraph, SkipOptions, SkipPart, SkipRun, SkipWords};
pub use step::{
    ConditionalNodes, CudaEngine, CudaStep, Latch, LatchOptions, MappedFlag, Routed, RoutedGraph,
    Routing,
};
pub use sys::{BuildInfo, build_info, device_count, driver_version, kernel_names, runtime_version};
pub use weight::DeviceWeight;

pub use crate::WidthSource;
pub use crate::{CudaVersion, Unavailable};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_may_be_shared_by_threads() {
        fn shared<T: Send + Sync>() {}
        fn sent<T: Send>() {}
        shared::<Gpu>();
        shared::<DeviceWeight>();
        shared::<DeviceActOrderWeight>();
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
