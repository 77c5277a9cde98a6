//! Packed weights in the memory of a device.

mod order;
mod parts;

pub use order::DeviceOrder;

use super::Gpu;
use super::gemm::limits::extent;
use super::memory::check_device;
use super::sys::enums::{grouping_code, scale_code, scheme_code};
use super::sys::{self, status};
use crate::weights::KOrder;
use crate::{Grouping, PackedWeight, Result, ScaleType, Scheme};
use cudarc::driver::{CudaContext, CudaSlice, DevicePtr};
use parts::{Addresses, Layout};
use std::sync::Arc;

/// A [`PackedWeight`] in the memory of a device, in the same layout. Created by [`Gpu::upload`].
///
/// It never changes, so any number of streams and threads may read it at once. Dropping it waits
/// until the device is idle and then frees the memory: drop it outside of captures, and after the
/// last graph that reads it.
pub struct DeviceWeight {
    n: usize,
    k: usize,
    scheme: Scheme,
    grouping: Grouping,
    activation_grouping: Grouping,
    scale_type: ScaleType,
    symmetric: bool,
    order: Option<DeviceOrder>,
    parts: Addresses,
    context: Arc<CudaContext>,
    /// All parts but the order, in one allocation.
    memory: CudaSlice<u8>,
}

impl Gpu {
    /// Copies a weight to the device, in its packed layout and with its order of k. Returns after
    /// the copy.
    ///
    /// # Errors
    /// [`Error::Range`](crate::Error::Range) for an extent that the kernels do not support,
    /// [`Error::Driver`](crate::Error::Driver) if the device is out of memory.
    pub fn upload(&self, weight: &PackedWeight) -> Result<DeviceWeight> {
        DeviceWeight::upload(self.context(), weight, 1)
    }

    /// Copies a weight to the device `times` times, one below the other: the weight `[times * N,
    /// K]` whose rows repeat. Returns after the copies.
    ///
    /// Only the first copy comes from the host, so that a weight of any size is made in a moment,
    /// for a bench or a test under load.
    ///
    /// # Errors
    /// As [`Gpu::upload`], and [`Error::Range`](crate::Error::Range) if `times` is 0, or above 1
    /// for an N that is not a multiple of 16.
    pub fn upload_repeated(&self, weight: &PackedWeight, times: usize) -> Result<DeviceWeight> {
        DeviceWeight::upload(self.context(), weight, times)
    }

    /// Copies an order of k to the device. Returns after the copy.
    ///
    /// [`Gpu::upload`] copies the order of a weight with it. This is for an order that several
    /// weights share.
    ///
    /// # Errors
    /// As [`Gpu::upload`].
    pub fn upload_order(&self, order: &KOrder) -> Result<DeviceOrder> {
        DeviceOrder::upload(self.context(), order)
    }
}

impl DeviceWeight {
    fn upload(context: &Arc<CudaContext>, w: &PackedWeight, times: usize) -> Result<Self> {
        const CALL: &str = "uploading a weight";
        let layout = Layout::new(w, times)?;
        let n = w.n() * times;
        extent("N", n)?;
        extent("K", w.k())?;
        let stream = context.default_stream();
        let memory = match times {
            1 => stream.clone_htod(&layout.concatenate()),
            _ => layout.repeat(&stream),
        };
        let memory = memory.map_err(status::driver(CALL))?;
        // Any stream may read the weight from now on, and the copy on the host is freed.
        stream.synchronize().map_err(status::driver(CALL))?;
        let (start, guard) = memory.device_ptr(&stream);
        drop(guard);
        let parts = layout.addresses(start);
        let order = w.order().map(|order| DeviceOrder::upload(context, order));
        Ok(Self {
            n,
            k: w.k(),
            scheme: w.scheme(),
            grouping: w.grouping(),
            activation_grouping: w.activation_grouping(),
            scale_type: w.tiled_scales().scale_type(),
            symmetric: w.is_symmetric(),
            order: order.transpose()?,
            parts,
            context: context.clone(),
            memory,
        })
    }

    /// Number of output channels.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Number of inputs.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The arithmetic of the weight.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// How weights along k share scales, or steps of a two-level weight.
    pub fn grouping(&self) -> Grouping {
        self.grouping
    }

    /// The groups in which activations are quantized for this weight
    /// ([`PackedWeight::activation_grouping`]).
    pub fn activation_grouping(&self) -> Grouping {
        self.activation_grouping
    }

    /// The number type of the scales.
    pub fn scale_type(&self) -> ScaleType {
        self.scale_type
    }

    /// Whether the weight has no zero points.
    pub fn is_symmetric(&self) -> bool {
        self.symmetric
    }

    /// The order of k of the packed weight; `None` if it is that of the matrix.
    ///
    /// [`Gpu::run`] gathers the activations by itself. GEMMs that share an input and an order can
    /// share one [`Gpu::gather`] instead ([`Gemm::gathered`](super::Gemm::gathered)).
    pub fn order(&self) -> Option<&DeviceOrder> {
        self.order.as_ref()
    }

    /// The device that holds the weight.
    pub fn device(&self) -> usize {
        self.context.ordinal()
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        self.memory.len() + self.order.as_ref().map_or(0, DeviceOrder::bytes)
    }

    pub(crate) fn check_device(&self, ordinal: usize) -> Result<()> {
        check_device("weight", "a weight", ordinal, self.device())
    }

    pub(crate) fn as_args(&self) -> sys::w4axk_weight {
        sys::w4axk_weight {
            tiles: self.parts.tiles as *const _,
            scales: self.parts.scales as *const _,
            zeros: self.parts.zeros as *const _,
            sums: self.parts.sums as *const _,
            steps: self.parts.steps as *const _,
            // `upload` checked that both fit.
            n: self.n as u32,
            k: self.k as u32,
            group: grouping_code(self.grouping),
            scale_type: scale_code(self.scale_type),
            scheme: scheme_code(self.scheme),
            reserved: 0,
        }
    }
}

impl Drop for DeviceWeight {
    fn drop(&mut self) {
        // Launches on other streams may still read the memory. The next call reports an error of
        // this one.
        let _ = self.context.synchronize();
    }
}

impl std::fmt::Debug for DeviceWeight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceWeight")
            .field("n", &self.n)
            .field("k", &self.k)
            .field("scheme", &self.scheme)
            .field("grouping", &self.grouping)
            .field("scale_type", &self.scale_type)
            .field("symmetric", &self.symmetric)
            .field("order", &self.order.is_some())
            .field("device", &self.device())
            .finish()
    }
}
