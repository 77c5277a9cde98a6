//! Statuses, the message of the last error, and the guard around every function of the ABI.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use w4ax::{Error, Unavailable};

macro_rules! statuses {
    ($($name:ident = $number:literal, $enumerator:ident, $text:literal;)*) => {
        /// `w4ax_status`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Status {
            $($name = $number,)*
        }

        impl Status {
            /// Every status, with its number and the name of its enumerator in C.
            pub const ROWS: &'static [(Self, u32, &'static str)] =
                &[$((Self::$name, $number, stringify!($enumerator)),)*];

            /// The text of `w4ax_status_text`.
            fn text(self) -> &'static CStr {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

statuses! {
    Ok = 0, W4AX_OK, c"no error";
    NullPointer = 1, W4AX_NULL_POINTER, c"a required pointer is null";
    BadWidth = 2, W4AX_BAD_WIDTH, c"unsupported activation width: expected 2, 4, 8 or 16 bits";
    BadShape = 3, W4AX_BAD_SHAPE, c"shapes do not match, or a row stride is shorter than its row";
    BufferTooSmall = 4, W4AX_BUFFER_TOO_SMALL, c"a buffer or workspace is too small for the shape";
    Misaligned = 5, W4AX_MISALIGNED, c"a pointer is not aligned as its type requires";
    Overlap = 6, W4AX_OVERLAP, c"an output overlaps an input";
    BadEnum = 7, W4AX_BAD_ENUM, c"unknown enumeration value, or a reserved field is not 0";
    NotFinite = 8, W4AX_NOT_FINITE, c"a number is NaN or infinite where it must be finite";
    OutOfRange = 9, W4AX_OUT_OF_RANGE, c"a value is out of range";
    BadText = 10, W4AX_BAD_TEXT, c"a string is not valid UTF-8";
    NotFound = 11, W4AX_NOT_FOUND, c"no entry has this name or index";
    BadFormat = 12, W4AX_BAD_FORMAT, c"a file is truncated, inconsistent or of another format";
    Io = 13, W4AX_IO, c"reading or writing a file failed";
    NoBackend = 14, W4AX_NO_BACKEND, c"this machine or build does not support the backend";
    BadConfig = 15, W4AX_BAD_CONFIG, c"a field of a configuration is invalid";
    OutOfMemory = 16, W4AX_OUT_OF_MEMORY, c"out of memory";
    Busy = 17, W4AX_BUSY, c"another call is using this handle";
    Threads = 18, W4AX_THREADS, c"threads could not be started, or a pool broke its contract";
    Internal = 19, W4AX_INTERNAL, c"internal error of the library";
    NoDriver = 20, W4AX_NO_DRIVER, c"no CUDA driver is installed";
    NoDevice = 21, W4AX_NO_DEVICE, c"no CUDA device has this number";
    DriverTooOld = 22, W4AX_DRIVER_TOO_OLD, c"the CUDA driver is older than the kernels require";
    DeviceMismatch = 23, W4AX_DEVICE_MISMATCH, c"an argument belongs to another device or context";
    CudaFailed = 24, W4AX_CUDA_FAILED, c"a CUDA call failed";
}

/// The status of a call that fails, and the text of `w4ax_last_error`.
#[derive(Debug)]
pub(super) struct Failure {
    pub status: Status,
    pub text: String,
}

pub(super) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub fn new(status: Status, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { status, text }
    }

    fn panicked(payload: Box<dyn Any + Send>) -> Self {
        let payload = match payload.downcast::<Self>() {
            Ok(failure) => return *failure,
            Err(payload) => payload,
        };
        let text = match (
            payload.downcast_ref::<&str>(),
            payload.downcast_ref::<String>(),
        ) {
            (Some(text), _) => text,
            (_, Some(text)) => text.as_str(),
            _ => "panic without a message",
        };
        Self::new(Status::Internal, text)
    }

    /// Unwinds to the function of the ABI that is running, through code that cannot return an
    /// error. No panic hook runs.
    pub fn unwind(self) -> ! {
        std::panic::resume_unwind(Box::new(self))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::UnsupportedWidth(_) => Status::BadWidth,
            Error::Shape { .. }
            | Error::Stride { .. }
            | Error::AddressSpace { .. }
            | Error::Mismatch { .. } => Status::BadShape,
            Error::Buffer { .. } => Status::BufferTooSmall,
            Error::Alignment { .. } => Status::Misaligned,
            Error::NotFinite { .. } => Status::NotFinite,
            Error::Range { .. } | Error::Weight8 { .. } => Status::OutOfRange,
            Error::Format { .. }
            | Error::Json { .. }
            | Error::Tensor { .. }
            | Error::Unsupported { .. } => Status::BadFormat,
            Error::MissingTensor { .. } => Status::NotFound,
            Error::Io { .. } => Status::Io,
            Error::Unavailable { reason, .. } => match reason {
                Unavailable::NoDriver => Status::NoDriver,
                Unavailable::NoDevice { .. } | Unavailable::NoSuchDevice { .. } => Status::NoDevice,
                Unavailable::DriverTooOld { .. } => Status::DriverTooOld,
                Unavailable::Failed { .. } => Status::CudaFailed,
                Unavailable::NoThreads { .. } => Status::Threads,
                _ => Status::NoBackend,
            },
            Error::Config { .. } => Status::BadConfig,
            Error::DeviceMismatch { .. } => Status::DeviceMismatch,
            #[cfg(feature = "cuda")]
            Error::Driver { .. } => Status::CudaFailed,
            Error::Cuda { .. } => Status::CudaFailed,
            Error::OutOfMemory { .. } => Status::OutOfMemory,
            // `InvalidState` and `GraphNode`: no function of the ABI runs steps.
            _ => Status::Internal,
        };
        Self::new(status, error.to_string())
    }
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// Runs the body of a function of the ABI. An error or a panic becomes a status and the last error
/// of this thread.
pub(super) fn entry(body: impl FnOnce() -> Result<()>) -> Status {
    // Unwind safety: what a panic leaves incomplete is behind locks, or in outputs that the header
    // calls undefined after `W4AX_INTERNAL`.
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return Status::Ok,
        Ok(Err(failure)) => failure,
        Err(payload) => Failure::panicked(payload),
    };
    let mut text = failure.text.into_bytes();
    text.retain(|byte| *byte != 0);
    let text = CString::new(text).unwrap_or_default();
    // A thread that is exiting has no last error any more; the status is still correct.
    let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = text);
    failure.status
}

/// Defines functions of the ABI that return a status. A body runs under [`entry`] and returns a
/// [`Result`]; `?` ends it with a status.
macro_rules! entry_points {
    ($(fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block)*) => { $(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $type),*) -> $crate::status::Status {
            // SAFETY: the caller keeps the contract of the crate's documentation, which the header
            // states: each pointer is null or valid for what the header says.
            $crate::status::entry(|| unsafe { $body })
        }
    )* };
}

/// Defines the functions that free handles.
macro_rules! free_functions {
    ($($name:ident($handle:ident: $type:ty);)*) => { $(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($handle: *mut $type) {
            $crate::status::entry(|| {
                // SAFETY: the handle is null or from this library, and the caller uses it no more.
                unsafe { $crate::raw::free($handle) };
                Ok(())
            });
        }
    )* };
}

pub(crate) use {entry_points, free_functions};

#[unsafe(no_mangle)]
pub extern "C" fn w4ax_status_text(status: u32) -> *const c_char {
    let row = Status::ROWS.iter().find(|row| row.1 == status);
    row.map_or(c"unknown status", |row| row.0.text()).as_ptr()
}

#[unsafe(no_mangle)]
pub extern "C" fn w4ax_last_error() -> *const c_char {
    let last = LAST_ERROR.try_with(|last| last.borrow().as_ptr());
    last.unwrap_or(c"".as_ptr())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last_error() -> String {
        // SAFETY: the text is NUL-terminated and lives until the next error of this thread.
        let text = unsafe { CStr::from_ptr(w4ax_last_error()) };
        text.to_str().unwrap().to_owned()
    }

    #[test]
    fn panics_become_statuses() {
        assert_eq!(
            entry(|| panic!("step {} broke\0.", 3)),
            Status::Internal,
            "the panic does not unwind into the caller"
        );
        assert_eq!(last_error(), "step 3 broke.");
        assert_eq!(entry(|| std::panic::panic_any(7)), Status::Internal);
        assert_eq!(last_error(), "panic without a message");
        assert_eq!(
            entry(|| Failure::new(Status::Busy, "in use").unwind()),
            Status::Busy
        );
        assert_eq!(entry(|| Ok(())), Status::Ok);
        assert_eq!(last_error(), "in use", "success keeps the message");
        std::thread::spawn(|| assert_eq!(last_error(), ""))
            .join()
            .unwrap();
    }

    #[test]
    fn errors_of_devices_are_not_internal() {
        let (expected, got) = (String::new(), String::new());
        let mismatch = Error::DeviceMismatch {
            what: "stream",
            expected,
            got,
        };
        assert_eq!(Failure::from(mismatch).status, Status::DeviceMismatch);
        let reason = "out of memory".to_owned();
        let failed = Failure::from(Error::Cuda {
            call: "uploading a weight",
            reason,
        });
        assert_eq!(failed.status, Status::CudaFailed);
        assert_eq!(failed.text, "uploading a weight: out of memory");
    }

    #[test]
    fn each_status_has_its_own_number_and_text() {
        for (at, &(status, number, _)) in Status::ROWS.iter().enumerate() {
            assert_eq!((status as usize, number as usize), (at, at));
            assert!(!status.text().is_empty());
            let before = &Status::ROWS[..at];
            assert!(
                before
                    .iter()
                    .all(|(other, ..)| other.text() != status.text())
            );
        }
    }
}
