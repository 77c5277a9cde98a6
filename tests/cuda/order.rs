//! Weights in another order of k (GPTQ's desc_act): the gather on the device, and the GEMM after
//! it.

use crate::harness::{Device, Guarded, POISON};
use crate::support::{Kind, PlainWeight, WIDTHS, bits, rng};
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use half::bf16;
use rand::seq::SliceRandom;
use std::sync::Arc;
use w4ax::cuda::{
    ActivationLayout, DeviceMatMut, DeviceMatRef, Gemm, LatchOptions, MappedFlag, Workspace,
};
use w4ax::{
    Error, Grouping, KOrder, MatMut, MatRef, PackedWeight, ScaleType, Scales, Width, WidthSource,
};

const MODE: CUstreamCaptureMode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
const FLAGS: CUgraphInstantiate_flags = CUgraphInstantiate_flags(0);

fn order_of(k: usize, seed: u64) -> KOrder {
    let mut order: Vec<u32> = (0..k as u32).collect();
    order.shuffle(&mut rng(seed));
    KOrder::new(order).unwrap()
}

/// The gather of the host, including the elements between the rows of the result.
fn gathered(order: &KOrder, x: &[bf16], m: usize, strides: (usize, usize)) -> Vec<bf16> {
    let k = order.as_slice().len();
    let mut y = vec![POISON; (m - 1) * strides.1 + k];
    let x = MatRef::with_stride(x, m, k, strides.0).unwrap();
    let to = MatMut::with_stride(&mut y, m, k, strides.1).unwrap();
    order.gather(x, to).unwrap();
    y
}

/// Tails, strides and alignments; no element around the result is written.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn gather_matches_host() {
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    for (at, k) in [1, 2, 3, 511, 512, 513, 1027, 4096, 11008]
        .into_iter()
        .enumerate()
    {
        let order = order_of(k, at as u64);
        let on_device = gpu.upload_order(&order).unwrap();
        assert_eq!((on_device.k(), on_device.device()), (k, gpu.ordinal()));
        for m in [1, 2, 8, 9, 130] {
            for (gaps, shifts) in [
                ((0, 0), (0, 0)),
                ((1, 2), (0, 0)),
                ((3, 1), (1, 1)),
                ((0, 0), (2, 1)),
            ] {
                let strides = (k + gaps.0, k + gaps.1);
                let host = Kind::AnyBits.fill(&mut rng(m as u64), (m - 1) * strides.0 + k);
                let x = Guarded::new(stream, &host, bf16::NAN, shifts.0);
                let len = (m - 1) * strides.1 + k;
                let mut y = Guarded::new(
                    stream,
                    &vec![POISON; len],
                    bf16::from_bits(0x1234),
                    shifts.1,
                );
                {
                    let x = DeviceMatRef::with_stride(x.view(), m, k, strides.0).unwrap();
                    let mut y = DeviceMatMut::with_stride(y.view_mut(), m, k, strides.1).unwrap();
                    gpu.gather(stream, &on_device, &x, &mut y).unwrap();
                }
                let expected = gathered(&order, &host, m, strides);
                let got = y.read(stream, "gathered x");
                assert!(
                    bits(&got) == bits(&expected),
                    "M {m} K {k} {gaps:?} {shifts:?}"
                );
            }
        }
    }
}

/// A weight with an order, with data whose BF16 sums are exact.
fn weight(seed: u64, (n, k): (usize, usize), grouping: Grouping) -> PackedWeight {
    let mut plain = PlainWeight::random(&mut rng(seed), (n, k), grouping, ScaleType::F32, false);
    plain.scales = Scales::F32(vec![0.5; plain.scales.len()]);
    plain.pack().with_order(order_of(k, seed)).unwrap()
}

/// Each width, fixed and latched, eager and replayed from a graph, has the bits of the CPU.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn run_with_order_matches_cpu() {
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    let flag = Arc::new(MappedFlag::new(gpu).unwrap());
    let latch = gpu.latch(stream, flag.clone(), 0).unwrap();
    let mut step = 0;
    for (m, (n, k), grouping) in [
        (1, (200, 1152), Grouping::G128),
        (9, (100, 700), Grouping::G32),
        (40, (320, 512), Grouping::PerChannel),
    ] {
        let weight_on_host = weight(m as u64, (n, k), grouping);
        let weight_on_device = gpu.upload(&weight_on_host).unwrap();
        let host = Kind::Integers.fill(&mut rng(3), m * k);
        let x = stream.clone_htod(&host).unwrap();
        let mut y = stream.alloc_zeros::<bf16>(m * n).unwrap();
        let mut workspace = gpu.workspace(stream, m, k).unwrap();
        for width in WIDTHS {
            let mut expected = vec![bf16::ZERO; m * n];
            let cpu = &device.cpu;
            let mut of_cpu = cpu.workspace(m, k).unwrap();
            let view = MatRef::new(&host, m, k).unwrap();
            let to = MatMut::new(&mut expected, m, n).unwrap();
            cpu.run(
                &w4ax::Gemm::new(view, &weight_on_host, width),
                to,
                &mut of_cpu,
            )
            .unwrap();
            for latched in [false, true] {
                for graph in [false, true] {
                    stream.memcpy_htod(&vec![POISON; m * n], &mut y).unwrap();
                    let source = match latched {
                        true => WidthSource::Latched(&latch),
                        false => WidthSource::Fixed(width),
                    };
                    if latched {
                        flag.requested().store(step, width);
                        gpu.begin_step(stream, &latch, LatchOptions::default())
                            .unwrap();
                        step += 1;
                    }
                    {
                        let x = DeviceMatRef::new(x.as_view(), m, k).unwrap();
                        let mut y = DeviceMatMut::new(y.as_view_mut(), m, n).unwrap();
                        let mut launch = || {
                            let gemm = Gemm::new(&x, &weight_on_device, source);
                            gpu.run(stream, &gemm, &mut y, &mut workspace).unwrap();
                        };
                        if graph {
                            stream.begin_capture(MODE).unwrap();
                            launch();
                            let graph = stream.end_capture(FLAGS).unwrap().expect("a graph");
                            graph.launch().unwrap();
                            stream.synchronize().unwrap();
                        } else {
                            launch();
                        }
                    }
                    let got: Vec<bf16> = stream.clone_dtoh(&y).unwrap();
                    stream.synchronize().unwrap();
                    assert!(
                        bits(&got) == bits(&expected),
                        "M {m} {width} latched {latched} graph {graph}"
                    );
                }
            }
        }
    }
}

/// One gather for two GEMMs, of BF16 and of quantized activations: the bits of the gather inside of
/// `run`.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn shared_gather_matches_run() {
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    let (m, n, k) = (20, 96, 700);
    let grouping = Grouping::G64;
    let layers = [1, 1].map(|seed| gpu.upload(&weight(seed, (n, k), grouping)).unwrap());
    let host = Kind::Integers.fill(&mut rng(4), m * k);
    let x = stream.clone_htod(&host).unwrap();
    let x = DeviceMatRef::new(x.as_view(), m, k).unwrap();
    let mut scratch = stream.alloc_zeros::<bf16>(m * k).unwrap();
    let mut gathered = DeviceMatMut::new(scratch.as_view_mut(), m, k).unwrap();
    let mut quantized = gpu.quantized_activations(stream, m, k).unwrap();
    let mut y = stream.alloc_zeros::<bf16>(m * n).unwrap();
    let mut workspace = gpu.workspace(stream, m, k).unwrap();
    let order = layers[0].order().unwrap();
    gpu.gather(stream, order, &x, &mut gathered).unwrap();
    let gathered = gathered.as_ref();
    for width in WIDTHS {
        for layer in &layers {
            let mut calls = vec![
                Gemm::new(&x, layer, width),
                Gemm::gathered(&gathered, layer, width),
            ];
            if width != Width::Bf16 {
                let layout = ActivationLayout::new(grouping).with_gathered(true);
                gpu.quantize(stream, &gathered, width, layout, &mut quantized)
                    .unwrap();
                calls.push(Gemm::quantized(&quantized, layer).unwrap());
            }
            let results: Vec<Vec<u16>> = (calls.iter())
                .map(|gemm| {
                    {
                        let mut y = DeviceMatMut::new(y.as_view_mut(), m, n).unwrap();
                        gpu.run(stream, gemm, &mut y, &mut workspace).unwrap();
                    }
                    let got: Vec<bf16> = stream.clone_dtoh(&y).unwrap();
                    stream.synchronize().unwrap();
                    bits(&got)
                })
                .collect();
            assert!(results.iter().all(|y| *y == results[0]), "{width}");
        }
    }
    // Activations that were not gathered do not fit the weight.
    gpu.quantize(stream, &x, Width::A8, grouping, &mut quantized)
        .unwrap();
    let wrong = Gemm::quantized(&quantized, &layers[0]);
    assert!(matches!(wrong, Err(Error::Mismatch { .. })), "{wrong:?}");
}

/// The gathered activations take a part of the workspace, which the plan includes.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn plan_includes_gather() {
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    let (m, n, k) = (20, 96, 700);
    let weight_on_device = gpu.upload(&weight(1, (n, k), Grouping::G64)).unwrap();
    let x = stream.alloc_zeros::<bf16>(m * k).unwrap();
    let mut y = stream.alloc_zeros::<bf16>(m * n).unwrap();
    let x = DeviceMatRef::new(x.as_view(), m, k).unwrap();
    let mut y = DeviceMatMut::new(y.as_view_mut(), m, n).unwrap();
    for width in WIDTHS {
        let gemm = Gemm::new(&x, &weight_on_device, width);
        let plan = gpu.plan(&gemm, &y).unwrap();
        let alone = gpu
            .plan(&Gemm::gathered(&x, &weight_on_device, width), &y)
            .unwrap();
        assert!(plan.gathers && !alone.gathers, "{plan}");
        assert_eq!(plan.launches, alone.launches + 1, "{plan}");
        assert!(plan.workspace_bytes >= alone.workspace_bytes + 2 * m * k);
        assert!(plan.workspace_bytes <= Workspace::bytes_for(m, k).unwrap());
        // Exactly the planned bytes suffice, and one byte less does not.
        let memory = stream.alloc_zeros::<u8>(plan.workspace_bytes).unwrap();
        let address = cudarc::driver::DevicePtr::device_ptr(&memory, stream).0;
        for (bytes, fits) in [
            (plan.workspace_bytes, true),
            (plan.workspace_bytes - 1, false),
        ] {
            // SAFETY: `memory` has that many bytes, and only this stream uses it.
            let mut workspace = unsafe { Workspace::from_raw(gpu.ordinal(), address, bytes) };
            let run = gpu.run(stream, &gemm, &mut y, &mut workspace);
            assert_eq!(run.is_ok(), fits, "{width}: {run:?}");
        }
        stream.synchronize().unwrap();
    }
}

#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn rejects_operands_that_do_not_fit() {
    let device = Device::new();
    let other = device.fork();
    let (gpu, stream) = (&device.gpu, &device.stream);
    let (m, n, k) = (3, 20, 70);
    let weight_on_device = gpu.upload(&weight(1, (n, k), Grouping::G32)).unwrap();
    let x = stream.alloc_zeros::<bf16>(m * (k + 1)).unwrap();
    let mut to = stream.alloc_zeros::<bf16>(m * k).unwrap();
    let mut y = stream.alloc_zeros::<bf16>(m * n).unwrap();
    let mut workspace = gpu.workspace(stream, m, k).unwrap();
    let order = weight_on_device.order().unwrap();
    let wide = DeviceMatRef::new(x.as_view(), m, k + 1).unwrap();
    let right = DeviceMatRef::new(x.as_view(), m, k).unwrap();
    {
        let mut to = DeviceMatMut::new(to.as_view_mut(), m, k).unwrap();
        let wrong = gpu.gather(stream, order, &wide, &mut to);
        assert!(matches!(wrong, Err(Error::Shape { what: "x", .. })));
        let wrong = gpu.gather(&other.stream, order, &right, &mut to);
        assert!(matches!(
            wrong,
            Err(Error::DeviceMismatch { what: "x", .. })
        ));
        // The shapes of the GEMM are checked before the gather is launched.
        let mut y = DeviceMatMut::new(y.as_view_mut(), m, n - 1).unwrap();
        let gemm = Gemm::new(&right, &weight_on_device, Width::A4);
        let wrong = gpu.run(stream, &gemm, &mut y, &mut workspace);
        assert!(matches!(wrong, Err(Error::Shape { what: "y", .. })));
    }
    let mut few = DeviceMatMut::new(to.as_view_mut(), m - 1, k).unwrap();
    let wrong = gpu.gather(stream, order, &right, &mut few);
    assert!(matches!(
        wrong,
        Err(Error::Shape {
            what: "gathered x",
            ..
        })
    ));
}
