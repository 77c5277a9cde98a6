//! Weights in device memory.

use crate::raw;
use crate::status::{entry_points, free_functions};
use crate::weight::{Weight, WeightInfo};

use super::backend;
use super::device::Gpu;

/// `w4ax_gpu_weight`.
pub struct GpuWeight(pub(super) backend::Weight);

entry_points! {
    fn w4ax_gpu_weight_upload(
        gpu: *const Gpu,
        weight: *const Weight,
        gpu_weight: *mut *mut GpuWeight,
    ) {
        raw::create("gpu_weight", gpu_weight, || {
            let weight = raw::handle("weight", weight)?;
            Ok(GpuWeight(raw::handle("gpu", gpu)?.0.upload(&weight.0)?))
        })
    }

    fn w4ax_gpu_weight_get_info(weight: *const GpuWeight, info: *mut WeightInfo) {
        let weight = raw::handle("weight", weight)?;
        raw::output("info", info)?.write(weight.0.info());
        Ok(())
    }
}

free_functions! {
    w4ax_gpu_weight_free(weight: GpuWeight);
}
