//! The order of k of a weight, in device memory.

use crate::Result;
use crate::cuda::gemm::limits::extent;
use crate::cuda::sys::status;
use crate::weights::KOrder;
use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaContext, CudaSlice, DevicePtr};
use std::sync::Arc;

/// A [`KOrder`] in the memory of a device, from
/// [`Gpu::upload_order`](crate::cuda::Gpu::upload_order) or
/// [`DeviceWeight::order`](super::DeviceWeight::order). Clones share the memory.
///
/// It never changes, so any number of streams and threads may read it at once. Dropping the last
/// clone waits until the device is idle, as for a [`DeviceWeight`](super::DeviceWeight).
#[derive(Clone)]
pub struct DeviceOrder(Arc<Inner>);

struct Inner {
    address: CUdeviceptr,
    context: Arc<CudaContext>,
    memory: CudaSlice<u32>,
}

impl DeviceOrder {
    pub(super) fn upload(context: &Arc<CudaContext>, order: &KOrder) -> Result<Self> {
        const CALL: &str = "uploading an order of k";
        extent("K", order.as_slice().len())?;
        let stream = context.default_stream();
        let memory = (stream.clone_htod(order.as_slice())).map_err(status::driver(CALL))?;
        // Any stream may read the order from now on.
        stream.synchronize().map_err(status::driver(CALL))?;
        let (address, guard) = memory.device_ptr(&stream);
        drop(guard);
        Ok(Self(Arc::new(Inner {
            address,
            context: context.clone(),
            memory,
        })))
    }

    /// Number of inputs.
    pub fn k(&self) -> usize {
        self.0.memory.len()
    }

    /// The device that holds the order.
    pub fn device(&self) -> usize {
        self.0.context.ordinal()
    }

    /// The address of the K numbers.
    pub(crate) fn address(&self) -> CUdeviceptr {
        self.0.address
    }

    /// Bytes on the device.
    pub(super) fn bytes(&self) -> usize {
        self.0.memory.len() * size_of::<u32>()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Launches on other streams may still read the memory. The next call reports an error of
        // this one.
        let _ = self.context.synchronize();
    }
}

impl std::fmt::Debug for DeviceOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceOrder")
            .field("k", &self.k())
            .field("device", &self.device())
            .finish()
    }
}
