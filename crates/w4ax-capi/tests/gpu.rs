//! The C ABI on a device: the same bits through raw pointers and a raw stream.

use test_support as support;

use half::bf16;
use std::ffi::{CStr, c_void};
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};
use std::sync::Arc;
use support::{Kind, PlainWeight, WIDTHS, bits, rng};
use w4ax::cpu::Cpu;
use w4ax::cuda::cudarc::driver::result::ctx;
use w4ax::cuda::cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use w4ax::cuda::cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr};
use w4ax::cuda::{Family, Gpu};
use w4ax::{Gemm, Grouping, MatMut, MatRef, PackedWeight, ScaleType, Width};
use w4ax_capi::gpu::{
    GpuGemmArgs, GpuPackArgs, GpuProblem, GpuWeight, w4ax_gpu_create, w4ax_gpu_free, w4ax_gpu_gemm,
    w4ax_gpu_packed_bytes, w4ax_gpu_plan_gemm, w4ax_gpu_quantize_pack, w4ax_gpu_weight_free,
    w4ax_gpu_weight_upload, w4ax_gpu_workspace_bytes,
};
use w4ax_capi::status::{Status, w4ax_last_error};
use w4ax_capi::types;
use w4ax_capi::weight::{PackArgs, Weight, w4ax_weight_free, w4ax_weight_pack};

/// The device that `W4AX_DEVICE` names, and a stream on it.
struct Device {
    gpu: Gpu,
    stream: Arc<CudaStream>,
    cpu: Cpu,
}

impl Device {
    fn new() -> Self {
        let ordinal = match std::env::var("W4AX_DEVICE") {
            Ok(text) => text
                .parse()
                .unwrap_or_else(|_| panic!("W4AX_DEVICE is not a number: {text}")),
            Err(_) => 0,
        };
        let gpu = Gpu::new(ordinal).unwrap_or_else(|e| panic!("{e}"));
        let stream = gpu.context().new_stream().unwrap();
        let cpu = Cpu::new().unwrap();
        Self { gpu, stream, cpu }
    }

    /// The result of the CPU backend, which has the bits of the scalar reference.
    fn expected(&self, x: MatRef<'_, bf16>, weight: &PackedWeight, width: Width) -> Vec<bf16> {
        let mut y = vec![bf16::NAN; x.rows() * weight.n()];
        let view = MatMut::new(&mut y, x.rows(), weight.n()).unwrap();
        let mut workspace = self.cpu.workspace(x.rows(), x.cols()).unwrap();
        (self.cpu)
            .run(&Gemm::new(x, weight, width), view, &mut workspace)
            .unwrap();
        y
    }
}

fn ok(status: Status) {
    // SAFETY: a NUL-terminated text that lives until this thread's next error.
    let text = unsafe { CStr::from_ptr(w4ax_last_error()) };
    assert_eq!(status, Status::Ok, "{text:?}");
}

/// What a function writes on success.
fn written<T>(call: impl FnOnce(*mut T) -> Status) -> T {
    let mut output = MaybeUninit::uninit();
    ok(call(output.as_mut_ptr()));
    // SAFETY: the call has succeeded, and then it has written its output.
    unsafe { output.assume_init() }
}

/// A `w4ax_gpu` and a `w4ax_gpu_weight` of a symmetric weight with F32 scales.
struct Handles {
    gpu: *mut w4ax_capi::gpu::Gpu,
    weight: *mut GpuWeight,
}

impl Handles {
    fn new(device: &Device, plain: &PlainWeight) -> Self {
        // SAFETY: every pointer is null or points at what the header says, for each call.
        unsafe {
            let ordinal = device.gpu.ordinal() as u32;
            let gpu = written(|gpu| w4ax_gpu_create(ordinal, gpu));
            let args = PackArgs {
                q: plain.q.as_ptr(),
                q_len: plain.q.len(),
                q_stride: 0,
                scales: plain.scales.bytes().as_ptr().cast(),
                scales_len: plain.n * plain.grouping.groups(plain.k),
                zeros: null(),
                zeros_len: 0,
                n: plain.n,
                k: plain.k,
                grouping: plain.grouping.size().unwrap_or(0) as u32,
                scale_type: types::TYPE_F32,
                threads: 1,
                reserved: 0,
            };
            let here: *mut Weight = written(|weight| w4ax_weight_pack(&args, weight));
            let weight = written(|weight| w4ax_gpu_weight_upload(gpu, here, weight));
            w4ax_weight_free(here);
            Self { gpu, weight }
        }
    }
}

impl Drop for Handles {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and not used any more.
        unsafe {
            w4ax_gpu_free(self.gpu);
            w4ax_gpu_weight_free(self.weight);
        }
    }
}

fn address<T>(slice: &CudaSlice<T>, stream: &CudaStream) -> usize {
    slice.device_ptr(stream).0 as usize
}

/// Device memory of a call.
struct Buffers {
    x: CudaSlice<bf16>,
    y: CudaSlice<bf16>,
    workspace: CudaSlice<u8>,
    packed: CudaSlice<u8>,
}

impl Buffers {
    fn new(stream: &Arc<CudaStream>, m: usize, n: usize, k: usize) -> Self {
        // The widest, in the smallest groups.
        let problem = GpuProblem {
            m,
            n,
            k,
            grouping: 32,
            width: 8,
            family: types::FAMILY_AUTO,
            mode: types::MODE_AUTO,
            tile: 0,
            flags: 0,
        };
        // SAFETY: each writes one number.
        let (packed, workspace) = unsafe {
            (
                written(|bytes| w4ax_gpu_packed_bytes(m, k, 8, 32, types::FAMILY_WGMMA, bytes)),
                written(|bytes| w4ax_gpu_workspace_bytes(&problem, bytes)),
            )
        };
        Self {
            x: stream.alloc_zeros(m * k).unwrap(),
            y: stream.alloc_zeros(m * n).unwrap(),
            workspace: stream.alloc_zeros(workspace).unwrap(),
            packed: stream.alloc_zeros(packed).unwrap(),
        }
    }

    fn args(&self, stream: &CudaStream, handles: &Handles, m: usize, width: Width) -> GpuGemmArgs {
        let (n, k) = (self.y.len() / m, self.x.len() / m);
        GpuGemmArgs {
            weight: handles.weight,
            x: address(&self.x, stream) as *const _,
            x_len: self.x.len(),
            x_stride: 0,
            packed: null(),
            packed_bytes: 0,
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
            width: width.bits(),
            family: types::FAMILY_AUTO,
            mode: types::MODE_AUTO,
            tile: 0,
            flags: 0,
            reserved: 0,
        }
    }
}

/// Each width in each mode, launched and captured, on a stream of the caller's and on the legacy default one.
#[test]
#[ignore = "needs a CUDA GPU"]
fn the_c_abi_has_the_same_bits() {
    let device = Device::new();
    let stream = &device.stream;
    let (n, k) = (300, 1000);
    for grouping in Grouping::ALL {
        let plain = PlainWeight::random(&mut rng(3), (n, k), grouping, ScaleType::F32, true);
        let (handles, packed_weight) = (Handles::new(&device, &plain), plain.pack());
        let group = grouping.size().unwrap_or(0) as u32;
        for (m, width) in [1, 5, 40].into_iter().flat_map(|m| WIDTHS.map(|p| (m, p))) {
            let x = Kind::Normal.fill(&mut rng(1), m * k);
            let mut buffers = Buffers::new(stream, m, n, k);
            stream.memcpy_htod(&x, &mut buffers.x).unwrap();
            let args = buffers.args(stream, &handles, m, width);
            let view = MatRef::new(&x, m, k).unwrap();
            let oracle = device.expected(view, &packed_weight, width);
            let mut modes = vec![types::MODE_AUTO, types::MODE_FUSED]
                .into_iter()
                .map(|mode| (mode, types::FAMILY_AUTO))
                .collect::<Vec<_>>();
            if width != Width::Bf16 {
                modes.push((types::MODE_PACKED, types::FAMILY_AUTO));
                if device.gpu.has_family(Family::Wgmma) {
                    modes.push((types::MODE_PACKED, types::FAMILY_WGMMA));
                }
            }
            for (mode, family) in modes {
                for (captured, default) in [(false, false), (true, false), (false, true)] {
                    let raw: *mut c_void = match default {
                        true => null_mut(),
                        false => stream.cu_stream().cast(),
                    };
                    stream
                        .memcpy_htod(&vec![bf16::NAN; m * n], &mut buffers.y)
                        .unwrap();
                    let packed = address(&buffers.packed, stream);
                    stream.synchronize().unwrap();
                    let mut args = GpuGemmArgs {
                        mode,
                        family,
                        ..args
                    };
                    if captured {
                        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
                        stream.begin_capture(mode).unwrap();
                    }
                    // SAFETY: device memory as long as the header asks, which outlives the launches; a live stream, or
                    // the default one.
                    unsafe {
                        if mode == types::MODE_PACKED {
                            let pack = GpuPackArgs {
                                x: args.x,
                                x_len: args.x_len,
                                x_stride: 0,
                                packed: packed as *mut _,
                                packed_bytes: buffers.packed.len(),
                                m,
                                k,
                                width: args.width,
                                grouping: group,
                                family: args.family,
                                flags: 0,
                            };
                            ok(w4ax_gpu_quantize_pack(handles.gpu, &pack, raw));
                            (args.x, args.x_len) = (null(), 0);
                            args.packed = packed as *const _;
                            args.packed_bytes = buffers.packed.len();
                        }
                        ok(w4ax_gpu_gemm(handles.gpu, &args, raw));
                    }
                    if captured {
                        let graph = stream.end_capture(CUgraphInstantiate_flags(0)).unwrap();
                        graph.expect("the launches were captured").launch().unwrap();
                        stream.synchronize().unwrap();
                    }
                    device.gpu.context().synchronize().unwrap();
                    // SAFETY: as above; a plan launches nothing.
                    let plan = written(|p| unsafe { w4ax_gpu_plan_gemm(handles.gpu, &args, p) });
                    // SAFETY: a static text.
                    let kernel = unsafe { CStr::from_ptr(plan.kernel) };
                    let what = format!(
                        "m {m} {width} {grouping} mode {mode} family {family} {captured} {default} {kernel:?}"
                    );
                    assert!(mode == types::MODE_AUTO || plan.mode == mode, "{what}");
                    let got: Vec<bf16> = stream.clone_dtoh(&buffers.y).unwrap();
                    stream.synchronize().unwrap();
                    if width == Width::Bf16 {
                        assert!(got.iter().all(|v| v.is_finite()), "{what}");
                    } else {
                        assert_eq!(bits(&got), bits(&oracle), "{what}");
                    }
                }
            }
        }
    }
}

/// A stream of another context is refused, a small workspace too; and the caller's current context stays what it was.
#[test]
#[ignore = "needs a CUDA GPU"]
fn the_c_abi_keeps_to_its_place() {
    let device = Device::new();
    let stream = &device.stream;
    // So many tokens are packed before their GEMM.
    let (m, n, k) = (40, 64, 128);
    let plain = PlainWeight::random(&mut rng(1), (n, k), Grouping::G64, ScaleType::F32, true);

    let other = CudaContext::new_non_primary(device.gpu.ordinal(), 0).unwrap();
    let foreign = other.new_stream().unwrap();
    other.bind_to_thread().unwrap();
    let current = ctx::get_current().unwrap();
    let handles = Handles::new(&device, &plain);
    assert_eq!(ctx::get_current().unwrap(), current, "create and upload");
    drop(handles);
    assert_eq!(ctx::get_current().unwrap(), current, "free");

    let handles = Handles::new(&device, &plain);
    let buffers = Buffers::new(stream, m, n, k);
    let args = buffers.args(stream, &handles, m, Width::A4);
    stream.synchronize().unwrap();
    other.bind_to_thread().unwrap();
    // SAFETY: as in `the_c_abi_has_the_same_bits`.
    unsafe {
        let raw = foreign.cu_stream().cast();
        assert_eq!(w4ax_gpu_gemm(handles.gpu, &args, raw), Status::WrongPlace);
        let plan = written(|plan| w4ax_gpu_plan_gemm(handles.gpu, &args, plan));
        assert!(plan.workspace_bytes > 64);
        let small = GpuGemmArgs {
            workspace_bytes: 64,
            ..args
        };
        let raw = stream.cu_stream().cast();
        let status = w4ax_gpu_gemm(handles.gpu, &small, raw);
        assert_eq!(status, Status::BufferTooSmall);
        ok(w4ax_gpu_gemm(handles.gpu, &args, raw));
        assert_eq!(ctx::get_current().unwrap(), current, "gemm");
        assert_eq!(w4ax_gpu_create(u32::MAX, &mut null_mut()), Status::NoDevice);
    }
    stream.synchronize().unwrap();
}
