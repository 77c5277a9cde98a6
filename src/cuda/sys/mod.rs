//! The C ABI of the kernels: its declarations, its enums, its statuses, and stubs for a build
//! without kernels.

#[rustfmt::skip]
#[allow(missing_docs, non_camel_case_types, non_upper_case_globals, dead_code, unreachable_pub)]
#[allow(clippy::all, clippy::undocumented_unsafe_blocks)]
mod bindings;
mod build_info;
pub(crate) mod enums;
pub(crate) mod status;
mod stubs;

pub use build_info::{BuildInfo, build_info, kernel_names};
pub use enums::{Family, Mma, Mode, OperandLayout};
pub use status::{device_count, driver_version, runtime_version};
pub(crate) use stubs::*;
