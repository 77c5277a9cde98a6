//! Vectors in device memory.

use super::matrix::view_place;
use super::stream::Place;
use crate::{Error, Result};
use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaView, DevicePtr};
use std::marker::PhantomData;

/// A vector in device memory, such as the bias of a GEMM.
///
/// Streams and captures: as [`DeviceMatRef`](super::DeviceMatRef).
#[derive(Clone, Debug)]
pub struct DeviceVecRef<'a, T> {
    pub(crate) place: Place,
    len: usize,
    memory: PhantomData<&'a [T]>,
}

impl<'a, T> DeviceVecRef<'a, T> {
    /// The first `len` elements of a view.
    ///
    /// # Errors
    /// [`Error::Buffer`] if the view is shorter, [`Error::Cuda`] during a capture of the view's
    /// stream in a context that tracks events.
    pub fn new(view: CudaView<'a, T>, len: usize) -> Result<Self> {
        if cudarc::driver::DeviceSlice::len(&view) < len {
            return Err(Error::Buffer {
                what: "device vector",
                needed: len,
                got: cudarc::driver::DeviceSlice::len(&view),
            });
        }
        Ok(Self {
            place: view_place!(view, device_ptr)?,
            len,
            memory: PhantomData,
        })
    }

    /// A vector in memory that cudarc does not own.
    ///
    /// # Safety
    /// As [`DeviceMatRef::from_raw`](super::DeviceMatRef::from_raw), for `len` elements from
    /// `address` on.
    pub unsafe fn from_raw(device: usize, address: CUdeviceptr, len: usize) -> Self {
        Self {
            place: Place::foreign(address, device),
            len,
            memory: PhantomData,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the vector has no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}
