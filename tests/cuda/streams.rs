//! Several streams and threads, and activations that several GEMMs share.

use crate::harness::{Call, Device, Inputs, Layer, check, expected, scaled};
use crate::support::{WIDTHS, bits, rng};
use half::bf16;
use w4ax::cuda::{DeviceMatMut, DeviceMatRef, Gemm};
use w4ax::{Grouping, ScaleType, Width};

/// Threads with one stream and one workspace each use the same weights.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn threads_share_weights() {
    let device = Device::new();
    let layer = Layer::new(
        &device,
        &mut rng(1),
        scaled((700, 1500), (140, 520)),
        Grouping::G64,
        ScaleType::F16,
        false,
    );
    std::thread::scope(|scope| {
        for thread in 0..6u64 {
            let (device, layer) = (device.fork(), &layer);
            scope.spawn(move || {
                for round in 0..scaled(12, 6) {
                    let m = [1, 2, 5, 16, 40, 3][((thread + round) % 6) as usize];
                    let width = WIDTHS[(thread % 3) as usize];
                    let seed = 100 * thread + round;
                    check(
                        &device,
                        layer,
                        &Call {
                            seed,
                            ..Call::new(m, width)
                        },
                    );
                }
            });
        }
    });
}

/// Many launches are in flight on several streams before the first synchronization.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn overlapping_streams_keep_bits() {
    let device = Device::new();
    let (n, k) = scaled((1024, 2048), (160, 512));
    let layer = Layer::new(
        &device,
        &mut rng(2),
        (n, k),
        Grouping::G128,
        ScaleType::F16,
        true,
    );
    let gpu = &device.gpu;
    let mut lanes = Vec::new();
    for lane in 0..8u64 {
        let stream = gpu.context().new_stream().unwrap();
        let call = Call {
            seed: lane,
            ..Call::new([1, 4, 16, 33][lane as usize % 4], WIDTHS[lane as usize % 3])
        };
        let inputs = Inputs::new(&call, (n, k));
        let x = stream.clone_htod(&inputs.x).unwrap();
        let y = stream.clone_htod(&vec![bf16::NAN; call.m * n]).unwrap();
        let workspace = gpu.workspace(&stream, call.m, k).unwrap();
        lanes.push((stream, call, inputs, x, y, workspace));
    }
    for _ in 0..scaled(50, 20) {
        for (stream, call, _, x, y, workspace) in &mut lanes {
            let x = DeviceMatRef::new(x.as_view(), call.m, k).unwrap();
            let mut y = DeviceMatMut::new(y.as_view_mut(), call.m, n).unwrap();
            gpu.run(
                &*stream,
                &Gemm::new(&x, &layer.device, call.width),
                &mut y,
                workspace,
            )
            .unwrap();
        }
    }
    for (stream, call, inputs, _, y, _) in &lanes {
        let got: Vec<bf16> = stream.clone_dtoh(y).unwrap();
        stream.synchronize().unwrap();
        let expected = expected(
            &device.cpu,
            &layer.packed,
            inputs.view(call.m, k),
            call,
            None,
        );
        assert_eq!(bits(&got), bits(&expected), "{call:?}");
    }
}

/// Activations are quantized once and read by three GEMMs, like q, k and v; then the memory is
/// filled with other tokens.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn quantized_activations_are_shared() {
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    let k = 1000;
    for grouping in Grouping::ALL {
        let layers: Vec<Layer> = [300, 100, 555]
            .map(|n| {
                Layer::new(
                    &device,
                    &mut rng(n as u64),
                    (n, k),
                    grouping,
                    ScaleType::Bf16,
                    false,
                )
            })
            .into();
        let mut packed = gpu.quantized_activations(stream, 40, k).unwrap();
        assert_eq!(packed.contents(), None);
        assert!(
            Gemm::quantized(&packed, &layers[0].device).is_err(),
            "the memory is empty"
        );
        let mut workspace = gpu.workspace(stream, 1, k).unwrap();
        for (m, width) in [
            (40, Width::A8),
            (3, Width::A2),
            (17, Width::A4),
            (1, Width::A8),
        ] {
            let call = Call {
                seed: m as u64,
                ..Call::new(m, width)
            };
            let inputs = Inputs::new(&call, (1, k));
            let x = stream.clone_htod(&inputs.x).unwrap();
            let x = DeviceMatRef::new(x.as_view(), m, k).unwrap();
            gpu.quantize(stream, &x, width, grouping, &mut packed)
                .unwrap();
            assert_eq!(packed.contents(), Some((m, k, Some(width), grouping)));
            for layer in &layers {
                let n = layer.packed.n();
                let mut y = stream.clone_htod(&vec![bf16::NAN; m * n]).unwrap();
                {
                    let mut y = DeviceMatMut::new(y.as_view_mut(), m, n).unwrap();
                    let gemm = Gemm::quantized(&packed, &layer.device).unwrap();
                    gpu.run(stream, &gemm, &mut y, &mut workspace).unwrap();
                }
                let got: Vec<bf16> = stream.clone_dtoh(&y).unwrap();
                stream.synchronize().unwrap();
                let expected = expected(&device.cpu, &layer.packed, inputs.view(m, k), &call, None);
                assert_eq!(bits(&got), bits(&expected), "{call:?} {grouping} N {n}");
            }
        }
    }
}
