//! The C ABI on a device: the same bits through raw pointers and a raw stream.
//!
//! Every test needs a GPU and is ignored by default. `W4AX_DEVICE` selects the device.

mod buffers;
mod handles;

use std::ffi::{CStr, c_void};
use std::ptr::null_mut;

use half::bf16;
use test_support::{Kind, WIDTHS, bits, rng};
use w4ax::cuda;
use w4ax::cuda::cudarc::driver::CudaContext;
use w4ax::cuda::cudarc::driver::result::ctx;
use w4ax::cuda::cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use w4ax::{Grouping, MatRef, Width};
use w4ax_capi::enums::{CEnum, Family, Mode};
use w4ax_capi::gpu::{GpuGemmArgs, GpuPlan, w4ax_gpu_create, w4ax_gpu_gemm, w4ax_gpu_plan_gemm};
use w4ax_capi::status::Status;

use buffers::Buffers;
use handles::{Device, Handles, Layer, ok, written};

/// How a launch gets its activations, and where it is enqueued.
#[derive(Clone, Copy, Debug)]
struct Variant {
    mode: Mode,
    family: Family,
    gathered: bool,
    captured: bool,
    default_stream: bool,
}

fn variants(device: &Device, layer: &Layer, width: Width) -> Vec<Variant> {
    let mut kernels = vec![(Mode::Auto, Family::Auto), (Mode::Fused, Family::Auto)];
    if width != Width::Bf16 {
        kernels.push((Mode::Quantized, Family::Auto));
        if device.gpu.has_family(cuda::Family::Wgmma) {
            kernels.push((Mode::Quantized, Family::Wgmma));
        }
    }
    let mut variants = Vec::new();
    for (mode, family) in kernels {
        for gathered in [false, true] {
            // Activations for a weight with an order are gathered before they are quantized.
            let needed = layer.order.is_some() && mode == Mode::Quantized;
            let possible = layer.order.is_some();
            if (needed && !gathered) || (!possible && gathered) {
                continue;
            }
            for (captured, default_stream) in [(false, false), (true, false), (false, true)] {
                variants.push(Variant {
                    mode,
                    family,
                    gathered,
                    captured,
                    default_stream,
                });
            }
        }
    }
    variants
}

/// Launches one variant, and returns its plan.
fn launch(
    device: &Device,
    handles: &Handles,
    layer: &Layer,
    buffers: &Buffers,
    (m, width): (usize, Width),
    variant: Variant,
) -> GpuPlan {
    let stream = &device.stream;
    let raw: *mut c_void = match variant.default_stream {
        true => null_mut(),
        false => stream.cu_stream().cast(),
    };
    let mut args = GpuGemmArgs {
        mode: variant.mode.number(),
        family: variant.family.number(),
        ..buffers.args(stream, handles, m, width)
    };
    stream.synchronize().unwrap();
    if variant.captured {
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        stream.begin_capture(mode).unwrap();
    }
    // SAFETY: device memory of the sizes that the header requires, which outlives the launches; a
    // live stream, or the default one.
    unsafe {
        if variant.gathered {
            buffers.gather(handles, &mut args, raw);
        }
        if variant.mode == Mode::Quantized {
            buffers.quantize(handles, layer.plain.grouping, &mut args, raw);
        }
        ok(w4ax_gpu_gemm(handles.gpu, &args, raw));
    }
    if variant.captured {
        let graph = stream.end_capture(CUgraphInstantiate_flags(0)).unwrap();
        graph.expect("the launches were captured").launch().unwrap();
        stream.synchronize().unwrap();
    }
    device.gpu.context().synchronize().unwrap();
    // SAFETY: as above; a plan launches nothing.
    written(|plan| unsafe { w4ax_gpu_plan_gemm(handles.gpu, &args, plan) })
}

/// Checks each width in each variant for one weight.
fn check_layer(device: &Device, layer: &Layer) {
    let stream = &device.stream;
    let (n, k) = (layer.plain.n, layer.plain.k);
    let (handles, packed) = (Handles::new(device, layer), layer.pack());
    for (m, width) in [1, 5, 40].into_iter().flat_map(|m| WIDTHS.map(|p| (m, p))) {
        let x = Kind::Normal.fill(&mut rng(1), m * k);
        let mut buffers = Buffers::new(stream, (m, n, k), layer.order.is_some());
        stream.memcpy_htod(&x, &mut buffers.x).unwrap();
        let expected = device.expected(MatRef::new(&x, m, k).unwrap(), &packed, width);
        for variant in variants(device, layer, width) {
            let poison = vec![bf16::NAN; m * n];
            stream.memcpy_htod(&poison, &mut buffers.y).unwrap();
            let plan = launch(device, &handles, layer, &buffers, (m, width), variant);
            // SAFETY: a static text.
            let kernel = unsafe { CStr::from_ptr(plan.kernel) };
            let grouping = layer.plain.grouping;
            let ordered = layer.order.is_some();
            let what = format!("m {m} {width} {grouping} ordered {ordered} {variant:?} {kernel:?}");
            let auto = variant.mode == Mode::Auto;
            assert!(auto || plan.mode == variant.mode.number(), "{what}");
            let gathers = ordered && !variant.gathered;
            assert_eq!(plan.gathers, u32::from(gathers), "{what}");
            let got: Vec<bf16> = stream.clone_dtoh(&buffers.y).unwrap();
            stream.synchronize().unwrap();
            if width == Width::Bf16 {
                assert!(got.iter().all(|v| v.is_finite()), "{what}");
            } else {
                assert_eq!(bits(&got), bits(&expected), "{what}");
            }
        }
    }
}

/// Each width in each mode, launched and captured, on a stream of the caller and on the legacy
/// default stream.
#[test]
#[ignore = "needs a CUDA GPU"]
fn has_the_same_bits() {
    let device = Device::new();
    for grouping in Grouping::ALL {
        check_layer(&device, &Layer::new(3, (300, 1000), grouping, false));
    }
}

/// The same for weights with an order of k: x is gathered by the launch, or by the caller.
#[test]
#[ignore = "needs a CUDA GPU"]
fn has_the_same_bits_for_ordered_weights() {
    let device = Device::new();
    for grouping in [Grouping::G64, Grouping::PerChannel] {
        check_layer(&device, &Layer::new(4, (300, 1000), grouping, true));
    }
}

/// A stream of another context and a small workspace are errors. The caller's current context does
/// not change.
#[test]
#[ignore = "needs a CUDA GPU"]
fn keeps_the_callers_context() {
    let device = Device::new();
    let stream = &device.stream;
    // So many tokens are quantized before their GEMM.
    let (m, n, k) = (40, 64, 128);
    let layer = Layer::new(1, (n, k), Grouping::G64, false);

    let other = CudaContext::new_non_primary(device.gpu.ordinal(), 0).unwrap();
    let foreign = other.new_stream().unwrap();
    other.bind_to_thread().unwrap();
    let current = ctx::get_current().unwrap();
    let handles = Handles::new(&device, &layer);
    assert_eq!(ctx::get_current().unwrap(), current, "create and upload");
    drop(handles);
    assert_eq!(ctx::get_current().unwrap(), current, "free");

    let handles = Handles::new(&device, &layer);
    let buffers = Buffers::new(stream, (m, n, k), false);
    let args = buffers.args(stream, &handles, m, Width::A4);
    stream.synchronize().unwrap();
    other.bind_to_thread().unwrap();
    // SAFETY: as in `launch`.
    unsafe {
        let raw = foreign.cu_stream().cast();
        let status = w4ax_gpu_gemm(handles.gpu, &args, raw);
        assert_eq!(status, Status::DeviceMismatch);
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
