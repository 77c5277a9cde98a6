//! The statuses of the kernel library as errors of this crate.

use super::stubs as sys;
use crate::{CudaVersion, Error, Result, Unavailable};
use cudarc::driver::DriverError;

impl Unavailable {
    /// The error for a requested device.
    pub(crate) fn of_device(self, ordinal: usize) -> Error {
        self.of(format!("CUDA device {ordinal}"))
    }
}

impl From<Unavailable> for Error {
    fn from(reason: Unavailable) -> Self {
        reason.of("CUDA")
    }
}

impl CudaVersion {
    /// Converts CUDA's encoding: 13.0 is 13000.
    fn of(number: core::ffi::c_int) -> Self {
        let number = u32::try_from(number).unwrap_or(0);
        Self {
            major: number / 1000,
            minor: number % 1000 / 10,
        }
    }
}

/// Returns the newest CUDA version that the driver supports; `None` without a driver.
pub fn driver_version() -> Option<CudaVersion> {
    let mut number = 0;
    // SAFETY: the runtime writes one int, 0 without a driver.
    let status = unsafe { sys::cudaDriverGetVersion(&mut number) };
    (status == 0 && number > 0).then(|| CudaVersion::of(number))
}

/// Returns the version of the CUDA runtime that the kernels are linked with; `None` in a build
/// without kernels.
pub fn runtime_version() -> Option<CudaVersion> {
    let mut number = 0;
    // SAFETY: the runtime writes one int.
    let status = unsafe { sys::cudaRuntimeGetVersion(&mut number) };
    (status == 0 && number > 0).then(|| CudaVersion::of(number))
}

/// Returns the number of CUDA devices that this process can use.
///
/// It calls the static runtime, which needs no driver. Call it before any function of cudarc, which
/// panics without a driver.
///
/// # Errors
/// [`Unavailable`] if there is no device, with the reason.
pub fn device_count() -> std::result::Result<usize, Unavailable> {
    let mut count = 0;
    // SAFETY: the function writes one number.
    match unsafe { sys::w4axk_device_count(&mut count) } {
        sys::W4AXK_OK if count > 0 => Ok(count as usize),
        sys::W4AXK_OK | sys::W4AXK_NO_DEVICE => Err(no_device()),
        status => Err(unavailable(status)),
    }
}

fn no_device() -> Unavailable {
    match driver_version() {
        None => Unavailable::NoDriver,
        Some(_) => Unavailable::NoDevice {
            visible: std::env::var("CUDA_VISIBLE_DEVICES").ok(),
        },
    }
}

/// The reason of a status that makes a device unusable.
fn unavailable(status: sys::w4axk_status) -> Unavailable {
    let version = |v: Option<CudaVersion>| v.unwrap_or(CudaVersion::of(0));
    match status {
        sys::NOT_BUILT => Unavailable::NotBuilt {
            reason: sys::WHY_NOT_BUILT,
        },
        sys::W4AXK_NO_DEVICE => no_device(),
        sys::W4AXK_DRIVER_TOO_OLD => Unavailable::DriverTooOld {
            driver: version(driver_version()),
            runtime: version(runtime_version()),
        },
        status => Unavailable::Failed {
            reason: reason(status),
        },
    }
}

/// The text of a status, with the text of the runtime's error if there was one.
pub(crate) fn reason(status: sys::w4axk_status) -> String {
    // SAFETY: both texts are static.
    unsafe {
        let text = sys::text(sys::w4axk_status_text(status));
        match status {
            sys::W4AXK_CUDA_ERROR => {
                format!("{text}: {}", sys::text(sys::w4axk_last_cuda_error()))
            }
            _ => text.to_owned(),
        }
    }
}

/// Converts the status of a call on an open device.
pub(crate) fn check(call: &'static str, status: sys::w4axk_status) -> Result<()> {
    match status {
        sys::W4AXK_OK => Ok(()),
        sys::NOT_BUILT | sys::W4AXK_NO_DEVICE | sys::W4AXK_DRIVER_TOO_OLD => {
            Err(unavailable(status).into())
        }
        sys::W4AXK_WRONG_CONTEXT => Err(Error::DeviceMismatch {
            what: "stream",
            expected: "a stream of the device's primary context".into(),
            got: "a stream of another context".into(),
        }),
        status => Err(Error::Cuda {
            call,
            reason: reason(status),
        }),
    }
}

/// Converts the error of a driver call.
pub(crate) fn driver(call: &'static str) -> impl Fn(DriverError) -> Error {
    move |source| Error::Driver { call, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_differ_by_reason() {
        let all = [
            Unavailable::NotBuilt {
                reason: "there is no nvcc: run `third_party/fetch`",
            },
            Unavailable::NoDriver,
            Unavailable::NoDevice { visible: None },
            Unavailable::NoDevice {
                visible: Some(String::new()),
            },
            Unavailable::NoSuchDevice {
                ordinal: 3,
                count: 1,
            },
            Unavailable::DriverTooOld {
                driver: CudaVersion::of(12080),
                runtime: CudaVersion::of(13000),
            },
            Unavailable::DeviceTooOld {
                name: "Tesla T4".into(),
                capability: (7, 5),
            },
            Unavailable::NoKernelImage {
                name: "B200".into(),
                capability: (10, 0),
                built_for: "80",
            },
            Unavailable::Failed {
                reason: "out of memory".into(),
            },
        ];
        let texts: std::collections::HashSet<String> = all.iter().map(|u| u.to_string()).collect();
        assert_eq!(texts.len(), all.len());
        assert!(all[5].to_string().contains("CUDA 12.8"));
        assert!(
            all[3]
                .to_string()
                .contains("CUDA_VISIBLE_DEVICES is set to ``")
        );
        let error = all[1].clone().of_device(2).to_string();
        assert!(
            error.starts_with("CUDA device 2: no CUDA driver"),
            "{error}"
        );
    }

    #[test]
    fn maps_statuses_to_errors() {
        assert!(check("gemm", sys::W4AXK_OK).is_ok());
        let wrong = check("gemm", sys::W4AXK_WRONG_CONTEXT);
        assert!(matches!(
            wrong,
            Err(Error::DeviceMismatch { what: "stream", .. })
        ));
        let other = check("gemm", sys::W4AXK_BAD_STRIDE);
        assert!(matches!(other, Err(Error::Cuda { call: "gemm", .. })));
        let absent = check("gemm", sys::NOT_BUILT).map_err(|e| e.to_string());
        assert!(absent.is_err_and(|e| e.contains("built without kernels")));
    }
}
