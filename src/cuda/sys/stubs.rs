//! The C functions of the kernels, and stubs for them in a build without kernels.
//!
//! All of `cuda` calls the functions of this module. Without kernels it refers to no C symbol, so
//! the crate links, and each call returns [`NOT_BUILT`].

pub(crate) use super::bindings::*;

/// The status of every call in a build without kernels. The header does not define it.
pub(crate) const NOT_BUILT: w4axk_status = w4axk_status::MAX;

/// Why the build has no kernels.
#[cfg(not(w4ax_kernels))]
pub(crate) const WHY_NOT_BUILT: &str = env!("W4AX_NO_KERNELS");
#[cfg(w4ax_kernels)]
pub(crate) const WHY_NOT_BUILT: &str = "";

/// The architectures that the kernels were compiled for, such as `80;90a;90-ptx`.
pub(crate) const BUILT_FOR: &str = match option_env!("W4AX_KERNEL_ARCHS") {
    Some(archs) => archs,
    None => "",
};

#[cfg(w4ax_kernels)]
unsafe extern "C" {
    // Functions of the static runtime that the kernels are linked with. They do not need a driver.
    pub(crate) fn cudaDriverGetVersion(version: *mut core::ffi::c_int) -> core::ffi::c_int;
    pub(crate) fn cudaRuntimeGetVersion(version: *mut core::ffi::c_int) -> core::ffi::c_int;
}

#[cfg(not(w4ax_kernels))]
#[allow(non_snake_case)] // C names.
mod stub_functions {
    use super::*;
    use core::ffi::{c_char, c_int, c_void};

    macro_rules! stubs {
        ($(fn $name:ident($($kind:ty),*) -> $result:ty = $value:expr;)*) => {$(
            /// The stub of the C function of the same name.
            ///
            /// # Safety
            /// Always safe: it does not read its arguments.
            pub unsafe fn $name($(_: $kind),*) -> $result {
                $value
            }
        )*};
    }

    stubs! {
        fn w4axk_status_text(u32) -> *const c_char = c"built without kernels".as_ptr();
        fn w4axk_last_cuda_error() -> *const c_char = c"built without kernels".as_ptr();
        fn w4axk_device_count(*mut i32) -> w4axk_status = NOT_BUILT;
        fn w4axk_preload(i32) -> w4axk_status = NOT_BUILT;
        fn w4axk_mma_of(i32, u32, u32, *mut u32) -> w4axk_status = NOT_BUILT;
        fn w4axk_packed_bytes(u32, u32, u32, u32, u32, *mut u64) -> w4axk_status = NOT_BUILT;
        fn w4axk_plan_gemm(*const w4axk_gemm_args, *mut w4axk_plan) -> w4axk_status = NOT_BUILT;
        fn w4axk_workspace_bytes(*const w4axk_gemm_args, *mut u64) -> w4axk_status = NOT_BUILT;
        fn w4axk_gemm(*const w4axk_gemm_args, *mut c_void) -> w4axk_status = NOT_BUILT;
        fn w4axk_quantize_pack(*const w4axk_quantize_args, *mut c_void) -> w4axk_status = NOT_BUILT;
        fn w4axk_gather(*const w4axk_gather_args, *mut c_void) -> w4axk_status = NOT_BUILT;
        fn w4axk_row_op_launch(*const w4axk_row_op_args, *mut c_void) -> w4axk_status = NOT_BUILT;
        fn w4axk_skip_begin(*const w4axk_skip_begin_args, *mut c_void) -> w4axk_status = NOT_BUILT;
        fn w4axk_skip_decide(
            *const w4axk_skip_decide_args, *mut c_void
        ) -> w4axk_status = NOT_BUILT;
        fn w4axk_graph_if_handle(*mut w4axk_graph, u32, *mut u64) -> w4axk_status = NOT_BUILT;
        fn w4axk_graph_add_if(
            *mut w4axk_graph, u64, *mut *mut w4axk_graph
        ) -> w4axk_status = NOT_BUILT;
        fn w4axk_latch(*const w4axk_latch_args, *mut c_void) -> w4axk_status = NOT_BUILT;
        fn w4axk_conditional_nodes() -> u32 = W4AXK_NODES_NONE;
        fn w4axk_graph_create(i32, *mut *mut w4axk_graph) -> w4axk_status = NOT_BUILT;
        fn w4axk_graph_destroy(*mut w4axk_graph) -> () = ();
        fn w4axk_graph_conditionals(*mut w4axk_graph, u32, *mut u64) -> w4axk_status = NOT_BUILT;
        fn w4axk_graph_capture(*mut w4axk_graph, *mut c_void) -> w4axk_status = NOT_BUILT;
        fn w4axk_graph_end_capture(*mut w4axk_graph, *mut c_void) -> w4axk_status = NOT_BUILT;
        fn w4axk_graph_add_conditionals(
            *mut w4axk_graph, u32, *const u64, *mut *mut w4axk_graph
        ) -> w4axk_status = NOT_BUILT;
        fn w4axk_graph_check_body(*const w4axk_graph, *mut u32) -> w4axk_status = NOT_BUILT;
        fn w4axk_graph_instantiate(
            *const w4axk_graph, *mut *mut c_void
        ) -> w4axk_status = NOT_BUILT;
        fn w4axk_graph_exec_destroy(*mut c_void) -> () = ();
        fn w4axk_graph_launch(i32, *mut c_void, *mut c_void) -> w4axk_status = NOT_BUILT;
        fn w4axk_tile_count(u32) -> u32 = 0;
        fn w4axk_kernel_count() -> u32 = 0;
        fn w4axk_kernel_name(u32) -> *const c_char = core::ptr::null();
        fn w4axk_kernel_attributes(
            i32, u32, *mut w4axk_kernel_attributes_t
        ) -> w4axk_status = NOT_BUILT;
        fn cudaDriverGetVersion(*mut c_int) -> c_int = -1;
        fn cudaRuntimeGetVersion(*mut c_int) -> c_int = -1;
    }
}
// Named imports shadow those of the glob above.
#[cfg(not(w4ax_kernels))]
pub(crate) use stub_functions::{
    cudaDriverGetVersion, cudaRuntimeGetVersion, w4axk_conditional_nodes, w4axk_device_count,
    w4axk_gather, w4axk_gemm, w4axk_graph_add_conditionals, w4axk_graph_add_if,
    w4axk_graph_capture, w4axk_graph_check_body, w4axk_graph_conditionals, w4axk_graph_create,
    w4axk_graph_destroy, w4axk_graph_end_capture, w4axk_graph_exec_destroy, w4axk_graph_if_handle,
    w4axk_graph_instantiate, w4axk_graph_launch, w4axk_kernel_attributes, w4axk_kernel_count,
    w4axk_kernel_name, w4axk_last_cuda_error, w4axk_latch, w4axk_mma_of, w4axk_packed_bytes,
    w4axk_plan_gemm, w4axk_preload, w4axk_quantize_pack, w4axk_row_op_launch, w4axk_skip_begin,
    w4axk_skip_decide, w4axk_status_text, w4axk_tile_count, w4axk_workspace_bytes,
};

/// Converts a static C string. Null becomes the empty string.
///
/// # Safety
/// `text` is null or points to a C string with static lifetime.
pub(crate) unsafe fn text(text: *const core::ffi::c_char) -> &'static str {
    if text.is_null() {
        return "";
    }
    // SAFETY: not null, and static by the contract of this function.
    let text = unsafe { core::ffi::CStr::from_ptr(text) };
    text.to_str().unwrap_or("(not UTF-8)")
}
