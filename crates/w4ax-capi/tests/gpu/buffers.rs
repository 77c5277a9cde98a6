//! The device memory of a call, and its arguments.

use std::ffi::c_void;
use std::ptr::null;
use std::sync::Arc;

use half::bf16;
use w4ax::cuda::cudarc::driver::{CudaSlice, CudaStream, DevicePtr};
use w4ax::{Grouping, Width};
use w4ax_capi::enums::{CEnum, Family, Mode};
use w4ax_capi::gpu::{
    GpuGatherArgs, GpuGemmArgs, GpuProblem, GpuQuantizeArgs, w4ax_gpu_gather, w4ax_gpu_quantize,
    w4ax_gpu_quantized_bytes, w4ax_gpu_workspace_bytes,
};
use w4ax_capi::limits::GPU_GATHERED;

use crate::handles::{Handles, ok, written};

fn address<T>(slice: &CudaSlice<T>, stream: &CudaStream) -> usize {
    slice.device_ptr(stream).0 as usize
}

/// The device memory of a call.
pub struct Buffers {
    pub x: CudaSlice<bf16>,
    gathered: CudaSlice<bf16>,
    pub y: CudaSlice<bf16>,
    workspace: CudaSlice<u8>,
    quantized: CudaSlice<u8>,
    gathered_at: usize,
    quantized_at: usize,
}

impl Buffers {
    /// Large enough for every width and grouping. The workspace has room for a gather of x if the
    /// weight is `ordered`.
    pub fn new(stream: &Arc<CudaStream>, (m, n, k): (usize, usize, usize), ordered: bool) -> Self {
        let (width, grouping) = (Width::A8.number(), Grouping::G32.number());
        let problem = GpuProblem {
            m,
            n,
            k,
            grouping,
            width,
            family: Family::Auto.number(),
            mode: Mode::Auto.number(),
            tile: 0,
            flags: 0,
            has_order: ordered.into(),
            reserved: 0,
        };
        let family = Family::Wgmma.number();
        // SAFETY: each call writes one number.
        let (quantized, workspace) = unsafe {
            (
                written(|bytes| w4ax_gpu_quantized_bytes(m, k, width, grouping, family, bytes)),
                written(|bytes| w4ax_gpu_workspace_bytes(&problem, bytes)),
            )
        };
        let gathered = stream.alloc_zeros(m * k).unwrap();
        let quantized = stream.alloc_zeros(quantized).unwrap();
        Self {
            x: stream.alloc_zeros(m * k).unwrap(),
            y: stream.alloc_zeros(m * n).unwrap(),
            // An allocation of no bytes is an error.
            workspace: stream.alloc_zeros(workspace.max(1)).unwrap(),
            // Taken before any capture: cudarc would tie the graph to an event outside of it.
            gathered_at: address(&gathered, stream),
            quantized_at: address(&quantized, stream),
            gathered,
            quantized,
        }
    }

    pub fn args(
        &self,
        stream: &CudaStream,
        handles: &Handles,
        m: usize,
        width: Width,
    ) -> GpuGemmArgs {
        let (n, k) = (self.y.len() / m, self.x.len() / m);
        GpuGemmArgs {
            weight: handles.weight,
            x: address(&self.x, stream) as *const _,
            x_len: self.x.len(),
            x_stride: 0,
            quantized: null(),
            quantized_bytes: 0,
            bias: null(),
            bias_len: 0,
            y: address(&self.y, stream) as *mut _,
            y_len: self.y.len(),
            y_stride: 0,
            workspace: address(&self.workspace, stream) as *mut _,
            workspace_bytes: self.workspace.len(),
            m,
            n,
            k,
            width: width.number(),
            family: Family::Auto.number(),
            mode: Mode::Auto.number(),
            tile: 0,
            flags: 0,
            reserved: 0,
        }
    }

    /// Enqueues a gather of x, after which `args` read the gathered x.
    ///
    /// # Safety
    /// As [`w4ax_gpu_gather`].
    pub unsafe fn gather(&self, handles: &Handles, args: &mut GpuGemmArgs, raw: *mut c_void) {
        let gathered = self.gathered_at;
        let gather = GpuGatherArgs {
            weight: handles.weight,
            x: args.x,
            x_len: args.x_len,
            x_stride: 0,
            gathered: gathered as *mut _,
            gathered_len: self.gathered.len(),
            gathered_stride: 0,
            m: args.m,
            k: args.k,
            flags: 0,
            reserved: 0,
        };
        // SAFETY: passed on.
        unsafe { ok(w4ax_gpu_gather(handles.gpu, &gather, raw)) };
        args.x = gathered as *const _;
        args.flags |= GPU_GATHERED;
    }

    /// Enqueues a quantization of x, after which `args` read the quantized activations.
    ///
    /// # Safety
    /// As [`w4ax_gpu_quantize`].
    pub unsafe fn quantize(
        &self,
        handles: &Handles,
        grouping: Grouping,
        args: &mut GpuGemmArgs,
        raw: *mut c_void,
    ) {
        let quantized = self.quantized_at;
        let quantize = GpuQuantizeArgs {
            x: args.x,
            x_len: args.x_len,
            x_stride: 0,
            quantized: quantized as *mut _,
            quantized_bytes: self.quantized.len(),
            m: args.m,
            k: args.k,
            width: args.width,
            grouping: grouping.number(),
            family: args.family,
            flags: 0,
        };
        // SAFETY: passed on.
        unsafe { ok(w4ax_gpu_quantize(handles.gpu, &quantize, raw)) };
        (args.x, args.x_len) = (null(), 0);
        args.quantized = quantized as *const _;
        args.quantized_bytes = self.quantized.len();
    }
}
