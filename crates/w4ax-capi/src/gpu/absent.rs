//! In a build without feature `cuda`: there can be no handle, and whatever needs none answers why.

use std::ffi::c_void;

use super::super::status::{Failure, Result, Status};
use super::{Gather, GpuInfo, GpuPlan, Pack, Problem, Product};
use crate::weight::WeightInfo;
use w4ax::{Grouping, KOrder, PackedWeight, Width};

/// None is ever made.
pub enum Device {}

/// None is ever made.
pub enum Weight {}

/// None is ever made.
pub enum Order {}

fn absent<T>() -> Result<T> {
    Err(Failure::new(
        Status::NoBackend,
        "CUDA: built without the feature `cuda`: build again with it (FEATURES=cuda scripts/build-capi)",
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

pub fn tiles(_family: u32) -> Result<u32> {
    absent()
}

pub fn packed_bytes(_: (usize, usize), _: Width, _: Grouping, _family: u32) -> Result<usize> {
    absent()
}

/// Ends a handle.
pub fn end<T>(handle: T) {
    drop(handle);
}

impl Device {
    pub fn open(_ordinal: u32) -> Result<Self> {
        absent()
    }

    pub fn info(&self) -> GpuInfo {
        match *self {}
    }

    pub fn mma(&self, _: Width, _family: u32) -> Result<u32> {
        match *self {}
    }

    pub fn upload(&self, _: &PackedWeight) -> Result<Weight> {
        match *self {}
    }

    pub fn upload_order(&self, _: &KOrder) -> Result<Order> {
        match *self {}
    }

    pub fn plan(&self, _: &Product<'_>) -> Result<GpuPlan> {
        match *self {}
    }

    /// # Safety
    /// None is needed: there is no device.
    pub unsafe fn gemm(&self, _: &Product<'_>, _stream: *mut c_void) -> Result<()> {
        match *self {}
    }

    /// # Safety
    /// As [`Self::gemm`].
    pub unsafe fn quantize_pack(&self, _: &Pack, _stream: *mut c_void) -> Result<()> {
        match *self {}
    }

    /// # Safety
    /// As [`Self::gemm`].
    pub unsafe fn gather(&self, _: &Gather<'_>, _stream: *mut c_void) -> Result<()> {
        match *self {}
    }
}

impl Order {
    pub fn k(&self) -> usize {
        match *self {}
    }
}

impl Weight {
    pub fn info(&self) -> WeightInfo {
        match *self {}
    }
}
