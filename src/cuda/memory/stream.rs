//! The stream of a launch, and the place of the memory that it uses.

use crate::{Error, Result};
use cudarc::driver::sys::{CUdeviceptr, CUstream};
use cudarc::driver::{CudaContext, CudaStream};
use std::sync::Arc;

/// The stream of a launch: a stream of cudarc, or a foreign one such as the `cudaStream_t` of a C++
/// runtime.
///
/// Functions that launch take `impl Into<StreamRef>`, so a `&CudaStream` or an `&Arc<CudaStream>`
/// can be passed directly.
///
/// ```no_run
/// # use half::bf16;
/// # use w4ax::cuda::{DeviceMatMut, Gemm, Gpu, StreamRef, Workspace};
/// # fn foreign(gpu: &Gpu, raw: cudarc::driver::sys::CUstream, gemm: &Gemm<'_>,
/// #     y: &mut DeviceMatMut<'_, bf16>, workspace: &mut Workspace) -> w4ax::Result<()> {
/// // SAFETY: the owner of the stream keeps it alive until the call returns.
/// let stream = unsafe { StreamRef::from_raw(gpu.context(), raw) };
/// gpu.run(stream, gemm, y, workspace)
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct StreamRef<'a> {
    context: &'a CudaContext,
    stream: CUstream,
}

impl<'a> StreamRef<'a> {
    /// A stream that cudarc does not own. Null is the legacy default stream of the context.
    ///
    /// # Safety
    /// `stream` is null, or a stream of `context` that is alive as long as this value is used. (A
    /// launch on a stream of another context returns [`Error::DeviceMismatch`].)
    pub unsafe fn from_raw(context: &'a CudaContext, stream: CUstream) -> Self {
        Self { context, stream }
    }

    pub(crate) fn context(self) -> &'a CudaContext {
        self.context
    }

    /// The stream as the kernel library takes it.
    pub(crate) fn as_ptr(self) -> *mut core::ffi::c_void {
        self.stream.cast()
    }
}

impl<'a> From<&'a CudaStream> for StreamRef<'a> {
    fn from(stream: &'a CudaStream) -> Self {
        Self {
            context: stream.context(),
            stream: stream.cu_stream(),
        }
    }
}

impl<'a> From<&'a Arc<CudaStream>> for StreamRef<'a> {
    fn from(stream: &'a Arc<CudaStream>) -> Self {
        Self::from(&**stream)
    }
}

/// An address in device memory, its device, and the stream that orders its use.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub address: CUdeviceptr,
    pub device: usize,
    /// `None`: foreign memory, whose owner orders its use.
    pub stream: Option<Arc<CudaStream>>,
}

impl Place {
    /// Memory that was allocated on a stream.
    pub fn on_stream(address: CUdeviceptr, stream: &Arc<CudaStream>) -> Self {
        Self {
            address,
            device: stream.context().ordinal(),
            stream: Some(stream.clone()),
        }
    }

    /// Memory that cudarc does not own.
    pub fn foreign(address: CUdeviceptr, device: usize) -> Self {
        Self {
            address,
            device,
            stream: None,
        }
    }

    /// Checks that a launch on `stream` may use the memory.
    ///
    /// # Errors
    /// [`Error::DeviceMismatch`] for memory of another device or stream.
    pub fn check(&self, what: &'static str, stream: StreamRef<'_>) -> Result<()> {
        check_device(what, "memory", stream.context.ordinal(), self.device)?;
        let same = self.stream.as_ref().is_none_or(|own| {
            own.cu_stream() == stream.stream && **own.context() == *stream.context
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

/// Checks that `what` (a `kind` of object) is on the device of the stream.
///
/// # Errors
/// [`Error::DeviceMismatch`] if it is on another device.
pub(crate) fn check_device(
    what: &'static str,
    kind: &str,
    expected: usize,
    got: usize,
) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    Err(Error::DeviceMismatch {
        what,
        expected: format!("{kind} on CUDA device {expected}, the device of the stream"),
        got: format!("{kind} on CUDA device {got}"),
    })
}
