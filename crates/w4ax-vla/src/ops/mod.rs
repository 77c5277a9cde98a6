//! The tensor operations of the models beside the packed GEMM.
//!
//! Each operation takes F32 or BF16, computes in F32 and returns the type of its input. On the CPU
//! it runs over rayon's pool, in vector code for the machine's instruction set. On other devices
//! it is [`generic`], the same formula of candle's own operations.
//!
//! # BF16
//! A result is rounded once, to nearest even, except where the reference rounds in between:
//! [`rms_norm`] rounds before the product with the weight, [`swiglu`] rounds SiLU before the
//! product with `up`, and [`rope`] rounds each product.
//!
//! # Threads
//! The work is split into chunks whose size depends on the shapes only, and each sum has a fixed
//! order. Results do not depend on the number of threads.

mod activation;
mod attention;
mod cast;
pub mod generic;
mod linear;
mod matmul;
mod norm;
mod rope;
mod shared;
mod simd;
mod value;

pub use activation::{gelu, relu, swiglu};
pub use attention::{Mask, attention};
pub use cast::cast;
pub use linear::Linear;
pub use norm::{layer_norm, rms_norm};
pub use rope::rope;

use candle_core::{DType, Tensor};

/// Returns whether the tensor has the types of the CPU paths.
///
/// # Errors
/// If the type is neither F32 nor BF16.
fn on_cpu(what: &'static str, x: &Tensor) -> crate::Result<bool> {
    match x.dtype() {
        DType::F32 | DType::BF16 => Ok(x.device().is_cpu()),
        other => Err(crate::VlaError::Input {
            what,
            got: format!("a tensor of type {other:?}"),
            expected: "F32 or BF16".into(),
        }),
    }
}

/// Returns an error if the tensor has another shape.
fn expect_dims(what: &'static str, x: &Tensor, expected: &[usize]) -> crate::Result<()> {
    if x.dims() == expected {
        return Ok(());
    }
    Err(crate::VlaError::Input {
        what,
        got: format!("a tensor of shape {:?}", x.dims()),
        expected: format!("{expected:?}"),
    })
}

/// Calls a function for the type of a tensor, F32 or BF16, with the type as last generic argument.
macro_rules! by_type {
    ($tensor:expr, $function:ident ( $($argument:expr),* $(,)? )) => {
        match $tensor.dtype() {
            candle_core::DType::F32 => $function::<f32>($($argument),*),
            _ => $function::<half::bf16>($($argument),*),
        }
    };
}
use by_type;
