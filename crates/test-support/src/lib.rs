//! Inputs that tests of several crates share.

mod skip_file;
mod tensor_file;

pub use skip_file::random_skip_file;
pub use tensor_file::TensorFile;
