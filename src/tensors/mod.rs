//! The tensors of a safetensors file, read one at a time.
//!
//! [`TensorFile::open`] reads the header and checks it against the length of the file;
//! [`TensorFile::tensor`] reads the values of one tensor. The file is not mapped: the memory in use
//! is that of the tensors that the caller holds.
//!
//! [`Checkpoint::tensor`](crate::checkpoint::Checkpoint::tensor) and
//! [`PackedReader::tensor`](crate::weights::PackedReader::tensor) read in the same way.

mod file;
mod plain;

pub use file::TensorFile;
pub use plain::{PlainTensor, PlainValues};
