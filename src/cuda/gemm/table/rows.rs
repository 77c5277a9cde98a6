//! The rows of a kernel table.

use crate::cuda::sys::{Family, Mode};
use crate::{Grouping, Scheme, Width};

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

/// The weights of a row, as the kernels distinguish them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Groups {
    Grouped(Grouping),
    /// Two-level weights with groups of any size share their kernels.
    TwoLevel,
}

impl Groups {
    pub(super) const ALL: [Self; 5] = [
        Self::Grouped(Grouping::G32),
        Self::Grouped(Grouping::G64),
        Self::Grouped(Grouping::G128),
        Self::Grouped(Grouping::PerChannel),
        Self::TwoLevel,
    ];
}

impl std::fmt::Display for Groups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Grouped(grouping) => grouping.fmt(f),
            Self::TwoLevel => Scheme::TwoLevel.fmt(f),
        }
    }
}

/// The shapes of one width and kind of weights.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) width: Width,
    pub(super) groups: Groups,
    pub(super) shapes: Vec<Shape>,
}
