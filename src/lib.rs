//! Mixed-precision W4AX inference for robot policies: INT4 weights, and activations of 2, 4, 8 or
//! 16 bits whose width is chosen at every control step from the motion of the robot (DyQ-VLA, arXiv
//! 2603.07904).
//!
//! ```text
//! checkpoint -> Quantize -> PackedWeight --------------------+
//!                                                            v
//! motion -> Dispatcher -> Decision -> WidthFlag ----------> Gemm -> y
//!                                                            ^
//! x (BF16) --------------------------------------------------+
//! ```
//!
//! - [`Gemm`]: one GEMM, `y[M, N] = x[M, K] * W[N, K]^T + bias[N]`, and where its width comes from
//!   ([`WidthSource`]).
//! - [`RmsNorm`], [`AddRmsNorm`], [`SiluMul`]: the operations whose results are activations,
//!   quantized at once.
//! - [`cpu`]: the CPU backend (scalar, AVX2, AVX512-VNNI, AVX512-BF16). With feature `cuda`, `cuda`
//!   is the CUDA backend; with `candle`, `candle` has linear layers on candle's tensors. The crate
//!   `w4ax-capi` is the C interface.
//! - [`weights`]: quantizes, packs, saves and loads; [`weights::layout`] is the tile layout that
//!   all backends share.
//! - [`checkpoint`]: reads AutoAWQ, GPTQ, compressed-tensors and plain checkpoints into packed
//!   weights.
//! - [`numerics`]: the arithmetic with each rounding step. A2, A4 and A8 have the same bits on
//!   every backend.
//! - [`reference`](mod@reference): the references that every backend is tested against.
//! - [`dispatch`]: kinematics, sensitivity and hysteresis; [`calibrate`]: their parameters from
//!   recorded episodes.
//! - [`skip`]: skips layers by the same motion (DySL-VLA, arXiv 2602.22896).
//! - [`WidthFlag`]: the atomic word that carries the width of a step to the thread or device that
//!   runs it; [`step`]: a control step around it.
//!
//! # One layer, driven by the dispatcher
//! ```
//! use half::bf16;
//! use w4ax::dispatch::{DispatchConfig, Dispatcher, MotionScale, Thresholds};
//! use w4ax::{Gemm, Grouping, MatMut, MatRef, Quantize, WidthFlag, cpu::Cpu};
//!
//! # fn main() -> w4ax::Result<()> {
//! // A layer [256, 512], packed to INT4.
//! let (n, k) = (256, 512);
//! let plain: Vec<f32> = (0..n * k).map(|i| ((i % 23) as f32 - 11.0) / 64.0).collect();
//! let layer = Quantize::new(Grouping::G64).pack(MatRef::new(&plain, n, k)?)?;
//!
//! // The dispatcher, with the parameters of a calibration (see `Calibration::load`).
//! let motion = MotionScale { mu_max: 0.9, nu_max: 0.2 };
//! let thresholds = Thresholds { theta_24: 0.275, theta_48: 0.4, theta_fp: 0.5 };
//! let mut dispatcher = Dispatcher::new(&DispatchConfig::new(motion, thresholds))?;
//! let flag = WidthFlag::new();
//!
//! let cpu = Cpu::new()?;
//! let mut workspace = cpu.workspace(1, k)?;
//! let (x, mut y) = (vec![bf16::ONE; k], vec![bf16::ZERO; n]);
//! for step in 0..3 {
//!     flag.store(step, dispatcher.decide().active);
//!     let gemm = Gemm::new(MatRef::new(&x, 1, k)?, &layer, (&flag, step));
//!     cpu.run(&gemm, MatMut::new(&mut y, 1, n)?, &mut workspace)?;
//!     // ... the rest of the policy, then the action that it commanded:
//!     dispatcher.observe(&[0.3f64, 0.0, -0.1, 0.0, 0.0, 0.0, 1.0])?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # From a checkpoint to a routed GEMM
//! A latch reads the flag once per step and reports the width that ran. On a GPU the latch is a
//! kernel, and each GEMM reads the width from it (see `cuda`).
//!
//! ```
//! use half::bf16;
//! use std::time::Duration;
//! use w4ax::checkpoint::Checkpoint;
//! use w4ax::step::{HostLatch, StepFlag};
//! use w4ax::{Gemm, MatMut, MatRef, PackedFile, Width, cpu::Cpu};
//!
//! # fn main() -> w4ax::Result<()> {
//! // Quantized layers keep every value of the checkpoint. A `PackedFile` loads without repacking.
//! let checkpoint = Checkpoint::open("tests/data/checkpoints/awq_gemm")?;
//! let mut file = PackedFile::default();
//! for module in checkpoint.quantized() {
//!     file.weights.insert(module.to_owned(), checkpoint.weight(module)?);
//! }
//! let weight = file.weights.values().next().expect("a layer");
//!
//! let cpu = Cpu::new()?;
//! let mut workspace = cpu.workspace(1, weight.k())?;
//! let (x, mut y) = (vec![bf16::ONE; weight.k()], vec![bf16::ZERO; weight.n()]);
//! let (flag, mut latch) = (StepFlag::new(), HostLatch::new(0));
//! for step in 0..3 {
//!     if step != 1 {
//!         // In place of a dispatcher. Step 1 has no decision.
//!         flag.requested().store(step, Width::A4);
//!     }
//!     let ran = latch.latch(&flag, Duration::ZERO);
//!     assert_eq!(ran.width, if step == 1 { Width::Bf16 } else { Width::A4 });
//!     let gemm = Gemm::new(MatRef::new(&x, 1, weight.k())?, weight, ran.width);
//!     cpu.run(&gemm, MatMut::new(&mut y, 1, weight.n())?, &mut workspace)?;
//! }
//! # Ok(())
//! # }
//! ```

pub mod calibrate;
#[cfg(feature = "candle")]
pub mod candle;
pub mod checkpoint;
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod dispatch;
mod error;
pub mod file;
mod flag;
mod gemm;
mod matrix;
pub mod numerics;
pub mod reference;
mod row_op;
mod shape;
pub mod skip;
pub mod step;
pub mod tensors;
mod unavailable;
pub mod weights;
mod width;
mod width_source;

pub use error::{Error, Result};
pub use flag::{FlagWord, WidthFlag};
pub use gemm::Gemm;
pub use matrix::{MatMut, MatRef};
pub use row_op::{AddRmsNorm, HiddenState, HiddenStateMut, RmsNorm, SiluMul};
pub use shape::Shape;
pub use unavailable::{CudaVersion, Unavailable};
pub use weights::{
    Clipping, Grouping, KOrder, PackedFile, PackedWeight, Quantize, ScaleType, Scales, Scheme,
    Symmetry,
};
pub use width::Width;
pub use width_source::WidthSource;
