//! The version of the library.

use std::ffi::{CStr, c_char};

/// `W4AX_VERSION`: major, minor and patch in bits 31..24, 23..16 and 15..0.
pub const VERSION: u32 = part(env!("CARGO_PKG_VERSION_MAJOR")) << 24
    | part(env!("CARGO_PKG_VERSION_MINOR")) << 16
    | part(env!("CARGO_PKG_VERSION_PATCH"));

const TEXT: &CStr =
    match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("the version contains a NUL"),
    };

const fn part(digits: &str) -> u32 {
    match u32::from_str_radix(digits, 10) {
        Ok(number) => number,
        Err(_) => panic!("a part of the version is not a number"),
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn w4ax_version() -> u32 {
    VERSION
}

#[unsafe(no_mangle)]
pub extern "C" fn w4ax_version_text() -> *const c_char {
    TEXT.as_ptr()
}
