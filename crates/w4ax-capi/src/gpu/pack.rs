//! Activations that are quantized once, for several GEMMs.

use std::ffi::c_void;

use half::bf16;

use super::device::Gpu;
use super::{ALIGNMENT, Bytes, Pack, backend, raw, types};
use crate::raw::Extent;
use crate::status::{Failure, Status, entry};

/// `w4ax_gpu_pack_args`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct GpuPackArgs {
    pub x: *const bf16,
    pub x_len: usize,
    pub x_stride: usize,
    pub packed: *mut c_void,
    pub packed_bytes: usize,
    pub m: usize,
    pub k: usize,
    pub width: u32,
    pub grouping: u32,
    pub family: u32,
    pub flags: u32,
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_gpu_packed_bytes(
    m: usize,
    k: usize,
    width: u32,
    grouping: u32,
    family: u32,
    bytes: *mut usize,
) -> Status {
    entry(|| {
        let (width, grouping) = (types::width(width)?, types::grouping(grouping)?);
        let family = types::family(family)?;
        // SAFETY: the contract of this function.
        let bytes = unsafe { raw::output("bytes", bytes)? };
        bytes.write(backend::packed_bytes((m, k), width, grouping, family)?);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_gpu_quantize_pack(
    gpu: *const Gpu,
    args: *const GpuPackArgs,
    stream: *mut c_void,
) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        let args = unsafe { raw::arguments("args", args)? };
        let (width, grouping) = (types::width(args.width)?, types::grouping(args.grouping)?);
        let family = types::family(args.family)?;
        let pdl = types::pdl(args.flags)?;
        let x = Extent {
            len: args.x_len,
            rows: args.m,
            cols: args.k,
            stride: args.x_stride,
        };
        let read = raw::addresses("x", args.x, x)?;
        let packed = raw::room("packed", args.packed, args.packed_bytes, ALIGNMENT)?;
        if args.packed.is_null() {
            let text = "packed is a null pointer";
            return Err(Failure::new(Status::NullPointer, text));
        }
        raw::disjoint("packed and x", &packed, &read)?;
        let pack = Pack {
            x: read.start,
            x_stride: x.stride(),
            packed: Bytes::from(&packed),
            m: args.m,
            k: args.k,
            width,
            grouping,
            family,
            pdl,
        };
        // SAFETY: the contract of this function.
        unsafe { raw::handle("gpu", gpu)?.0.quantize_pack(&pack, stream) }
    })
}
