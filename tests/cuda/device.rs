//! The handle of a device, and the errors of calls whose operands do not fit.

use crate::harness::{Device, Layer};
use crate::support::{WIDTHS, rng};
use cudarc::driver::CudaContext;
use half::bf16;
use w4ax::cuda::{
    ActivationLayout, ConditionalNodes, DeviceMatMut, DeviceMatRef, Family, Gemm, GemmOptions, Gpu,
    Mma, OperandLayout, QuantizedActivations, Workspace, build_info, device_count, kernel_names,
};
use w4ax::{Error, Grouping, ScaleType, Width};

/// Each width runs on the intended matrix instruction of the architecture, and no kernel spills
/// registers.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn reports_expected_matrix_instruction() {
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
    // The driver links a function of CUDA, which has a stack frame, into these kernels when it
    // loads them. A driver without conditional nodes cannot load them.
    let set_conditionals = ["latch_graph", "skip_begin", "skip_decide"];
    let left_out = match ConditionalNodes::available() {
        Some(_) => 0,
        None => set_conditionals.len(),
    };
    assert_eq!(kernels.len() + left_out, kernel_names().len());
    for kernel in kernels {
        println!("{kernel:?}");
        assert!(kernel.binary_version <= (10 * major + minor) as u32);
        if kernel.family != Some(Family::Plain) && !set_conditionals.contains(&kernel.name) {
            assert_eq!(kernel.local_bytes, 0, "{} spills", kernel.name);
        }
    }
}

#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn rejects_ordinal_out_of_range() {
    let count = device_count().unwrap();
    let error = Gpu::new(count).unwrap_err().to_string();
    assert!(
        error.contains(&format!("no CUDA device {count}: ")),
        "{error}"
    );
}

/// Memory of another stream or device, a stream of another context, wrong shapes and a small
/// workspace each return their error, and nothing is launched.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn rejects_operands_that_do_not_fit() {
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
    gpu.run(stream, &gemm, &mut y, &mut workspace).unwrap();

    // Another stream of the same context.
    let other = device.fork().stream;
    let wrong = gpu.run(&other, &gemm, &mut y, &mut workspace);
    assert!(
        matches!(wrong, Err(Error::DeviceMismatch { what: "x", .. })),
        "{wrong:?}"
    );
    // A workspace of another stream, which two launches at once would share.
    let mut shared = gpu.workspace(&other, m, k).unwrap();
    let wrong = gpu.run(stream, &gemm, &mut y, &mut shared);
    let what = "workspace";
    assert!(
        matches!(wrong, Err(Error::DeviceMismatch { what: of, .. }) if of == what),
        "{wrong:?}"
    );
    // A stream of another context of the same device, which cudarc creates by a function of CUDA
    // 12.5.
    let driver = gpu.driver_version().unwrap();
    if (driver.major, driver.minor) >= (12, 5) {
        let context = CudaContext::new_non_primary(gpu.ordinal(), 0).unwrap();
        let foreign = context.new_stream().unwrap();
        let wrong = gpu.run(&foreign, &gemm, &mut y, &mut workspace);
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
    }
    // The context of the handle itself is accepted.
    assert!(Gpu::with_context(gpu.context().clone()).is_ok());

    // Shapes.
    let mut narrow_memory = stream.alloc_zeros::<bf16>(m * n).unwrap();
    let mut narrow = DeviceMatMut::new(narrow_memory.as_view_mut(), m, n - 1).unwrap();
    let wrong = gpu.run(stream, &gemm, &mut narrow, &mut workspace);
    assert!(
        matches!(wrong, Err(Error::Shape { what: "y", .. })),
        "{wrong:?}"
    );
    let short = DeviceMatRef::new(x_memory.as_view(), m, k - 1).unwrap();
    let wrong = gpu.run(
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

    // A kernel that does not exist.
    for options in [
        GemmOptions::default().with_tile(99),
        GemmOptions::default()
            .with_family(Family::Decode)
            .with_tile(7),
    ] {
        let wrong = gpu.run(stream, &gemm.options(options), &mut y, &mut workspace);
        assert!(
            matches!(wrong, Err(Error::Range { what: "tile", .. })),
            "{wrong:?}"
        );
    }
    // A workspace that is too small.
    // SAFETY: the memory is empty.
    let mut none = unsafe { Workspace::from_raw(gpu.ordinal(), 0, 0) };
    let packs_first = gemm.options(GemmOptions::default().with_fused(false));
    assert!(gpu.plan(&packs_first, &y).unwrap().workspace_bytes > 0);
    let wrong = gpu.run(stream, &packs_first, &mut y, &mut none);
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
    let wrong = gpu.quantize(stream, &x, Width::A4, Grouping::G64, &mut none);
    assert!(matches!(wrong, Err(Error::Buffer { .. })), "{wrong:?}");
    let mut room = gpu.quantized_activations(stream, m, k).unwrap();
    let wrong = gpu.quantize(stream, &x, Width::Bf16, Grouping::G64, &mut room);
    assert!(matches!(wrong, Err(Error::Range { .. })), "{wrong:?}");
    gpu.quantize(stream, &x, Width::A4, Grouping::G32, &mut room)
        .unwrap();
    let wrong = Gemm::quantized(&room, &layer.device);
    assert!(matches!(wrong, Err(Error::Mismatch { .. })), "{wrong:?}");
    // Quantized for one family, and requested from another that reads another layout, or none.
    for layout in OperandLayout::ALL {
        let packing = ActivationLayout::new(Grouping::G64).with_operand(layout);
        gpu.quantize(stream, &x, Width::A4, packing, &mut room)
            .unwrap();
        assert_eq!(room.layout().map(|l| l.operand()), Some(layout));
        let gemm = Gemm::quantized(&room, &layer.device).unwrap();
        for family in Family::ALL {
            let options = GemmOptions::default().with_family(family);
            let run = gpu.run(stream, &gemm.options(options), &mut y, &mut workspace);
            let right = family.activation_layout() == Some(layout) && gpu.has_family(family);
            assert_eq!(run.is_ok(), right, "{layout} {family}: {run:?}");
        }
    }

    // The device still works.
    gpu.run(stream, &gemm, &mut y, &mut workspace).unwrap();
    stream.synchronize().unwrap();
}

/// M = 0 is valid and launches nothing.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn accepts_zero_tokens() {
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
    gpu.run(
        stream,
        &Gemm::new(&x, &layer.device, Width::A8),
        &mut y,
        &mut workspace,
    )
    .unwrap();
    stream.synchronize().unwrap();
}

/// A weight works on its own device only. Needs two devices.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs two CUDA GPUs")]
fn rejects_weight_of_another_device() {
    #[cfg(w4ax_software_device)]
    if crate::software::alone("device::rejects_weight_of_another_device", "devices=2") {
        return;
    }
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
    let wrong = gpu.run(&stream, &gemm, &mut y, &mut workspace);
    assert!(
        matches!(wrong, Err(Error::DeviceMismatch { what: "weight", .. })),
        "{wrong:?}"
    );
    let weight = gpu.upload(&layer.packed).unwrap();
    gpu.run(
        &stream,
        &Gemm::new(&x, &weight, Width::A4),
        &mut y,
        &mut workspace,
    )
    .unwrap();
    stream.synchronize().unwrap();
}
