//! The rows of a kernel table.

use crate::cuda::sys::{Family, Mode};
use crate::{Grouping, Width};

/// The properties of a device that select its rows in a [`KernelTable`](super::KernelTable).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceProps {
    /// The compute capability: (8, 0) is sm_80.
    pub capability: (u32, u32),
    /// Whether it runs the kernels of [`Family::Wgmma`].
    pub wgmma: bool,
    /// Number of multiprocessors.
    pub multiprocessors: u32,
}

impl DeviceProps {
    /// An A100, the device of plans that name none.
    pub const A100: Self = Self {
        capability: (8, 0),
        wgmma: false,
        multiprocessors: 108,
    };
}

/// The kernel for up to `to_m` tokens, from the end of the row before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) to_m: usize,
    pub(super) family: Family,
    pub(super) mode: Mode,
    pub(super) tile: u32,
}

/// The rows of one shape `[N, K]`, in increasing order of `to_m`.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) rows: Vec<Row>,
}

/// The shapes of one width and grouping.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) width: Width,
    pub(super) grouping: Grouping,
    pub(super) shapes: Vec<Shape>,
}
