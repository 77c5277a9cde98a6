//! The device's handle: what it says, and the errors of calls that do not fit together.

use crate::harness::{Device, Layer};
use crate::support::{WIDTHS, rng};
use cudarc::driver::CudaContext;
use half::bf16;
use w4ax::cuda::{
    ActivationLayout, DeviceMatMut, DeviceMatRef, Family, Gemm, GemmOptions, Gpu, Mma,
    OperandLayout, QuantizedActivations, Workspace, build_info, device_count, kernel_names,
};
use w4ax::{Error, Grouping, ScaleType, Width};

/// The instruction that each width runs on is the one that the design gives to the architecture; nothing spills.
#[test]
#[ignore = "needs a CUDA GPU"]
fn what_multiplies_is_what_should() {
    let gpu = Device::new().gpu;
    let (major, minor) = gpu.compute_capability();
    println!(
        "{} sm_{major}{minor}, driver of CUDA {}",
        gpu.name(),
        gpu.driver_version().unwrap()
    );
    let narrow = if (major, minor) < (9, 0) {
        Mma::S4
    } else {
        Mma::S8
    };
    for family in [Family::Decode, Family::Prefill] {
        let found = WIDTHS.map(|width| gpu.mma(width, family).unwrap());
        assert_eq!(found, [narrow, narrow, Mma::S8, Mma::Bf16], "{family}");
    }
    assert_eq!(gpu.mma(Width::A4, Family::Plain).unwrap(), Mma::None);
    let has_wgmma =
        (major, minor) == (9, 0) && build_info().unwrap().archs.split(';').any(|a| a == "90a");
    assert_eq!(gpu.has_family(Family::Wgmma), has_wgmma);
    if has_wgmma {
        let found = WIDTHS.map(|width| gpu.mma(width, Family::Wgmma).unwrap());
        let s8 = Mma::WgmmaS8;
        assert_eq!(found, [s8, s8, s8, Mma::WgmmaBf16]);
    }

    let kernels = gpu.kernels().unwrap();
    assert_eq!(kernels.len(), kernel_names().len());
    // The driver links CUDA's own function into these when it loads them, and with it that one's stack.
    let set_conditionals = ["latch_graph", "skip_begin", "skip_decide"];
    for kernel in kernels {
        println!("{kernel:?}");
        assert!(kernel.binary_version <= (10 * major + minor) as u32);
        if kernel.family != Some(Family::Plain) && !set_conditionals.contains(&kernel.name) {
            assert_eq!(kernel.local_bytes, 0, "{} spills", kernel.name);
        }
    }
}

#[test]
#[ignore = "needs a CUDA GPU"]
fn a_device_that_is_not_there() {
    let count = device_count().unwrap();
    let error = Gpu::new(count).unwrap_err().to_string();
    assert!(
        error.contains(&format!("there is no CUDA device {count}")),
        "{error}"
    );
}

/// Memory of another stream or device, a stream of another context, wrong shapes, a small workspace: each its error, and
/// nothing is launched.
#[test]
#[ignore = "needs a CUDA GPU"]
fn what_does_not_fit_is_an_error() {
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    let (m, n, k) = (5, 64, 128);
    let layer = Layer::new(
        &device,
        &mut rng(1),
        (n, k),
        Grouping::G64,
        ScaleType::F32,
        false,
    );
    let x_memory = stream.alloc_zeros::<bf16>(m * k).unwrap();
    let mut y_memory = stream.alloc_zeros::<bf16>(m * n).unwrap();
    let x = DeviceMatRef::new(x_memory.as_view(), m, k).unwrap();
    let mut y = DeviceMatMut::new(y_memory.as_view_mut(), m, n).unwrap();
    let mut workspace = gpu.workspace(stream, m, k).unwrap();
    let gemm = Gemm::new(&x, &layer.device, Width::A4);
    gpu.gemm(stream, &gemm, &mut y, &mut workspace).unwrap();

    // Another stream of the same context.
    let other = device.fork().stream;
    let wrong = gpu.gemm(&other, &gemm, &mut y, &mut workspace);
    assert!(
        matches!(wrong, Err(Error::DeviceMismatch { what: "x", .. })),
        "{wrong:?}"
    );
    // A stream of another context of the same device.
    let context = CudaContext::new_non_primary(gpu.ordinal(), 0).unwrap();
    let foreign = context.new_stream().unwrap();
    let wrong = gpu.gemm(&foreign, &gemm, &mut y, &mut workspace);
    assert!(
        matches!(wrong, Err(Error::DeviceMismatch { what: "stream", .. })),
        "{wrong:?}"
    );
    assert!(matches!(
        Gpu::with_context(context.clone()),
        Err(Error::DeviceMismatch {
            what: "context",
            ..
        })
    ));
    drop((foreign, context));
    // A handle of one's own context is the same device.
    assert!(Gpu::with_context(gpu.context().clone()).is_ok());

    // Shapes.
    let mut narrow_memory = stream.alloc_zeros::<bf16>(m * n).unwrap();
    let mut narrow = DeviceMatMut::new(narrow_memory.as_view_mut(), m, n - 1).unwrap();
    let wrong = gpu.gemm(stream, &gemm, &mut narrow, &mut workspace);
    assert!(
        matches!(wrong, Err(Error::Shape { what: "y", .. })),
        "{wrong:?}"
    );
    let short = DeviceMatRef::new(x_memory.as_view(), m, k - 1).unwrap();
    let wrong = gpu.gemm(
        stream,
        &Gemm::new(&short, &layer.device, Width::A4),
        &mut y,
        &mut workspace,
    );
    assert!(
        matches!(wrong, Err(Error::Shape { what: "x", .. })),
        "{wrong:?}"
    );
    assert!(matches!(
        DeviceMatRef::new(x_memory.as_view(), m + 1, k),
        Err(Error::Buffer { .. })
    ));

    // A kernel that there is not.
    for options in [
        GemmOptions {
            tile: Some(99),
            ..Default::default()
        },
        GemmOptions {
            family: Some(Family::Decode),
            tile: Some(7),
            ..Default::default()
        },
    ] {
        let wrong = gpu.gemm(stream, &gemm.options(options), &mut y, &mut workspace);
        assert!(
            matches!(wrong, Err(Error::Range { what: "tile", .. })),
            "{wrong:?}"
        );
    }
    // A workspace that is too small.
    // SAFETY: no bytes at all.
    let mut none = unsafe { Workspace::from_raw(gpu.ordinal(), 0, 0) };
    let packs_first = gemm.options(GemmOptions {
        fused: Some(false),
        ..Default::default()
    });
    assert!(gpu.plan(&packs_first, &y).unwrap().workspace_bytes > 0);
    let wrong = gpu.gemm(stream, &packs_first, &mut y, &mut none);
    assert!(
        matches!(
            wrong,
            Err(Error::Buffer {
                what: "workspace bytes",
                ..
            })
        ),
        "{wrong:?}"
    );
    // SAFETY: as above.
    let mut none = unsafe { QuantizedActivations::from_raw(gpu.ordinal(), 0, 0) };
    let wrong = gpu.quantize_pack(stream, &x, Width::A4, Grouping::G64, &mut none);
    assert!(matches!(wrong, Err(Error::Buffer { .. })), "{wrong:?}");
    let mut room = gpu.packed_activations(stream, m, k).unwrap();
    let wrong = gpu.quantize_pack(stream, &x, Width::Bf16, Grouping::G64, &mut room);
    assert!(matches!(wrong, Err(Error::Range { .. })), "{wrong:?}");
    gpu.quantize_pack(stream, &x, Width::A4, Grouping::G32, &mut room)
        .unwrap();
    let wrong = Gemm::packed(&room, &layer.device);
    assert!(matches!(wrong, Err(Error::Mismatch { .. })), "{wrong:?}");
    // Packed for one family, and asked of another that reads another layout, or none.
    for layout in OperandLayout::ALL {
        let packing = ActivationLayout {
            layout,
            ..Grouping::G64.into()
        };
        gpu.quantize_pack(stream, &x, Width::A4, packing, &mut room)
            .unwrap();
        assert_eq!(room.layout(), Some(layout));
        let gemm = Gemm::packed(&room, &layer.device).unwrap();
        for family in Family::ALL {
            let options = GemmOptions {
                family: Some(family),
                ..Default::default()
            };
            let run = gpu.gemm(stream, &gemm.options(options), &mut y, &mut workspace);
            let right = family.packed_layout() == Some(layout) && gpu.has_family(family);
            assert_eq!(run.is_ok(), right, "{layout} {family}: {run:?}");
        }
    }

    // The device is as well as before.
    gpu.gemm(stream, &gemm, &mut y, &mut workspace).unwrap();
    stream.synchronize().unwrap();
}

/// M = 0 does nothing, and is no error.
#[test]
#[ignore = "needs a CUDA GPU"]
fn no_tokens() {
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    let layer = Layer::new(
        &device,
        &mut rng(1),
        (64, 64),
        Grouping::G64,
        ScaleType::F32,
        true,
    );
    let memory = stream.alloc_zeros::<bf16>(64).unwrap();
    let mut y = stream.alloc_zeros::<bf16>(64).unwrap();
    let x = DeviceMatRef::new(memory.as_view(), 0, 64).unwrap();
    let mut y = DeviceMatMut::new(y.as_view_mut(), 0, 64).unwrap();
    let mut workspace = gpu.workspace(stream, 1, 64).unwrap();
    gpu.gemm(
        stream,
        &Gemm::new(&x, &layer.device, Width::A8),
        &mut y,
        &mut workspace,
    )
    .unwrap();
    stream.synchronize().unwrap();
}

/// Weights of one device are not taken for another's, and each device computes with its own. Needs two.
#[test]
#[ignore = "needs two CUDA GPUs"]
fn two_devices() {
    assert!(device_count().unwrap() >= 2, "this test needs two devices");
    let one = Device::new();
    let layer = Layer::new(
        &one,
        &mut rng(1),
        (64, 128),
        Grouping::G64,
        ScaleType::F32,
        true,
    );
    let gpu = Gpu::new(1).unwrap();
    let stream = gpu.context().new_stream().unwrap();
    let (x, mut y) = (
        stream.alloc_zeros::<bf16>(128).unwrap(),
        stream.alloc_zeros::<bf16>(64).unwrap(),
    );
    let x = DeviceMatRef::new(x.as_view(), 1, 128).unwrap();
    let mut y = DeviceMatMut::new(y.as_view_mut(), 1, 64).unwrap();
    let mut workspace = gpu.workspace(&stream, 1, 128).unwrap();
    let gemm = Gemm::new(&x, &layer.device, Width::A4);
    let wrong = gpu.gemm(&stream, &gemm, &mut y, &mut workspace);
    assert!(
        matches!(wrong, Err(Error::DeviceMismatch { what: "weight", .. })),
        "{wrong:?}"
    );
    let weight = gpu.upload(&layer.packed).unwrap();
    gpu.gemm(
        &stream,
        &Gemm::new(&x, &weight, Width::A4),
        &mut y,
        &mut workspace,
    )
    .unwrap();
    stream.synchronize().unwrap();
}
