//! The launch that gathers activations into the order of k of a weight.

use super::limits::{extent, stride};
use super::options::pdl_flag;
use crate::cuda::memory::{DeviceMatMut, DeviceMatRef, StreamRef, check_device};
use crate::cuda::sys::{self, status};
use crate::cuda::{DeviceOrder, Gpu};
use crate::{Error, Result};
use half::bf16;

/// Checks the shapes and the places of a gather.
fn check(
    order: &DeviceOrder,
    x: &DeviceMatRef<'_, bf16>,
    gathered: &DeviceMatMut<'_, bf16>,
    stream: StreamRef<'_>,
) -> Result<()> {
    let (m, k) = (x.rows(), x.cols());
    if k != order.k() {
        return Err(Error::shape("x", [m, order.k()], [m, k]));
    }
    let to = [gathered.rows(), gathered.cols()];
    if to != [m, k] {
        return Err(Error::shape("gathered x", [m, k], to));
    }
    let ordinal = stream.context().ordinal();
    check_device("order of k", "an order", ordinal, order.device())?;
    x.place.check("x", stream)?;
    gathered.place.check("gathered x", stream)
}

impl Gpu {
    /// Gathers `gathered[m, i] = x[m, order[i]]`, once for all GEMMs whose weights have this order.
    ///
    /// [`Gemm::gathered`](crate::cuda::Gemm::gathered) and [`Gpu::quantize`] read the result. A
    /// single GEMM needs no call: [`Gpu::run`] gathers by itself. The launch allocates nothing,
    /// does not synchronize, and can be captured. It does nothing for M = 0.
    ///
    /// # Errors
    /// [`Error::Shape`] if x does not have K columns or `gathered` does not have the shape of x,
    /// [`Error::DeviceMismatch`] for an argument of another device or stream, [`Error::Range`] for
    /// an extent that the kernels do not support, [`Error::Cuda`] if the launch fails.
    pub fn gather<'s>(
        &self,
        stream: impl Into<StreamRef<'s>>,
        order: &DeviceOrder,
        x: &DeviceMatRef<'_, bf16>,
        gathered: &mut DeviceMatMut<'_, bf16>,
    ) -> Result<()> {
        self.gather_with_pdl(stream, order, x, gathered, false)
    }

    /// [`Gpu::gather`] with programmatic dependent launch, as
    /// [`GemmOptions::with_pdl`](crate::cuda::GemmOptions::with_pdl).
    ///
    /// # Errors
    /// As [`Gpu::gather`].
    pub fn gather_with_pdl<'s>(
        &self,
        stream: impl Into<StreamRef<'s>>,
        order: &DeviceOrder,
        x: &DeviceMatRef<'_, bf16>,
        gathered: &mut DeviceMatMut<'_, bf16>,
        pdl: bool,
    ) -> Result<()> {
        let stream = stream.into();
        self.check_stream(stream)?;
        check(order, x, gathered, stream)?;
        if x.rows() == 0 {
            return Ok(());
        }
        let args = sys::w4axk_gather_args {
            x: x.place.address as *const _,
            x_stride: stride("row stride of x", x.stride())?,
            order: order.address() as *const _,
            y: gathered.place.address as *mut _,
            y_stride: stride("row stride of gathered x", gathered.stride())?,
            m: extent("M", x.rows())?,
            k: extent("K", x.cols())?,
            kernel: sys::W4AXK_GATHER_PAIRS,
            flags: pdl_flag(pdl),
            device: self.number(),
            reserved: 0,
        };
        // SAFETY: x, the order and `gathered` are memory of this device, as `check` verified, and
        // cover their shapes. Each number of the order is below K, as `KOrder::new` verified.
        // `gathered` is borrowed mutably, so it overlaps no other argument. The memory outlives the
        // launch and the stream is alive, as in `Gpu::run`.
        let status = unsafe { sys::w4axk_gather(&args, stream.as_ptr()) };
        status::check("gather", status)
    }
}
