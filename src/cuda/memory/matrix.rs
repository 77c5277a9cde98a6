//! Matrices in device memory: the activations and the results of a GEMM.

use super::stream::Place;
use crate::cuda::sys::status;
use crate::matrix::check;
use crate::{Error, Result};
use cudarc::driver::sys::{CUdeviceptr, CUstreamCaptureStatus};
use cudarc::driver::{CudaStream, CudaView, CudaViewMut, DevicePtr, DevicePtrMut};
use std::marker::PhantomData;

/// A row-major matrix `[rows, cols]` in device memory, whose rows start `stride` elements apart.
///
/// A matrix from a view of a cudarc slice belongs to the stream on which the slice was allocated,
/// and only launches on that stream accept it. Stream order then covers its contents and its
/// release, so a launch needs no events. Use [`DeviceMatRef::from_raw`] for other memory.
///
/// **Create it before a capture begins.** If a context tracks events, taking the address of a slice
/// makes its stream wait for the last write to the slice, which would tie a graph to work outside
/// of it. During a capture the constructors return an error. A program whose memory belongs to one
/// stream may disable the events of its context instead (cudarc's `disable_event_tracking`).
#[derive(Clone, Debug)]
pub struct DeviceMatRef<'a, T> {
    pub(crate) place: Place,
    rows: usize,
    cols: usize,
    stride: usize,
    memory: PhantomData<&'a [T]>,
}

/// A [`DeviceMatRef`] that a launch may write.
#[derive(Debug)]
pub struct DeviceMatMut<'a, T> {
    pub(crate) place: Place,
    rows: usize,
    cols: usize,
    stride: usize,
    memory: PhantomData<&'a mut [T]>,
}

/// Checks that taking an address does not add the wait for an event to a capture.
pub(super) fn check_capture(stream: &CudaStream) -> Result<()> {
    if !stream.context().is_managing_stream_synchronization() {
        return Ok(());
    }
    let capture = stream.capture_status();
    match capture.map_err(status::driver("cuStreamIsCapturing"))? {
        CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE => Ok(()),
        _ => Err(Error::Cuda {
            call: "a view of device memory during a capture",
            reason:
                "its context tracks events, so the view would tie the graph to work outside of \
                     it: create the view before the capture begins, or disable event tracking"
                    .into(),
        }),
    }
}

/// The place of a cudarc view.
macro_rules! view_place {
    ($view:ident, $pointer:ident) => {{
        let stream = cudarc::driver::DeviceSlice::stream(&$view).clone();
        crate::cuda::memory::matrix::check_capture(&stream).map(|()| {
            let (address, guard) = $view.$pointer(&stream);
            // Dropping the guard would record that the address is no longer in use, but it is.
            std::mem::forget(guard);
            Place::on_stream(address, &stream)
        })
    }};
}
pub(super) use view_place;

macro_rules! matrix {
    ($matrix:ident, $view:ident, $pointer:ident $(, $mutable:ident)?) => {
        impl<'a, T> $matrix<'a, T> {
            /// A dense `[rows, cols]` matrix at the start of a view.
            ///
            /// # Errors
            /// As [`Self::with_stride`].
            pub fn new(view: $view<'a, T>, rows: usize, cols: usize) -> Result<Self> {
                Self::with_stride(view, rows, cols, cols)
            }

            /// A `[rows, cols]` matrix at the start of a view, whose rows start `stride` elements
            /// apart.
            ///
            /// # Errors
            /// [`Error::Stride`] if `stride < cols`, [`Error::Buffer`] if the view ends before the
            /// last row does, [`Error::Cuda`] during a capture of the view's stream in a context
            /// that tracks events.
            pub fn with_stride(
                $($mutable)? view: $view<'a, T>,
                rows: usize,
                cols: usize,
                stride: usize,
            ) -> Result<Self> {
                check("device matrix", view.len(), rows, cols, stride)?;
                Ok(Self {
                    place: view_place!(view, $pointer)?,
                    rows,
                    cols,
                    stride,
                    memory: PhantomData,
                })
            }

            /// A matrix in memory that cudarc does not own.
            ///
            /// # Safety
            /// `address` is an address in the memory of `device`, aligned to `T`. From there on,
            /// `(rows - 1) * stride + cols` elements are valid until every launch that uses this
            /// matrix has ended, on any stream. The caller orders these launches with all other
            /// accesses to the memory. `stride >= cols`.
            pub unsafe fn from_raw(
                device: usize,
                address: CUdeviceptr,
                rows: usize,
                cols: usize,
                stride: usize,
            ) -> Self {
                Self {
                    place: Place::foreign(address, device),
                    rows,
                    cols,
                    stride,
                    memory: PhantomData,
                }
            }

            /// Number of rows.
            pub fn rows(&self) -> usize {
                self.rows
            }

            /// Number of columns.
            pub fn cols(&self) -> usize {
                self.cols
            }

            /// Elements between the starts of two rows.
            pub fn stride(&self) -> usize {
                self.stride
            }
        }
    };
}

matrix!(DeviceMatRef, CudaView, device_ptr);
matrix!(DeviceMatMut, CudaViewMut, device_ptr_mut, mut);

impl<T> DeviceMatMut<'_, T> {
    /// The same matrix for reading.
    pub fn as_ref(&self) -> DeviceMatRef<'_, T> {
        DeviceMatRef {
            place: self.place.clone(),
            rows: self.rows,
            cols: self.cols,
            stride: self.stride,
            memory: PhantomData,
        }
    }
}
