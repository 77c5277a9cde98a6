//! Device memory of a launch (streams, matrices, vectors, buffers), and memory that the host and a
//! GPU share.

mod buffer;
mod matrix;
mod pinned;
mod stream;
mod vector;

pub(crate) use buffer::DeviceBuffer;
pub use matrix::{DeviceMatMut, DeviceMatRef};
pub(crate) use pinned::Pinned;
pub use stream::StreamRef;
pub(crate) use stream::{Place, check_device};
pub use vector::DeviceVecRef;
