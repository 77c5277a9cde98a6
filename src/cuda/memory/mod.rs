//! Device and pinned memory: matrices, workspaces, and memory that the host and a GPU share.

mod matrix;
mod pinned;
mod workspace;

pub use matrix::{DeviceMatMut, DeviceMatRef};
pub(crate) use matrix::{Place, Target};
pub(crate) use pinned::Pinned;
pub(crate) use workspace::Memory;
pub use workspace::Workspace;
