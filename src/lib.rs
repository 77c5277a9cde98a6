//! w4ax: mixed-precision W4AX inference, and the decision that drives it.

pub mod activations;
pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
mod error;
mod file;
mod matrix;
pub mod numerics;
mod precision;
pub mod reference;
pub mod weights;

pub use error::{Error, Result};
pub use matrix::{MatMut, MatRef};
pub use precision::Precision;
pub use weights::{Grouping, PackedFile, PackedWeight, Quantize, ScaleType, Scales, Symmetry};
