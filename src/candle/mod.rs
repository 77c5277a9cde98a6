//! Linear layers with packed weights on the BF16 tensors of
//! [candle](https://github.com/huggingface/candle).
//!
//! Feature `candle` is for the CPU, feature `candle-cuda` adds CUDA.
//!
//! ```
//! use candle_core::{DType, Device, Module, Tensor};
//! use w4ax::{Grouping, MatRef, Quantize, Width, candle::Backend};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (n, k) = (96, 256);
//! let plain: Vec<f32> = (0..n * k).map(|i| (i % 13) as f32 / 13.0 - 0.5).collect(); // [n, k]
//! let weight = Quantize::new(Grouping::G128).pack(MatRef::new(&plain, n, k)?)?;
//!
//! let backend = Backend::new(&Device::Cpu)?;
//! let linear = backend.linear(weight, None)?.with_width(Width::A8);
//! let x = Tensor::ones((2, 5, k), DType::BF16, &Device::Cpu)?; // [2, 5, k]
//! assert_eq!(linear.forward(&x)?.dims(), [2, 5, n]);
//! let y = linear.forward_at(&x, Width::A4)?; // [2, 5, n], this call at A4
//! # assert_eq!(y.dtype(), DType::BF16);
//! # Ok(())
//! # }
//! ```
//!
//! # Order of calls
//! [`Backend::new`] once per device, [`Backend::linear`] once per layer, then [`Linear`]'s
//! `forward` or [`Linear::forward_at`]. On CUDA, `linear` uploads the weight, and `forward`
//! launches on the stream of candle's device, in candle's context.
//!
//! On the CPU, layers that share an input can share its quantization:
//! [`Linear::rms_norm_quantize`], [`Linear::add_rms_norm_quantize`] and
//! [`Linear::silu_mul_quantize`] compute and quantize it, and [`Linear::forward_quantized`] runs a
//! layer, with the bits of `forward` on the BF16 rows.
//!
//! A decoder of such layers can be a [`LayerStack`](crate::skip::LayerStack) for skipping: this
//! crate's errors convert to candle's.
//!
//! # Widths
//! A layer runs at its [`LayerWidth`]: a fixed width, the width of the last latched step of a
//! [`StepFlag`](crate::step::StepFlag), or, on CUDA, the width that a latch holds when the kernel
//! runs. The default is BF16. [`Linear::forward_at`] overrides the width for one call.
//!
//! # Failure behavior
//! A tensor that is not BF16, has another last dimension than K, is on another device, or whose
//! rows are not contiguous is an error. [`Tensor::contiguous`](candle_core::Tensor::contiguous) and
//! [`Tensor::to_dtype`](candle_core::Tensor::to_dtype) convert it.
//!
//! # Cost
//! Neither x nor y is copied, and the rows of x may be strided. Only a weight with an order of k
//! ([`PackedWeight::order`](crate::PackedWeight::order)) gathers x in each call.

mod backend;
#[cfg(feature = "candle-cuda")]
mod cuda;
mod device;
mod input;
mod linear;
mod rows;
mod width;

pub use backend::Backend;
pub use input::QuantizedInput;
pub use linear::Linear;
pub use width::LayerWidth;

use candle_core::Error;

/// Wraps the error, so its message is kept and its type is not.
impl From<crate::Error> for Error {
    fn from(error: crate::Error) -> Self {
        Self::wrap(error)
    }
}
