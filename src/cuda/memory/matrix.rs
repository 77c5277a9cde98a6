//! Matrices in device memory: what a GEMM on a GPU takes and gives.

use crate::cuda::sys::status;
use crate::matrix::check;
use crate::{Error, Result};
use cudarc::driver::sys::{CUdeviceptr, CUstream, CUstreamCaptureStatus};
use cudarc::driver::{
    CudaContext, CudaStream, CudaView, CudaViewMut, DevicePtr, DevicePtrMut, DeviceSlice,
};
use std::marker::PhantomData;
use std::sync::Arc;

/// The stream of a launch, which need not be cudarc's.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub context: &'a CudaContext,
    pub stream: CUstream,
}

impl<'a> From<&'a CudaStream> for Target<'a> {
    fn from(stream: &'a CudaStream) -> Self {
        Self {
            context: stream.context(),
            stream: stream.cu_stream(),
        }
    }
}

/// Where memory is, and which stream orders what happens to it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub address: CUdeviceptr,
    pub device: usize,
    /// `None`: foreign memory, ordered by its owner.
    pub stream: Option<Arc<CudaStream>>,
}

impl Place {
    /// Whether a launch on `target` may use it.
    pub fn check(&self, what: &'static str, target: Target<'_>) -> Result<()> {
        let ordinal = target.context.ordinal();
        if self.device != ordinal {
            return Err(Error::DeviceMismatch {
                what,
                expected: format!("memory of CUDA device {ordinal}, which the stream belongs to"),
                got: format!("memory of CUDA device {}", self.device),
            });
        }
        let same = self.stream.as_ref().is_none_or(|own| {
            own.cu_stream() == target.stream && **own.context() == *target.context
        });
        if same {
            return Ok(());
        }
        Err(Error::DeviceMismatch {
            what,
            expected: "memory that was allocated on the stream of the launch".into(),
            got: "memory of another stream".into(),
        })
    }
}

/// A row-major matrix `[rows, cols]` in device memory, whose rows start `stride` elements apart.
///
/// Made of a view of a cudarc slice, it belongs to the stream that the slice was allocated on, and only launches on that
/// stream take it: stream order is then all that is needed, for its contents as for its end, and a launch needs no events.
/// For anything else there is [`DeviceMatRef::from_raw`].
///
/// **Make it before a capture begins.** If a context tracks events, taking a slice's address makes its stream wait for the
/// slice's last write, which would tie a graph to work outside of it: in a capture the constructors answer an error.
#[derive(Clone, Debug)]
pub struct DeviceMatRef<'a, T> {
    pub(crate) place: Place,
    rows: usize,
    cols: usize,
    stride: usize,
    memory: PhantomData<&'a [T]>,
}

/// A [`DeviceMatRef`] that a GEMM may write.
#[derive(Debug)]
pub struct DeviceMatMut<'a, T> {
    pub(crate) place: Place,
    rows: usize,
    cols: usize,
    stride: usize,
    memory: PhantomData<&'a mut [T]>,
}

/// Refuses to take an address where that would put an event's wait into a capture.
fn check_capture(stream: &CudaStream) -> Result<()> {
    if !stream.context().is_managing_stream_synchronization() {
        return Ok(());
    }
    let capture = stream.capture_status();
    match capture.map_err(status::driver("cuStreamIsCapturing"))? {
        CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE => Ok(()),
        _ => Err(Error::Cuda {
            call: "a matrix view in a capture",
            reason: "its context tracks events, and the view would tie the graph to work outside of it: make the view \
                     before the capture begins"
                .into(),
        }),
    }
}

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

            /// A `[rows, cols]` matrix at the start of a view, whose rows start `stride` elements apart.
            ///
            /// # Errors
            /// [`Error::Stride`] if `stride < cols`, [`Error::Buffer`] if the view does not reach the end of the last
            /// row, [`Error::Cuda`] while the view's stream is captured in a context that tracks events.
            pub fn with_stride(
                $($mutable)? view: $view<'a, T>,
                rows: usize,
                cols: usize,
                stride: usize,
            ) -> Result<Self> {
                check("device matrix", view.len(), rows, cols, stride)?;
                let own = DeviceSlice::stream(&view).clone();
                check_capture(&own)?;
                let address = {
                    let (address, guard) = view.$pointer(&own);
                    // The guard would record that the address is no longer in use, which is not so.
                    std::mem::forget(guard);
                    address
                };
                Ok(Self {
                    place: Place {
                        address,
                        device: own.context().ordinal(),
                        stream: Some(own),
                    },
                    rows,
                    cols,
                    stride,
                    memory: PhantomData,
                })
            }

            /// A matrix in memory that is not cudarc's.
            ///
            /// # Safety
            /// `address` is an address of `device`'s memory, aligned to `T`. From there on, `(rows - 1) * stride + cols`
            /// elements are valid, and stay so until every launch that got this matrix has ended, on whatever stream;
            /// the caller orders these launches with everything else that touches the memory. `stride >= cols`.
            pub unsafe fn from_raw(
                device: usize,
                address: CUdeviceptr,
                rows: usize,
                cols: usize,
                stride: usize,
            ) -> Self {
                Self {
                    place: Place {
                        address,
                        device,
                        stream: None,
                    },
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
    /// The same matrix, to read from.
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
