//! Statuses, the message of the last error, and the guard around every entry point.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use w4ax::{Error, Unavailable};

macro_rules! statuses {
    ($($name:ident = $value:literal, $c_name:literal, $text:literal;)*) => {
        /// `w4ax_status`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Status {
            $($name = $value,)*
        }

        impl Status {
            /// Each with its name in C and the text of `w4ax_status_text`.
            pub const ALL: &[(Self, &str, &CStr)] = &[$((Self::$name, $c_name, $text),)*];
        }
    };
}

statuses! {
    Ok = 0, "W4AX_OK", c"no error";
    NullPointer = 1, "W4AX_NULL_POINTER", c"a pointer that must not be null is";
    BadWidth = 2, "W4AX_BAD_WIDTH", c"the activation widths are 2, 4, 8 and 16 bits";
    BadShape = 3, "W4AX_BAD_SHAPE", c"shapes that do not fit together, or a row stride shorter than its row";
    BufferTooSmall = 4, "W4AX_BUFFER_TOO_SMALL", c"a buffer or workspace is too small for the shape";
    Misaligned = 5, "W4AX_MISALIGNED", c"a pointer is not aligned as its type requires";
    Overlap = 6, "W4AX_OVERLAP", c"an output overlaps an input";
    BadEnum = 7, "W4AX_BAD_ENUM", c"an enumeration has no such value, or a reserved field is not 0";
    NotFinite = 8, "W4AX_NOT_FINITE", c"a number that must be finite is not";
    OutOfRange = 9, "W4AX_OUT_OF_RANGE", c"a value is outside its range";
    BadText = 10, "W4AX_BAD_TEXT", c"a string is not UTF-8";
    NotFound = 11, "W4AX_NOT_FOUND", c"there is nothing of that name or index";
    BadFormat = 12, "W4AX_BAD_FORMAT", c"a file is not what it must be";
    Io = 13, "W4AX_IO", c"reading or writing a file failed";
    NoBackend = 14, "W4AX_NO_BACKEND", c"this machine or build has no such backend";
    BadConfig = 15, "W4AX_BAD_CONFIG", c"a configuration value makes no sense";
    OutOfMemory = 16, "W4AX_OUT_OF_MEMORY", c"there is not enough memory";
    Busy = 17, "W4AX_BUSY", c"another thread is using this handle";
    Threads = 18, "W4AX_THREADS", c"threads could not be started, or the caller's pool broke its contract";
    Internal = 19, "W4AX_INTERNAL", c"a defect of this library";
    NoDriver = 20, "W4AX_NO_DRIVER", c"there is no CUDA driver on this machine";
    NoDevice = 21, "W4AX_NO_DEVICE", c"there is no CUDA device, or none of that number";
    DriverTooOld = 22, "W4AX_DRIVER_TOO_OLD", c"the CUDA driver is older than the kernels need";
    WrongPlace = 23, "W4AX_WRONG_PLACE", c"something of another device or context than the call's";
    CudaFailed = 24, "W4AX_CUDA_FAILED", c"a call of CUDA failed";
}

/// Why an entry point does not do what was asked.
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
            _ => "a panic without a text",
        };
        Self::new(Status::Internal, text)
    }

    /// Unwinds to the entry point that the caller of this library called, through code that has no way to fail. No
    /// panic hook runs.
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
            Error::Range { .. } => Status::OutOfRange,
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
                _ => Status::NoBackend,
            },
            Error::Config { .. } => Status::BadConfig,
            Error::DeviceMismatch { .. } => Status::WrongPlace,
            Error::Cuda { .. } => Status::CudaFailed,
            #[cfg(feature = "cuda")]
            Error::Driver { .. } => Status::CudaFailed,
            Error::OutOfMemory { .. } => Status::OutOfMemory,
            // `InvalidState` and `GraphNode`: no entry point runs steps.
            _ => Status::Internal,
        };
        Self::new(status, error.to_string())
    }
}

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// Runs the body of an entry point: an error or a panic becomes a status and this thread's last error.
pub(super) fn entry(body: impl FnOnce() -> Result<()>) -> Status {
    // What a panic leaves half done stays behind locks and in outputs that the header calls undefined then.
    let failure = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return Status::Ok,
        Ok(Err(failure)) => failure,
        Err(payload) => Failure::panicked(payload),
    };
    let mut text = failure.text.into_bytes();
    text.retain(|byte| *byte != 0);
    let text = CString::new(text).unwrap_or_default();
    // While a thread ends its message is gone already; the status still says what happened.
    let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = text);
    failure.status
}

#[unsafe(no_mangle)]
pub extern "C" fn w4ax_status_text(status: u32) -> *const c_char {
    let known = Status::ALL.iter().find(|(s, ..)| *s as u32 == status);
    known
        .map_or(c"an unknown status", |(.., text)| text)
        .as_ptr()
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
        // SAFETY: a NUL-terminated string that lives until this thread's next error.
        let text = unsafe { CStr::from_ptr(w4ax_last_error()) };
        text.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_panic_is_a_status() {
        assert_eq!(
            entry(|| panic!("step {} broke\0.", 3)),
            Status::Internal,
            "no unwinding past here"
        );
        assert_eq!(last_error(), "step 3 broke.");
        assert_eq!(entry(|| std::panic::panic_any(7)), Status::Internal);
        assert_eq!(last_error(), "a panic without a text");
        assert_eq!(
            entry(|| Failure::new(Status::Busy, "in use").unwind()),
            Status::Busy
        );
        assert_eq!(entry(|| Ok(())), Status::Ok);
        assert_eq!(last_error(), "in use", "success leaves the message");
        std::thread::spawn(|| assert_eq!(last_error(), ""))
            .join()
            .unwrap();
    }

    #[test]
    fn what_a_device_answers_is_no_defect() {
        let (expected, got) = (String::new(), String::new());
        let place = Error::DeviceMismatch {
            what: "stream",
            expected,
            got,
        };
        assert_eq!(Failure::from(place).status, Status::WrongPlace);
        let reason = "out of memory".to_owned();
        let failed = Failure::from(Error::Cuda {
            call: "uploading a weight",
            reason,
        });
        assert_eq!(failed.status, Status::CudaFailed);
        assert_eq!(failed.text, "uploading a weight: out of memory");
    }

    #[test]
    fn each_status_has_a_number_and_a_text_of_its_own() {
        for (at, (status, name, text)) in Status::ALL.iter().enumerate() {
            assert_eq!(*status as usize, at);
            assert!(name.starts_with("W4AX_") && !text.is_empty());
            assert!(Status::ALL[..at].iter().all(|(.., other)| other != text));
        }
    }
}
