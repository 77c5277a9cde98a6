//! Weights in a device's memory.

use super::device::Gpu;
use super::{backend, raw};
use crate::status::{Status, entry};
use crate::weight::{Weight, WeightInfo};

/// `w4ax_gpu_weight`.
pub struct GpuWeight(pub(super) backend::Weight);

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_gpu_weight_upload(
    gpu: *const Gpu,
    weight: *const Weight,
    gpu_weight: *mut *mut GpuWeight,
) -> Status {
    entry(|| {
        let make = || {
            // SAFETY: the contract of this function.
            let (weight, gpu) =
                unsafe { (raw::handle("weight", weight)?, raw::handle("gpu", gpu)?) };
            Ok(GpuWeight(gpu.0.upload(&weight.0)?))
        };
        // SAFETY: the contract of this function.
        unsafe { raw::create("gpu_weight", gpu_weight, make) }
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_gpu_weight_get_info(
    weight: *const GpuWeight,
    info: *mut WeightInfo,
) -> Status {
    entry(|| {
        // SAFETY: the contract of this function.
        let (weight, info) =
            unsafe { (raw::handle("weight", weight)?, raw::output("info", info)?) };
        info.write(weight.0.info());
        Ok(())
    })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn w4ax_gpu_weight_free(weight: *mut GpuWeight) {
    entry(|| {
        // SAFETY: the contract of this function.
        if let Some(weight) = unsafe { raw::take(weight) } {
            backend::end(weight);
        }
        Ok(())
    });
}
