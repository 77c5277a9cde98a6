//! w4ax: mixed-precision W4AX inference, and the decision that drives it.

mod error;
mod precision;

pub use error::{Error, Result};
pub use precision::Precision;
