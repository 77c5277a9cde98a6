//! w4ax: mixed-precision W4AX inference, and the decision that drives it.

pub mod calibrate;
pub mod dispatch;
mod error;
mod flag;
mod precision;

pub use error::{Error, Result};
pub use flag::{FlagWord, WidthFlag};
pub use precision::Precision;
