//! Graphs are captured once, replayed on new data, and match eager launches. Launches allocate
//! nothing.

use crate::harness::{Call, Device, Inputs, Layer, expected, scaled};
use crate::support::{WIDTHS, bits, rng};
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use half::bf16;
use w4ax::cuda::{DeviceMatMut, DeviceMatRef, Gemm, GemmOptions};
use w4ax::{Error, Grouping, ScaleType, Width};

const MODE: CUstreamCaptureMode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
const FLAGS: CUgraphInstantiate_flags = CUgraphInstantiate_flags(0);

/// Two layers in one graph, the second on the result of the first, for each width, with and without
/// programmatic dependent launch. The context tracks events, which is the default of cudarc.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn replay_matches_eager_launches() {
    let device = Device::new();
    // With a second stream the context tracks events, so a capture fails if a launch waits for one.
    let _second = device.fork();
    assert!(device.gpu.context().is_managing_stream_synchronization());
    let (gpu, stream) = (&device.gpu, &device.stream);
    let (n, k, last) = scaled((512, 768, 100), (96, 264, 36));
    let first = Layer::new(
        &device,
        &mut rng(1),
        (n, k),
        Grouping::G64,
        ScaleType::F16,
        false,
    );
    let second = Layer::new(
        &device,
        &mut rng(2),
        (last, n),
        Grouping::G128,
        ScaleType::F16,
        true,
    );
    for width in WIDTHS {
        for (m, pdl) in [
            (1, false),
            (1, true),
            (5, true),
            (16, true),
            (48, false),
            (48, true),
        ] {
            let call = Call::new(m, width);
            let options = GemmOptions::default().with_pdl(pdl);
            let mut x = stream.alloc_zeros::<bf16>(m * k).unwrap();
            let mut hidden = stream.alloc_zeros::<bf16>(m * n).unwrap();
            let mut y = stream.alloc_zeros::<bf16>(m * last).unwrap();
            let mut workspace = gpu.workspace(stream, m, k).unwrap();

            let graph = {
                let x = DeviceMatRef::new(x.as_view(), m, k).unwrap();
                // SAFETY: the memory of `hidden`, which only this stream uses, in stream order.
                let input = unsafe {
                    use cudarc::driver::DevicePtr;
                    let address = hidden.device_ptr(stream).0;
                    DeviceMatRef::from_raw(gpu.ordinal(), address, m, n, n)
                };
                let mut hidden = DeviceMatMut::new(hidden.as_view_mut(), m, n).unwrap();
                let mut y = DeviceMatMut::new(y.as_view_mut(), m, last).unwrap();
                stream.begin_capture(MODE).unwrap();
                let one = Gemm::new(&x, &first.device, width).options(options);
                gpu.run(stream, &one, &mut hidden, &mut workspace).unwrap();
                let two = Gemm::new(&input, &second.device, width).options(options);
                gpu.run(stream, &two, &mut y, &mut workspace).unwrap();
                stream
                    .end_capture(FLAGS)
                    .unwrap()
                    .expect("the launches were captured")
            };

            for seed in 0..scaled(4, 2) {
                let inputs = Inputs::new(&Call { seed, ..call }, (n, k));
                stream.memcpy_htod(&inputs.x, &mut x).unwrap();
                stream
                    .memcpy_htod(&vec![bf16::NAN; m * n], &mut hidden)
                    .unwrap();
                stream
                    .memcpy_htod(&vec![bf16::NAN; m * last], &mut y)
                    .unwrap();
                for _ in 0..3 {
                    graph.launch().unwrap();
                }
                let replayed: Vec<bf16> = stream.clone_dtoh(&y).unwrap();
                let between: Vec<bf16> = stream.clone_dtoh(&hidden).unwrap();
                stream.synchronize().unwrap();

                stream
                    .memcpy_htod(&vec![bf16::NAN; m * n], &mut hidden)
                    .unwrap();
                stream
                    .memcpy_htod(&vec![bf16::NAN; m * last], &mut y)
                    .unwrap();
                {
                    let x = DeviceMatRef::new(x.as_view(), m, k).unwrap();
                    let mut hidden = DeviceMatMut::new(hidden.as_view_mut(), m, n).unwrap();
                    let one = Gemm::new(&x, &first.device, width);
                    gpu.run(stream, &one, &mut hidden, &mut workspace).unwrap();
                }
                {
                    let input = DeviceMatRef::new(hidden.as_view(), m, n).unwrap();
                    let mut y = DeviceMatMut::new(y.as_view_mut(), m, last).unwrap();
                    let two = Gemm::new(&input, &second.device, width);
                    gpu.run(stream, &two, &mut y, &mut workspace).unwrap();
                }
                let eager: Vec<bf16> = stream.clone_dtoh(&y).unwrap();
                stream.synchronize().unwrap();
                assert_eq!(bits(&replayed), bits(&eager), "{call:?} pdl {pdl}");
                if width != Width::Bf16 {
                    let oracle =
                        expected(&device.cpu, &first.packed, inputs.view(m, k), &call, None);
                    assert_eq!(bits(&between), bits(&oracle), "{call:?} pdl {pdl}");
                }
            }
        }
    }
}

/// A view during a capture would tie the graph to an event outside of it. It returns an error, and
/// the capture continues.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn rejects_view_during_capture() {
    let device = Device::new();
    let _second = device.fork();
    let stream = &device.stream;
    let mut x = stream.alloc_zeros::<bf16>(64).unwrap();
    stream.begin_capture(MODE).unwrap();
    assert!(matches!(
        DeviceMatRef::new(x.as_view(), 1, 64),
        Err(Error::Cuda { .. })
    ));
    assert!(matches!(
        DeviceMatMut::new(x.as_view_mut(), 1, 64),
        Err(Error::Cuda { .. })
    ));
    stream.end_capture(FLAGS).unwrap();
    assert!(DeviceMatRef::new(x.as_view(), 1, 64).is_ok());
}

/// Launches allocate no device memory.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn launches_allocate_nothing() {
    // Other tests allocate meanwhile. On a GPU, `--test-threads=1` keeps them from it.
    #[cfg(w4ax_software_device)]
    if crate::software::alone("graphs::launches_allocate_nothing", "") {
        return;
    }
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    let (n, k) = scaled((2048, 2048), (64, 128));
    let layer = Layer::new(
        &device,
        &mut rng(1),
        (n, k),
        Grouping::G128,
        ScaleType::F16,
        false,
    );
    for m in [1, 16, 300] {
        let x = stream.alloc_zeros::<bf16>(m * k).unwrap();
        let mut y = stream.alloc_zeros::<bf16>(m * n).unwrap();
        let mut workspace = gpu.workspace(stream, m, k).unwrap();
        let x = DeviceMatRef::new(x.as_view(), m, k).unwrap();
        let mut y = DeviceMatMut::new(y.as_view_mut(), m, n).unwrap();
        // The driver allocates memory at the first launch.
        let mut launches = |times: usize| {
            for width in WIDTHS {
                for _ in 0..times {
                    let gemm = Gemm::new(&x, &layer.device, width);
                    gpu.run(stream, &gemm, &mut y, &mut workspace).unwrap();
                }
            }
            stream.synchronize().unwrap();
            gpu.context().mem_get_info().unwrap().0
        };
        let before = launches(1);
        assert_eq!(launches(50), before, "M {m}");
    }
}
