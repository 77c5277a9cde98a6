//! Orders of k in a device's memory, and the gather into one.

use std::ffi::c_void;

use half::bf16;

use super::device::Gpu;
use super::{Gather, backend, raw, types};
use crate::order::Order;
use crate::raw::Extent;
use crate::status::{Failure, Status, entry};

/// `w4ax_gpu_order`.
pub struct GpuOrder(pub(super) backend::Order);

/// `w4ax_gpu_gather_args`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct GpuGatherArgs {
    pub order: *const GpuOrder,
    pub x: *const bf16,
    pub x_len: usize,
    pub x_stride: usize,
    pub gathered: *mut bf16,
    pub gathered_len: usize,
    pub gathered_stride: usize,
    pub m: usize,
    pub k: usize,
    pub flags: u32,
    pub reserved: u32,
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_gpu_order_upload(
    gpu: *const Gpu,
    order: *const Order,
    gpu_order: *mut *mut GpuOrder,
) -> Status {
    entry(|| {
        let make = || {
            // SAFETY: the contract of this function.
            let (order, gpu) = unsafe { (raw::handle("order", order)?, raw::handle("gpu", gpu)?) };
            Ok(GpuOrder(gpu.0.upload_order(&order.0)?))
        };
        // SAFETY: the contract of this function.
        unsafe { raw::create("gpu_order", gpu_order, make) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_gpu_order_free(order: *mut GpuOrder) {
    entry(|| {
        // SAFETY: the contract of this function.
        if let Some(order) = unsafe { raw::take(order) } {
            backend::end(order);
        }
        Ok(())
    });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_gpu_gather(
    gpu: *const Gpu,
    args: *const GpuGatherArgs,
    stream: *mut c_void,
) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        let args = unsafe { raw::arguments("args", args)? };
        raw::reserved(args.reserved)?;
        let pdl = types::pdl(args.flags)?;
        let of = |len, stride| Extent {
            len,
            rows: args.m,
            cols: args.k,
            stride,
        };
        let (x, gathered) = (
            of(args.x_len, args.x_stride),
            of(args.gathered_len, args.gathered_stride),
        );
        let read = raw::addresses("x", args.x, x)?;
        let written = raw::addresses("gathered", args.gathered, gathered)?;
        raw::disjoint("gathered and x", &written, &read)?;
        // SAFETY: the contract of this function.
        let (order, gpu) = unsafe { (raw::handle("order", args.order)?, raw::handle("gpu", gpu)?) };
        if order.0.k() != args.k {
            let text = format!("order: it is of {} k, not {}", order.0.k(), args.k);
            return Err(Failure::new(Status::BadShape, text));
        }
        if args.m == 0 {
            return Ok(());
        }
        let gather = Gather {
            order: &order.0,
            x: read.start,
            x_stride: x.stride(),
            gathered: written.start,
            gathered_stride: gathered.stride(),
            m: args.m,
            k: args.k,
            pdl,
        };
        // SAFETY: the contract of this function.
        unsafe { gpu.0.gather(&gather, stream) }
    })
}
