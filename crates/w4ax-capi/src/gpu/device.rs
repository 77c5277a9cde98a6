//! Devices.

use std::ffi::c_char;

use crate::enums::{self, CEnum};
use crate::raw;
use crate::status::{entry_points, free_functions};

use super::backend::{self, Device};
use super::kernel_family;

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

entry_points! {
    fn w4ax_gpu_count(count: *mut u32) {
        let count = raw::output("count", count)?;
        count.write(backend::count()? as u32);
        Ok(())
    }

    fn w4ax_gpu_create(ordinal: u32, gpu: *mut *mut Gpu) {
        raw::create("gpu", gpu, || Ok(Gpu(Device::open(ordinal)?)))
    }

    fn w4ax_gpu_get_info(gpu: *const Gpu, info: *mut GpuInfo) {
        let (gpu, info) = (raw::handle("gpu", gpu)?, raw::output("info", info)?);
        info.write(gpu.0.info());
        Ok(())
    }

    fn w4ax_gpu_get_mma(gpu: *const Gpu, width: u32, family: u32, mma: *mut u32) {
        let (width, family) = (enums::value(width)?, kernel_family(family)?);
        let (gpu, mma) = (raw::handle("gpu", gpu)?, raw::output("mma", mma)?);
        mma.write(gpu.0.mma(width, family)?.number());
        Ok(())
    }
}

free_functions! {
    w4ax_gpu_free(gpu: Gpu);
}
