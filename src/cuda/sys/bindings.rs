//! What the headers of `kernels/` declare. Written by bindgen: see tests/bindings.rs.


pub const W4AXK_ABI_VERSION: u32 = 5;
pub const W4AXK_OK: w4axk_status = 0;
pub const W4AXK_NULL_POINTER: w4axk_status = 1;
pub const W4AXK_BAD_SHAPE: w4axk_status = 2;
pub const W4AXK_BAD_STRIDE: w4axk_status = 3;
pub const W4AXK_BAD_WIDTH: w4axk_status = 4;
pub const W4AXK_BAD_GROUPING: w4axk_status = 5;
pub const W4AXK_BAD_SCALE_TYPE: w4axk_status = 6;
pub const W4AXK_BAD_FAMILY: w4axk_status = 7;
pub const W4AXK_BAD_MODE: w4axk_status = 8;
pub const W4AXK_BAD_TILE: w4axk_status = 9;
pub const W4AXK_BAD_FLAGS: w4axk_status = 10;
pub const W4AXK_MISALIGNED: w4axk_status = 11;
pub const W4AXK_K_TOO_LARGE: w4axk_status = 12;
pub const W4AXK_WORKSPACE_TOO_SMALL: w4axk_status = 13;
pub const W4AXK_NO_DEVICE: w4axk_status = 14;
pub const W4AXK_BAD_DEVICE: w4axk_status = 15;
pub const W4AXK_DRIVER_TOO_OLD: w4axk_status = 16;
pub const W4AXK_NO_KERNEL_IMAGE: w4axk_status = 17;
pub const W4AXK_NOT_PRELOADED: w4axk_status = 18;
pub const W4AXK_WRONG_CONTEXT: w4axk_status = 19;
pub const W4AXK_CUDA_ERROR: w4axk_status = 20;
pub const W4AXK_BAD_NODE: w4axk_status = 21;
pub const W4AXK_BAD_SCHEME: w4axk_status = 22;
pub type w4axk_status = ::core::ffi::c_uint;
pub const W4AXK_A2: w4axk_width = 2;
pub const W4AXK_A4: w4axk_width = 4;
pub const W4AXK_A8: w4axk_width = 8;
pub const W4AXK_BF16: w4axk_width = 16;
pub const W4AXK_LATCHED: w4axk_width = 255;
pub type w4axk_width = ::core::ffi::c_uint;
pub const W4AXK_SCALE_F32: w4axk_scale_type = 0;
pub const W4AXK_SCALE_F16: w4axk_scale_type = 1;
pub const W4AXK_SCALE_BF16: w4axk_scale_type = 2;
pub type w4axk_scale_type = ::core::ffi::c_uint;
pub const W4AXK_GROUPED: w4axk_scheme = 0;
pub const W4AXK_TWO_LEVEL: w4axk_scheme = 1;
pub type w4axk_scheme = ::core::ffi::c_uint;
pub const W4AXK_PER_CHANNEL: w4axk_grouping = 0;
pub const W4AXK_G32: w4axk_grouping = 32;
pub const W4AXK_G64: w4axk_grouping = 64;
pub const W4AXK_G128: w4axk_grouping = 128;
pub type w4axk_grouping = ::core::ffi::c_uint;
pub const W4AXK_MMA_NONE: w4axk_mma = 0;
pub const W4AXK_MMA_S4: w4axk_mma = 1;
pub const W4AXK_MMA_S8: w4axk_mma = 2;
pub const W4AXK_MMA_BF16: w4axk_mma = 3;
pub const W4AXK_MMA_ROUTED: w4axk_mma = 4;
pub const W4AXK_MMA_WGMMA_S8: w4axk_mma = 5;
pub const W4AXK_MMA_WGMMA_BF16: w4axk_mma = 6;
pub type w4axk_mma = ::core::ffi::c_uint;
pub const W4AXK_AUTO: w4axk_family = 0;
pub const W4AXK_DECODE: w4axk_family = 1;
pub const W4AXK_PREFILL: w4axk_family = 2;
pub const W4AXK_PLAIN: w4axk_family = 3;
pub const W4AXK_WGMMA: w4axk_family = 4;
pub type w4axk_family = ::core::ffi::c_uint;
pub const W4AXK_MODE_AUTO: w4axk_mode = 0;
pub const W4AXK_FUSED: w4axk_mode = 1;
pub const W4AXK_PACKED: w4axk_mode = 2;
pub type w4axk_mode = ::core::ffi::c_uint;
pub const W4AXK_FLAG_PDL: _bindgen_ty_1 = 1;
pub type _bindgen_ty_1 = ::core::ffi::c_uint;
pub const W4AXK_ON_TIME: w4axk_outcome = 0;
pub const W4AXK_UNWRITTEN: w4axk_outcome = 1;
pub const W4AXK_INVALID: w4axk_outcome = 2;
pub const W4AXK_STALE: w4axk_outcome = 3;
pub const W4AXK_FUTURE: w4axk_outcome = 4;
pub const W4AXK_BY_HOST: w4axk_outcome = 5;
pub type w4axk_outcome = ::core::ffi::c_uint;
pub const W4AXK_DECODE_MAX_M: _bindgen_ty_2 = 16;
pub const W4AXK_MAX_CHANNEL_K: _bindgen_ty_2 = 65536;
pub const W4AXK_MAX_EXTENT: _bindgen_ty_2 = 8388608;
pub const W4AXK_MAX_SPIN_US: _bindgen_ty_2 = 1000000;
pub const W4AXK_MAX_STRIDE: _bindgen_ty_2 = 536870912;
pub type _bindgen_ty_2 = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct w4axk_weight {
    pub tiles: *const ::core::ffi::c_void,
    pub scales: *const ::core::ffi::c_void,
    pub zeros: *const i8,
    pub sums: *const ::core::ffi::c_void,
    pub steps: *const u16,
    pub n: u32,
    pub k: u32,
    pub group: u32,
    pub scale_type: u32,
    pub scheme: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of w4axk_weight"][::core::mem::size_of::<w4axk_weight>() - 64usize];
    ["Alignment of w4axk_weight"][::core::mem::align_of::<w4axk_weight>() - 8usize];
    [
        "Offset of field: w4axk_weight::tiles",
    ][::core::mem::offset_of!(w4axk_weight, tiles) - 0usize];
    [
        "Offset of field: w4axk_weight::scales",
    ][::core::mem::offset_of!(w4axk_weight, scales) - 8usize];
    [
        "Offset of field: w4axk_weight::zeros",
    ][::core::mem::offset_of!(w4axk_weight, zeros) - 16usize];
    [
        "Offset of field: w4axk_weight::sums",
    ][::core::mem::offset_of!(w4axk_weight, sums) - 24usize];
    [
        "Offset of field: w4axk_weight::steps",
    ][::core::mem::offset_of!(w4axk_weight, steps) - 32usize];
    [
        "Offset of field: w4axk_weight::n",
    ][::core::mem::offset_of!(w4axk_weight, n) - 40usize];
    [
        "Offset of field: w4axk_weight::k",
    ][::core::mem::offset_of!(w4axk_weight, k) - 44usize];
    [
        "Offset of field: w4axk_weight::group",
    ][::core::mem::offset_of!(w4axk_weight, group) - 48usize];
    [
        "Offset of field: w4axk_weight::scale_type",
    ][::core::mem::offset_of!(w4axk_weight, scale_type) - 52usize];
    [
        "Offset of field: w4axk_weight::scheme",
    ][::core::mem::offset_of!(w4axk_weight, scheme) - 56usize];
    [
        "Offset of field: w4axk_weight::reserved",
    ][::core::mem::offset_of!(w4axk_weight, reserved) - 60usize];
};
impl Default for w4axk_weight {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct w4axk_gemm_args {
    pub weight: w4axk_weight,
    pub x: *const ::core::ffi::c_void,
    pub x_stride: i64,
    pub y: *mut ::core::ffi::c_void,
    pub y_stride: i64,
    pub bias: *const f32,
    pub workspace: *mut ::core::ffi::c_void,
    pub workspace_bytes: u64,
    pub m: u32,
    pub width: u32,
    pub family: u32,
    pub mode: u32,
    pub tile: u32,
    pub flags: u32,
    pub device: i32,
    pub reserved: u32,
    pub latch: *const w4axk_latch_state,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of w4axk_gemm_args"][::core::mem::size_of::<w4axk_gemm_args>() - 160usize];
    [
        "Alignment of w4axk_gemm_args",
    ][::core::mem::align_of::<w4axk_gemm_args>() - 8usize];
    [
        "Offset of field: w4axk_gemm_args::weight",
    ][::core::mem::offset_of!(w4axk_gemm_args, weight) - 0usize];
    [
        "Offset of field: w4axk_gemm_args::x",
    ][::core::mem::offset_of!(w4axk_gemm_args, x) - 64usize];
    [
        "Offset of field: w4axk_gemm_args::x_stride",
    ][::core::mem::offset_of!(w4axk_gemm_args, x_stride) - 72usize];
    [
        "Offset of field: w4axk_gemm_args::y",
    ][::core::mem::offset_of!(w4axk_gemm_args, y) - 80usize];
    [
        "Offset of field: w4axk_gemm_args::y_stride",
    ][::core::mem::offset_of!(w4axk_gemm_args, y_stride) - 88usize];
    [
        "Offset of field: w4axk_gemm_args::bias",
    ][::core::mem::offset_of!(w4axk_gemm_args, bias) - 96usize];
    [
        "Offset of field: w4axk_gemm_args::workspace",
    ][::core::mem::offset_of!(w4axk_gemm_args, workspace) - 104usize];
    [
        "Offset of field: w4axk_gemm_args::workspace_bytes",
    ][::core::mem::offset_of!(w4axk_gemm_args, workspace_bytes) - 112usize];
    [
        "Offset of field: w4axk_gemm_args::m",
    ][::core::mem::offset_of!(w4axk_gemm_args, m) - 120usize];
    [
        "Offset of field: w4axk_gemm_args::width",
    ][::core::mem::offset_of!(w4axk_gemm_args, width) - 124usize];
    [
        "Offset of field: w4axk_gemm_args::family",
    ][::core::mem::offset_of!(w4axk_gemm_args, family) - 128usize];
    [
        "Offset of field: w4axk_gemm_args::mode",
    ][::core::mem::offset_of!(w4axk_gemm_args, mode) - 132usize];
    [
        "Offset of field: w4axk_gemm_args::tile",
    ][::core::mem::offset_of!(w4axk_gemm_args, tile) - 136usize];
    [
        "Offset of field: w4axk_gemm_args::flags",
    ][::core::mem::offset_of!(w4axk_gemm_args, flags) - 140usize];
    [
        "Offset of field: w4axk_gemm_args::device",
    ][::core::mem::offset_of!(w4axk_gemm_args, device) - 144usize];
    [
        "Offset of field: w4axk_gemm_args::reserved",
    ][::core::mem::offset_of!(w4axk_gemm_args, reserved) - 148usize];
    [
        "Offset of field: w4axk_gemm_args::latch",
    ][::core::mem::offset_of!(w4axk_gemm_args, latch) - 152usize];
};
impl Default for w4axk_gemm_args {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct w4axk_plan {
    pub workspace_bytes: u64,
    pub family: u32,
    pub mode: u32,
    pub tile: u32,
    pub launches: u32,
    pub kernel: u32,
    pub tile_n: u32,
    pub tile_m: u32,
    pub blocks: u32,
    pub slow_x: u32,
    pub slow_y: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of w4axk_plan"][::core::mem::size_of::<w4axk_plan>() - 48usize];
    ["Alignment of w4axk_plan"][::core::mem::align_of::<w4axk_plan>() - 8usize];
    [
        "Offset of field: w4axk_plan::workspace_bytes",
    ][::core::mem::offset_of!(w4axk_plan, workspace_bytes) - 0usize];
    [
        "Offset of field: w4axk_plan::family",
    ][::core::mem::offset_of!(w4axk_plan, family) - 8usize];
    [
        "Offset of field: w4axk_plan::mode",
    ][::core::mem::offset_of!(w4axk_plan, mode) - 12usize];
    [
        "Offset of field: w4axk_plan::tile",
    ][::core::mem::offset_of!(w4axk_plan, tile) - 16usize];
    [
        "Offset of field: w4axk_plan::launches",
    ][::core::mem::offset_of!(w4axk_plan, launches) - 20usize];
    [
        "Offset of field: w4axk_plan::kernel",
    ][::core::mem::offset_of!(w4axk_plan, kernel) - 24usize];
    [
        "Offset of field: w4axk_plan::tile_n",
    ][::core::mem::offset_of!(w4axk_plan, tile_n) - 28usize];
    [
        "Offset of field: w4axk_plan::tile_m",
    ][::core::mem::offset_of!(w4axk_plan, tile_m) - 32usize];
    [
        "Offset of field: w4axk_plan::blocks",
    ][::core::mem::offset_of!(w4axk_plan, blocks) - 36usize];
    [
        "Offset of field: w4axk_plan::slow_x",
    ][::core::mem::offset_of!(w4axk_plan, slow_x) - 40usize];
    [
        "Offset of field: w4axk_plan::slow_y",
    ][::core::mem::offset_of!(w4axk_plan, slow_y) - 44usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct w4axk_quantize_args {
    pub x: *const ::core::ffi::c_void,
    pub x_stride: i64,
    pub packed: *mut ::core::ffi::c_void,
    pub packed_bytes: u64,
    pub m: u32,
    pub k: u32,
    pub width: u32,
    pub group: u32,
    pub family: u32,
    pub flags: u32,
    pub device: i32,
    pub reserved: u32,
    pub latch: *const w4axk_latch_state,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of w4axk_quantize_args",
    ][::core::mem::size_of::<w4axk_quantize_args>() - 72usize];
    [
        "Alignment of w4axk_quantize_args",
    ][::core::mem::align_of::<w4axk_quantize_args>() - 8usize];
    [
        "Offset of field: w4axk_quantize_args::x",
    ][::core::mem::offset_of!(w4axk_quantize_args, x) - 0usize];
    [
        "Offset of field: w4axk_quantize_args::x_stride",
    ][::core::mem::offset_of!(w4axk_quantize_args, x_stride) - 8usize];
    [
        "Offset of field: w4axk_quantize_args::packed",
    ][::core::mem::offset_of!(w4axk_quantize_args, packed) - 16usize];
    [
        "Offset of field: w4axk_quantize_args::packed_bytes",
    ][::core::mem::offset_of!(w4axk_quantize_args, packed_bytes) - 24usize];
    [
        "Offset of field: w4axk_quantize_args::m",
    ][::core::mem::offset_of!(w4axk_quantize_args, m) - 32usize];
    [
        "Offset of field: w4axk_quantize_args::k",
    ][::core::mem::offset_of!(w4axk_quantize_args, k) - 36usize];
    [
        "Offset of field: w4axk_quantize_args::width",
    ][::core::mem::offset_of!(w4axk_quantize_args, width) - 40usize];
    [
        "Offset of field: w4axk_quantize_args::group",
    ][::core::mem::offset_of!(w4axk_quantize_args, group) - 44usize];
    [
        "Offset of field: w4axk_quantize_args::family",
    ][::core::mem::offset_of!(w4axk_quantize_args, family) - 48usize];
    [
        "Offset of field: w4axk_quantize_args::flags",
    ][::core::mem::offset_of!(w4axk_quantize_args, flags) - 52usize];
    [
        "Offset of field: w4axk_quantize_args::device",
    ][::core::mem::offset_of!(w4axk_quantize_args, device) - 56usize];
    [
        "Offset of field: w4axk_quantize_args::reserved",
    ][::core::mem::offset_of!(w4axk_quantize_args, reserved) - 60usize];
    [
        "Offset of field: w4axk_quantize_args::latch",
    ][::core::mem::offset_of!(w4axk_quantize_args, latch) - 64usize];
};
impl Default for w4axk_quantize_args {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct w4axk_latch_state {
    pub latched: u64,
    pub next: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of w4axk_latch_state"][::core::mem::size_of::<w4axk_latch_state>() - 16usize];
    [
        "Alignment of w4axk_latch_state",
    ][::core::mem::align_of::<w4axk_latch_state>() - 8usize];
    [
        "Offset of field: w4axk_latch_state::latched",
    ][::core::mem::offset_of!(w4axk_latch_state, latched) - 0usize];
    [
        "Offset of field: w4axk_latch_state::next",
    ][::core::mem::offset_of!(w4axk_latch_state, next) - 8usize];
    [
        "Offset of field: w4axk_latch_state::reserved",
    ][::core::mem::offset_of!(w4axk_latch_state, reserved) - 12usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct w4axk_latch_args {
    pub state: *mut w4axk_latch_state,
    pub flag: *const u64,
    pub executed: *mut u64,
    pub conditionals: [u64; 4usize],
    pub conditional_count: u32,
    pub spin_us: u32,
    pub forced: u32,
    pub flags: u32,
    pub device: i32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of w4axk_latch_args"][::core::mem::size_of::<w4axk_latch_args>() - 80usize];
    [
        "Alignment of w4axk_latch_args",
    ][::core::mem::align_of::<w4axk_latch_args>() - 8usize];
    [
        "Offset of field: w4axk_latch_args::state",
    ][::core::mem::offset_of!(w4axk_latch_args, state) - 0usize];
    [
        "Offset of field: w4axk_latch_args::flag",
    ][::core::mem::offset_of!(w4axk_latch_args, flag) - 8usize];
    [
        "Offset of field: w4axk_latch_args::executed",
    ][::core::mem::offset_of!(w4axk_latch_args, executed) - 16usize];
    [
        "Offset of field: w4axk_latch_args::conditionals",
    ][::core::mem::offset_of!(w4axk_latch_args, conditionals) - 24usize];
    [
        "Offset of field: w4axk_latch_args::conditional_count",
    ][::core::mem::offset_of!(w4axk_latch_args, conditional_count) - 56usize];
    [
        "Offset of field: w4axk_latch_args::spin_us",
    ][::core::mem::offset_of!(w4axk_latch_args, spin_us) - 60usize];
    [
        "Offset of field: w4axk_latch_args::forced",
    ][::core::mem::offset_of!(w4axk_latch_args, forced) - 64usize];
    [
        "Offset of field: w4axk_latch_args::flags",
    ][::core::mem::offset_of!(w4axk_latch_args, flags) - 68usize];
    [
        "Offset of field: w4axk_latch_args::device",
    ][::core::mem::offset_of!(w4axk_latch_args, device) - 72usize];
    [
        "Offset of field: w4axk_latch_args::reserved",
    ][::core::mem::offset_of!(w4axk_latch_args, reserved) - 76usize];
};
impl Default for w4axk_latch_args {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct w4axk_kernel_attributes_t {
    pub family: u32,
    pub width: u32,
    pub mma: u32,
    pub registers: u32,
    pub static_shared: u32,
    pub dynamic_shared: u32,
    pub local: u32,
    pub threads: u32,
    pub binary_version: u32,
    pub ptx_version: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of w4axk_kernel_attributes_t",
    ][::core::mem::size_of::<w4axk_kernel_attributes_t>() - 40usize];
    [
        "Alignment of w4axk_kernel_attributes_t",
    ][::core::mem::align_of::<w4axk_kernel_attributes_t>() - 4usize];
    [
        "Offset of field: w4axk_kernel_attributes_t::family",
    ][::core::mem::offset_of!(w4axk_kernel_attributes_t, family) - 0usize];
    [
        "Offset of field: w4axk_kernel_attributes_t::width",
    ][::core::mem::offset_of!(w4axk_kernel_attributes_t, width) - 4usize];
    [
        "Offset of field: w4axk_kernel_attributes_t::mma",
    ][::core::mem::offset_of!(w4axk_kernel_attributes_t, mma) - 8usize];
    [
        "Offset of field: w4axk_kernel_attributes_t::registers",
    ][::core::mem::offset_of!(w4axk_kernel_attributes_t, registers) - 12usize];
    [
        "Offset of field: w4axk_kernel_attributes_t::static_shared",
    ][::core::mem::offset_of!(w4axk_kernel_attributes_t, static_shared) - 16usize];
    [
        "Offset of field: w4axk_kernel_attributes_t::dynamic_shared",
    ][::core::mem::offset_of!(w4axk_kernel_attributes_t, dynamic_shared) - 20usize];
    [
        "Offset of field: w4axk_kernel_attributes_t::local",
    ][::core::mem::offset_of!(w4axk_kernel_attributes_t, local) - 24usize];
    [
        "Offset of field: w4axk_kernel_attributes_t::threads",
    ][::core::mem::offset_of!(w4axk_kernel_attributes_t, threads) - 28usize];
    [
        "Offset of field: w4axk_kernel_attributes_t::binary_version",
    ][::core::mem::offset_of!(w4axk_kernel_attributes_t, binary_version) - 32usize];
    [
        "Offset of field: w4axk_kernel_attributes_t::ptx_version",
    ][::core::mem::offset_of!(w4axk_kernel_attributes_t, ptx_version) - 36usize];
};
#[repr(C)]
#[derive(Debug)]
pub struct w4axk_graph {
    _unused: [u8; 0],
}
pub const W4AXK_NODES_NONE: w4axk_nodes = 0;
pub const W4AXK_NODES_IF: w4axk_nodes = 1;
pub const W4AXK_NODES_SWITCH: w4axk_nodes = 2;
pub type w4axk_nodes = ::core::ffi::c_uint;
pub const W4AXK_OF_ANOTHER_CONTEXT: _bindgen_ty_3 = 256;
pub type _bindgen_ty_3 = ::core::ffi::c_uint;
pub const W4AXK_GATHER_PAIRS: w4axk_gather_kernel = 0;
pub const W4AXK_GATHER_PLAIN: w4axk_gather_kernel = 1;
pub type w4axk_gather_kernel = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct w4axk_gather_args {
    pub x: *const ::core::ffi::c_void,
    pub x_stride: i64,
    pub order: *const u32,
    pub y: *mut ::core::ffi::c_void,
    pub y_stride: i64,
    pub m: u32,
    pub k: u32,
    pub kernel: u32,
    pub flags: u32,
    pub device: i32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of w4axk_gather_args"][::core::mem::size_of::<w4axk_gather_args>() - 64usize];
    [
        "Alignment of w4axk_gather_args",
    ][::core::mem::align_of::<w4axk_gather_args>() - 8usize];
    [
        "Offset of field: w4axk_gather_args::x",
    ][::core::mem::offset_of!(w4axk_gather_args, x) - 0usize];
    [
        "Offset of field: w4axk_gather_args::x_stride",
    ][::core::mem::offset_of!(w4axk_gather_args, x_stride) - 8usize];
    [
        "Offset of field: w4axk_gather_args::order",
    ][::core::mem::offset_of!(w4axk_gather_args, order) - 16usize];
    [
        "Offset of field: w4axk_gather_args::y",
    ][::core::mem::offset_of!(w4axk_gather_args, y) - 24usize];
    [
        "Offset of field: w4axk_gather_args::y_stride",
    ][::core::mem::offset_of!(w4axk_gather_args, y_stride) - 32usize];
    [
        "Offset of field: w4axk_gather_args::m",
    ][::core::mem::offset_of!(w4axk_gather_args, m) - 40usize];
    [
        "Offset of field: w4axk_gather_args::k",
    ][::core::mem::offset_of!(w4axk_gather_args, k) - 44usize];
    [
        "Offset of field: w4axk_gather_args::kernel",
    ][::core::mem::offset_of!(w4axk_gather_args, kernel) - 48usize];
    [
        "Offset of field: w4axk_gather_args::flags",
    ][::core::mem::offset_of!(w4axk_gather_args, flags) - 52usize];
    [
        "Offset of field: w4axk_gather_args::device",
    ][::core::mem::offset_of!(w4axk_gather_args, device) - 56usize];
    [
        "Offset of field: w4axk_gather_args::reserved",
    ][::core::mem::offset_of!(w4axk_gather_args, reserved) - 60usize];
};
impl Default for w4axk_gather_args {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
pub const W4AXK_RMS_NORM: w4axk_row_op = 0;
pub const W4AXK_SILU_MUL: w4axk_row_op = 1;
pub type w4axk_row_op = ::core::ffi::c_uint;
pub const W4AXK_ROW_OP_FAST: w4axk_row_op_kernel = 0;
pub const W4AXK_ROW_OP_PLAIN: w4axk_row_op_kernel = 1;
pub type w4axk_row_op_kernel = ::core::ffi::c_uint;
pub const W4AXK_VALUE_BF16: w4axk_value_type = 0;
pub const W4AXK_VALUE_F32: w4axk_value_type = 1;
pub type w4axk_value_type = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct w4axk_row_op_args {
    pub x: *mut ::core::ffi::c_void,
    pub x_stride: i64,
    pub factor: *const ::core::ffi::c_void,
    pub factor_stride: i64,
    pub addend: *const ::core::ffi::c_void,
    pub addend_stride: i64,
    pub y: *mut ::core::ffi::c_void,
    pub y_stride: i64,
    pub packed: *mut ::core::ffi::c_void,
    pub packed_bytes: u64,
    pub m: u32,
    pub k: u32,
    pub width: u32,
    pub group: u32,
    pub family: u32,
    pub op: u32,
    pub x_type: u32,
    pub kernel: u32,
    pub eps: f32,
    pub flags: u32,
    pub device: i32,
    pub reserved: u32,
    pub latch: *const w4axk_latch_state,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of w4axk_row_op_args",
    ][::core::mem::size_of::<w4axk_row_op_args>() - 136usize];
    [
        "Alignment of w4axk_row_op_args",
    ][::core::mem::align_of::<w4axk_row_op_args>() - 8usize];
    [
        "Offset of field: w4axk_row_op_args::x",
    ][::core::mem::offset_of!(w4axk_row_op_args, x) - 0usize];
    [
        "Offset of field: w4axk_row_op_args::x_stride",
    ][::core::mem::offset_of!(w4axk_row_op_args, x_stride) - 8usize];
    [
        "Offset of field: w4axk_row_op_args::factor",
    ][::core::mem::offset_of!(w4axk_row_op_args, factor) - 16usize];
    [
        "Offset of field: w4axk_row_op_args::factor_stride",
    ][::core::mem::offset_of!(w4axk_row_op_args, factor_stride) - 24usize];
    [
        "Offset of field: w4axk_row_op_args::addend",
    ][::core::mem::offset_of!(w4axk_row_op_args, addend) - 32usize];
    [
        "Offset of field: w4axk_row_op_args::addend_stride",
    ][::core::mem::offset_of!(w4axk_row_op_args, addend_stride) - 40usize];
    [
        "Offset of field: w4axk_row_op_args::y",
    ][::core::mem::offset_of!(w4axk_row_op_args, y) - 48usize];
    [
        "Offset of field: w4axk_row_op_args::y_stride",
    ][::core::mem::offset_of!(w4axk_row_op_args, y_stride) - 56usize];
    [
        "Offset of field: w4axk_row_op_args::packed",
    ][::core::mem::offset_of!(w4axk_row_op_args, packed) - 64usize];
    [
        "Offset of field: w4axk_row_op_args::packed_bytes",
    ][::core::mem::offset_of!(w4axk_row_op_args, packed_bytes) - 72usize];
    [
        "Offset of field: w4axk_row_op_args::m",
    ][::core::mem::offset_of!(w4axk_row_op_args, m) - 80usize];
    [
        "Offset of field: w4axk_row_op_args::k",
    ][::core::mem::offset_of!(w4axk_row_op_args, k) - 84usize];
    [
        "Offset of field: w4axk_row_op_args::width",
    ][::core::mem::offset_of!(w4axk_row_op_args, width) - 88usize];
    [
        "Offset of field: w4axk_row_op_args::group",
    ][::core::mem::offset_of!(w4axk_row_op_args, group) - 92usize];
    [
        "Offset of field: w4axk_row_op_args::family",
    ][::core::mem::offset_of!(w4axk_row_op_args, family) - 96usize];
    [
        "Offset of field: w4axk_row_op_args::op",
    ][::core::mem::offset_of!(w4axk_row_op_args, op) - 100usize];
    [
        "Offset of field: w4axk_row_op_args::x_type",
    ][::core::mem::offset_of!(w4axk_row_op_args, x_type) - 104usize];
    [
        "Offset of field: w4axk_row_op_args::kernel",
    ][::core::mem::offset_of!(w4axk_row_op_args, kernel) - 108usize];
    [
        "Offset of field: w4axk_row_op_args::eps",
    ][::core::mem::offset_of!(w4axk_row_op_args, eps) - 112usize];
    [
        "Offset of field: w4axk_row_op_args::flags",
    ][::core::mem::offset_of!(w4axk_row_op_args, flags) - 116usize];
    [
        "Offset of field: w4axk_row_op_args::device",
    ][::core::mem::offset_of!(w4axk_row_op_args, device) - 120usize];
    [
        "Offset of field: w4axk_row_op_args::reserved",
    ][::core::mem::offset_of!(w4axk_row_op_args, reserved) - 124usize];
    [
        "Offset of field: w4axk_row_op_args::latch",
    ][::core::mem::offset_of!(w4axk_row_op_args, latch) - 128usize];
};
impl Default for w4axk_row_op_args {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
pub const W4AXK_SKIP_NONE: w4axk_skip_reason = 0;
pub const W4AXK_SKIP_FORCED: w4axk_skip_reason = 1;
pub const W4AXK_SKIP_STALE: w4axk_skip_reason = 2;
pub const W4AXK_SKIP_KEPT: w4axk_skip_reason = 3;
pub const W4AXK_SKIP_NAN: w4axk_skip_reason = 4;
pub const W4AXK_SKIP_SKIPPED: w4axk_skip_reason = 5;
pub const W4AXK_SKIP_PASSED: w4axk_skip_reason = 6;
pub type w4axk_skip_reason = ::core::ffi::c_uint;
pub const W4AXK_MAX_SKIP_GAPS: _bindgen_ty_4 = 64;
pub const W4AXK_MAX_SKIP_HIDDEN: _bindgen_ty_4 = 65536;
pub type _bindgen_ty_4 = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct w4axk_skip_state {
    pub next: u32,
    pub sequence: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of w4axk_skip_state"][::core::mem::size_of::<w4axk_skip_state>() - 8usize];
    [
        "Alignment of w4axk_skip_state",
    ][::core::mem::align_of::<w4axk_skip_state>() - 4usize];
    [
        "Offset of field: w4axk_skip_state::next",
    ][::core::mem::offset_of!(w4axk_skip_state, next) - 0usize];
    [
        "Offset of field: w4axk_skip_state::sequence",
    ][::core::mem::offset_of!(w4axk_skip_state, sequence) - 4usize];
};
#[repr(C)]
#[derive(Debug, Default, Copy, Clone)]
pub struct w4axk_skip_gap {
    pub allow: u32,
    pub skipped: u32,
    pub stale: u32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of w4axk_skip_gap"][::core::mem::size_of::<w4axk_skip_gap>() - 16usize];
    ["Alignment of w4axk_skip_gap"][::core::mem::align_of::<w4axk_skip_gap>() - 4usize];
    [
        "Offset of field: w4axk_skip_gap::allow",
    ][::core::mem::offset_of!(w4axk_skip_gap, allow) - 0usize];
    [
        "Offset of field: w4axk_skip_gap::skipped",
    ][::core::mem::offset_of!(w4axk_skip_gap, skipped) - 4usize];
    [
        "Offset of field: w4axk_skip_gap::stale",
    ][::core::mem::offset_of!(w4axk_skip_gap, stale) - 8usize];
    [
        "Offset of field: w4axk_skip_gap::reserved",
    ][::core::mem::offset_of!(w4axk_skip_gap, reserved) - 12usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct w4axk_skip_begin_args {
    pub state: *mut w4axk_skip_state,
    pub gaps: *mut w4axk_skip_gap,
    pub allow: *const u64,
    pub first: [u32; 64usize],
    pub end: [u32; 64usize],
    pub controllers: [u64; 64usize],
    pub gap_count: u32,
    pub flags: u32,
    pub device: i32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of w4axk_skip_begin_args",
    ][::core::mem::size_of::<w4axk_skip_begin_args>() - 1064usize];
    [
        "Alignment of w4axk_skip_begin_args",
    ][::core::mem::align_of::<w4axk_skip_begin_args>() - 8usize];
    [
        "Offset of field: w4axk_skip_begin_args::state",
    ][::core::mem::offset_of!(w4axk_skip_begin_args, state) - 0usize];
    [
        "Offset of field: w4axk_skip_begin_args::gaps",
    ][::core::mem::offset_of!(w4axk_skip_begin_args, gaps) - 8usize];
    [
        "Offset of field: w4axk_skip_begin_args::allow",
    ][::core::mem::offset_of!(w4axk_skip_begin_args, allow) - 16usize];
    [
        "Offset of field: w4axk_skip_begin_args::first",
    ][::core::mem::offset_of!(w4axk_skip_begin_args, first) - 24usize];
    [
        "Offset of field: w4axk_skip_begin_args::end",
    ][::core::mem::offset_of!(w4axk_skip_begin_args, end) - 280usize];
    [
        "Offset of field: w4axk_skip_begin_args::controllers",
    ][::core::mem::offset_of!(w4axk_skip_begin_args, controllers) - 536usize];
    [
        "Offset of field: w4axk_skip_begin_args::gap_count",
    ][::core::mem::offset_of!(w4axk_skip_begin_args, gap_count) - 1048usize];
    [
        "Offset of field: w4axk_skip_begin_args::flags",
    ][::core::mem::offset_of!(w4axk_skip_begin_args, flags) - 1052usize];
    [
        "Offset of field: w4axk_skip_begin_args::device",
    ][::core::mem::offset_of!(w4axk_skip_begin_args, device) - 1056usize];
    [
        "Offset of field: w4axk_skip_begin_args::reserved",
    ][::core::mem::offset_of!(w4axk_skip_begin_args, reserved) - 1060usize];
};
impl Default for w4axk_skip_begin_args {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
#[repr(C)]
#[derive(Debug, Copy, Clone)]
pub struct w4axk_skip_decide_args {
    pub state: *const w4axk_skip_state,
    pub gap: *mut w4axk_skip_gap,
    pub hidden: *const ::core::ffi::c_void,
    pub out: *const f32,
    pub report: *mut u64,
    pub run_layer: u64,
    pub run_adapter: u64,
    pub next_controller: u64,
    pub has_next: u32,
    pub hidden_len: u32,
    pub layer: u32,
    pub bias: f32,
    pub threshold: f32,
    pub flags: u32,
    pub device: i32,
    pub reserved: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of w4axk_skip_decide_args",
    ][::core::mem::size_of::<w4axk_skip_decide_args>() - 96usize];
    [
        "Alignment of w4axk_skip_decide_args",
    ][::core::mem::align_of::<w4axk_skip_decide_args>() - 8usize];
    [
        "Offset of field: w4axk_skip_decide_args::state",
    ][::core::mem::offset_of!(w4axk_skip_decide_args, state) - 0usize];
    [
        "Offset of field: w4axk_skip_decide_args::gap",
    ][::core::mem::offset_of!(w4axk_skip_decide_args, gap) - 8usize];
    [
        "Offset of field: w4axk_skip_decide_args::hidden",
    ][::core::mem::offset_of!(w4axk_skip_decide_args, hidden) - 16usize];
    [
        "Offset of field: w4axk_skip_decide_args::out",
    ][::core::mem::offset_of!(w4axk_skip_decide_args, out) - 24usize];
    [
        "Offset of field: w4axk_skip_decide_args::report",
    ][::core::mem::offset_of!(w4axk_skip_decide_args, report) - 32usize];
    [
        "Offset of field: w4axk_skip_decide_args::run_layer",
    ][::core::mem::offset_of!(w4axk_skip_decide_args, run_layer) - 40usize];
    [
        "Offset of field: w4axk_skip_decide_args::run_adapter",
    ][::core::mem::offset_of!(w4axk_skip_decide_args, run_adapter) - 48usize];
    [
        "Offset of field: w4axk_skip_decide_args::next_controller",
    ][::core::mem::offset_of!(w4axk_skip_decide_args, next_controller) - 56usize];
    [
        "Offset of field: w4axk_skip_decide_args::has_next",
    ][::core::mem::offset_of!(w4axk_skip_decide_args, has_next) - 64usize];
    [
        "Offset of field: w4axk_skip_decide_args::hidden_len",
    ][::core::mem::offset_of!(w4axk_skip_decide_args, hidden_len) - 68usize];
    [
        "Offset of field: w4axk_skip_decide_args::layer",
    ][::core::mem::offset_of!(w4axk_skip_decide_args, layer) - 72usize];
    [
        "Offset of field: w4axk_skip_decide_args::bias",
    ][::core::mem::offset_of!(w4axk_skip_decide_args, bias) - 76usize];
    [
        "Offset of field: w4axk_skip_decide_args::threshold",
    ][::core::mem::offset_of!(w4axk_skip_decide_args, threshold) - 80usize];
    [
        "Offset of field: w4axk_skip_decide_args::flags",
    ][::core::mem::offset_of!(w4axk_skip_decide_args, flags) - 84usize];
    [
        "Offset of field: w4axk_skip_decide_args::device",
    ][::core::mem::offset_of!(w4axk_skip_decide_args, device) - 88usize];
    [
        "Offset of field: w4axk_skip_decide_args::reserved",
    ][::core::mem::offset_of!(w4axk_skip_decide_args, reserved) - 92usize];
};
impl Default for w4axk_skip_decide_args {
    fn default() -> Self {
        let mut s = ::core::mem::MaybeUninit::<Self>::uninit();
        unsafe {
            ::core::ptr::write_bytes(s.as_mut_ptr(), 0, 1);
            s.assume_init()
        }
    }
}
unsafe extern "C" {
    pub fn w4axk_abi_version() -> u32;
    pub fn w4axk_status_text(status: u32) -> *const ::core::ffi::c_char;
    pub fn w4axk_last_cuda_error() -> *const ::core::ffi::c_char;
    pub fn w4axk_device_count(count: *mut i32) -> w4axk_status;
    pub fn w4axk_preload(device: i32) -> w4axk_status;
    pub fn w4axk_mma_of(
        device: i32,
        width: u32,
        family: u32,
        mma: *mut u32,
    ) -> w4axk_status;
    pub fn w4axk_packed_bytes(
        m: u32,
        k: u32,
        width: u32,
        group: u32,
        family: u32,
        bytes: *mut u64,
    ) -> w4axk_status;
    pub fn w4axk_plan_gemm(
        args: *const w4axk_gemm_args,
        plan: *mut w4axk_plan,
    ) -> w4axk_status;
    pub fn w4axk_workspace_bytes(
        args: *const w4axk_gemm_args,
        bytes: *mut u64,
    ) -> w4axk_status;
    pub fn w4axk_gemm(
        args: *const w4axk_gemm_args,
        stream: *mut ::core::ffi::c_void,
    ) -> w4axk_status;
    pub fn w4axk_quantize_pack(
        args: *const w4axk_quantize_args,
        stream: *mut ::core::ffi::c_void,
    ) -> w4axk_status;
    pub fn w4axk_latch(
        args: *const w4axk_latch_args,
        stream: *mut ::core::ffi::c_void,
    ) -> w4axk_status;
    pub fn w4axk_conditional_nodes() -> u32;
    pub fn w4axk_graph_create(device: i32, graph: *mut *mut w4axk_graph) -> w4axk_status;
    pub fn w4axk_graph_destroy(graph: *mut w4axk_graph);
    pub fn w4axk_graph_conditionals(
        graph: *mut w4axk_graph,
        nodes: u32,
        handles: *mut u64,
    ) -> w4axk_status;
    pub fn w4axk_graph_capture(
        graph: *mut w4axk_graph,
        stream: *mut ::core::ffi::c_void,
    ) -> w4axk_status;
    pub fn w4axk_graph_end_capture(
        graph: *mut w4axk_graph,
        stream: *mut ::core::ffi::c_void,
    ) -> w4axk_status;
    pub fn w4axk_graph_add_conditionals(
        graph: *mut w4axk_graph,
        nodes: u32,
        handles: *const u64,
        bodies: *mut *mut w4axk_graph,
    ) -> w4axk_status;
    pub fn w4axk_graph_check_body(
        body: *const w4axk_graph,
        bad_type: *mut u32,
    ) -> w4axk_status;
    pub fn w4axk_graph_instantiate(
        graph: *const w4axk_graph,
        executable: *mut *mut ::core::ffi::c_void,
    ) -> w4axk_status;
    pub fn w4axk_graph_exec_destroy(executable: *mut ::core::ffi::c_void);
    pub fn w4axk_graph_launch(
        device: i32,
        executable: *mut ::core::ffi::c_void,
        stream: *mut ::core::ffi::c_void,
    ) -> w4axk_status;
    pub fn w4axk_tile_count(family: u32) -> u32;
    pub fn w4axk_kernel_count() -> u32;
    pub fn w4axk_kernel_name(kernel: u32) -> *const ::core::ffi::c_char;
    pub fn w4axk_kernel_attributes(
        device: i32,
        kernel: u32,
        attributes: *mut w4axk_kernel_attributes_t,
    ) -> w4axk_status;
    pub fn w4axk_gather(
        args: *const w4axk_gather_args,
        stream: *mut ::core::ffi::c_void,
    ) -> w4axk_status;
    pub fn w4axk_row_op_launch(
        args: *const w4axk_row_op_args,
        stream: *mut ::core::ffi::c_void,
    ) -> w4axk_status;
    pub fn w4axk_skip_begin(
        args: *const w4axk_skip_begin_args,
        stream: *mut ::core::ffi::c_void,
    ) -> w4axk_status;
    pub fn w4axk_skip_decide(
        args: *const w4axk_skip_decide_args,
        stream: *mut ::core::ffi::c_void,
    ) -> w4axk_status;
    pub fn w4axk_graph_if_handle(
        graph: *mut w4axk_graph,
        initial: u32,
        handle: *mut u64,
    ) -> w4axk_status;
    pub fn w4axk_graph_add_if(
        graph: *mut w4axk_graph,
        handle: u64,
        body: *mut *mut w4axk_graph,
    ) -> w4axk_status;
}
