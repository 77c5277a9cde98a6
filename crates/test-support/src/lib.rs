//! Inputs that tests of several crates share. Random ones are seeded.

mod dispatcher;
mod inputs;
mod skip_file;
mod tensor_file;
mod tools;

pub use dispatcher::{dispatch_config, dispatcher};
pub use inputs::{Kind, PlainWeight, WIDTHS, bits, rng};
pub use skip_file::random_skip_file;
pub use tensor_file::TensorFile;
pub use tools::leave_out;
