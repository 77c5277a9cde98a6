//! Numbers of `kernels/api/w4ax_kernels.h`.

/// `w4axk_status`.
pub const NULL_POINTER: i32 = 1;
pub const BAD_SHAPE: i32 = 2;
pub const BAD_STRIDE: i32 = 3;
pub const BAD_WIDTH: i32 = 4;
pub const BAD_GROUPING: i32 = 5;
pub const BAD_FAMILY: i32 = 7;
pub const BAD_MODE: i32 = 8;
pub const BAD_TILE: i32 = 9;
pub const BAD_FLAGS: i32 = 10;
pub const MISALIGNED: i32 = 11;
pub const K_TOO_LARGE: i32 = 12;
pub const WORKSPACE_TOO_SMALL: i32 = 13;
pub const BAD_SCHEME: i32 = 22;

/// `w4axk_family` and `w4axk_mode`: the kernels' own choice.
pub const AUTO: u32 = 0;

/// `w4axk_family`.
pub const DECODE: u32 = 1;
pub const PREFILL: u32 = 2;
pub const PLAIN: u32 = 3;
pub const WGMMA: u32 = 4;

/// `w4axk_mode`.
pub const FUSED: u32 = 1;
pub const PACKED: u32 = 2;

/// `w4axk_scheme`.
pub const TWO_LEVEL: u32 = 1;

/// A width in place of which the kernel reads the latch.
pub const LATCHED: u32 = 255;

/// `W4AXK_FLAG_PDL`: programmatic dependent launch.
pub const PDL: u32 = 1;
