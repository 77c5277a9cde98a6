//! The backend of a build without feature `cuda`: no handle can exist, and every function that
//! needs none returns the reason.

use std::ffi::c_void;

use w4ax::{Grouping, PackedWeight, Width};

use crate::enums::{Family, Mma};
use crate::status::{Failure, Result, Status};
use crate::weight::WeightInfo;

use super::{GatherCall, GemmCall, GpuInfo, GpuPlan, Problem, QuantizeCall, RowOpCall};

/// Has no values.
pub enum Device {}

/// Has no values.
pub enum Weight {}

fn absent<T>() -> Result<T> {
    Err(Failure::new(
        Status::NoBackend,
        "CUDA: this library was built without the feature `cuda`: build it with FEATURES=cuda \
         scripts/build-capi",
    ))
}

pub fn count() -> Result<usize> {
    absent()
}

pub fn plan(_: &Problem) -> Result<GpuPlan> {
    absent()
}

pub fn workspace_bytes(_: &Problem) -> Result<usize> {
    absent()
}

pub fn tiles(_: Family) -> Result<u32> {
    absent()
}

pub fn quantized_bytes(_: (usize, usize), _: Width, _: Grouping, _: Family) -> Result<usize> {
    absent()
}

impl Device {
    pub fn open(_ordinal: u32) -> Result<Self> {
        absent()
    }

    pub fn info(&self) -> GpuInfo {
        match *self {}
    }

    pub fn mma(&self, _: Width, _: Family) -> Result<Mma> {
        match *self {}
    }

    pub fn upload(&self, _: &PackedWeight) -> Result<Weight> {
        match *self {}
    }

    pub fn plan(&self, _: &GemmCall<'_>) -> Result<GpuPlan> {
        match *self {}
    }

    /// # Safety
    /// No device exists, so no call is possible.
    pub unsafe fn gemm(&self, _: &GemmCall<'_>, _stream: *mut c_void) -> Result<()> {
        match *self {}
    }

    /// # Safety
    /// As [`Self::gemm`].
    pub unsafe fn quantize(&self, _: &QuantizeCall, _stream: *mut c_void) -> Result<()> {
        match *self {}
    }

    /// # Safety
    /// As [`Self::gemm`].
    pub unsafe fn row_op(&self, _: &RowOpCall, _stream: *mut c_void) -> Result<()> {
        match *self {}
    }

    /// # Safety
    /// As [`Self::gemm`].
    pub unsafe fn gather(&self, _: &GatherCall<'_>, _stream: *mut c_void) -> Result<()> {
        match *self {}
    }
}

impl Weight {
    pub fn info(&self) -> WeightInfo {
        match *self {}
    }
}
