//! Devices.

use std::ffi::c_char;

use super::backend::{self, Device};
use super::{raw, types};
use crate::status::{Status, entry};

/// `w4ax_gpu`.
pub struct Gpu(pub(super) Device);

/// `w4ax_gpu_info`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct GpuInfo {
    pub name: *const c_char,
    pub ordinal: u32,
    pub major: u32,
    pub minor: u32,
    pub driver_major: u32,
    pub driver_minor: u32,
    pub reserved: u32,
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_gpu_count(count: *mut u32) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        let count = unsafe { raw::output("count", count)? };
        count.write(backend::count()? as u32);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_gpu_create(ordinal: u32, gpu: *mut *mut Gpu) -> Status {
    entry(|| {
        let make = || Ok(Gpu(Device::open(ordinal)?));
        // SAFETY: the contract of this function.
        unsafe { raw::create("gpu", gpu, make) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_gpu_get_info(gpu: *const Gpu, info: *mut GpuInfo) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        let (gpu, info) = unsafe { (raw::handle("gpu", gpu)?, raw::output("info", info)?) };
        info.write(gpu.0.info());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_gpu_get_mma(
    gpu: *const Gpu,
    width: u32,
    family: u32,
    mma: *mut u32,
) -> Status {
    entry(|| {
        let (width, family) = (types::width(width)?, types::real_family(family)?);
        // SAFETY: the contract of this function.
        let (gpu, mma) = unsafe { (raw::handle("gpu", gpu)?, raw::output("mma", mma)?) };
        mma.write(gpu.0.mma(width, family)?);
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_gpu_free(gpu: *mut Gpu) {
    entry(|| {
        // SAFETY: the contract of this function.
        if let Some(gpu) = unsafe { raw::take(gpu) } {
            backend::end(gpu);
        }
        Ok(())
    });
}
