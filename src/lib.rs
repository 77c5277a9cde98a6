//! w4ax: mixed-precision W4AX inference, and the decision that drives it.

pub mod activations;
pub mod calibrate;
pub mod cpu;
pub mod dispatch;
mod error;
mod file;
mod flag;
mod matrix;
pub mod numerics;
mod precision;
pub mod reference;
pub mod weights;

pub use error::{Error, Result};
pub use flag::{FlagWord, WidthFlag};
pub use matrix::{MatMut, MatRef};
pub use precision::Precision;
pub use weights::{Grouping, PackedFile, PackedWeight, Quantize, ScaleType, Scales, Symmetry};
