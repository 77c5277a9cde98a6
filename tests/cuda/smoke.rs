//! The first tests on a machine: one kernel of each family, in seconds.

use crate::harness::{Call, Device, check};
use crate::kernels::layer_for;
use crate::support::{Kind, PlainWeight, bits, rng};
use half::bf16;
use w4ax::cuda::{DeviceMatMut, DeviceMatRef, Family, Gemm, GemmOptions};
use w4ax::{Grouping, ScaleType, Scheme, Width};

/// A quantized width and BF16 on each family that the device supports.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn each_family_matches_reference() {
    let device = Device::new();
    let mut ran = 0;
    for family in Family::ALL {
        if !device.gpu.has_family(family) {
            println!("{family}: not on this device");
            continue;
        }
        for width in [Width::A4, Width::Bf16] {
            let shape = (256, 512);
            let (layer, kind) = layer_for(
                &device,
                width,
                1,
                shape,
                (Scheme::Grouped, Grouping::G128),
                ScaleType::F16,
                true,
            );
            let call = Call {
                options: GemmOptions::default().with_family(family),
                kind,
                ..Call::new(8, width)
            };
            let plan = check(&device, &layer, &call);
            println!("{plan}");
            assert_eq!(plan.family, family);
            ran += 1;
        }
    }
    // Decode, prefill and plain run on every device.
    assert!(ran >= 6, "{ran} calls: expected at least 6");
}

/// A weight of which the device makes all copies but the first has the bits of one that is packed
/// whole. The benches run on such weights.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn repeated_weight_matches_packed_weight() {
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    let (rows, k, times, m) = (32, 320, 5, 3);
    let x = Kind::Normal.fill(&mut rng(2), m * k);
    let x = stream.clone_htod(&x).unwrap();
    let x = DeviceMatRef::new(x.as_view(), m, k).unwrap();
    for (grouping, symmetric) in [(Grouping::G64, false), (Grouping::PerChannel, true)] {
        let scales = ScaleType::Bf16;
        let one = PlainWeight::random(&mut rng(3), (rows, k), grouping, scales, symmetric);
        let channels: Vec<usize> = (0..times * rows).map(|row| row % rows).collect();
        let run = |weight| {
            let n = times * rows;
            let mut memory = stream.alloc_zeros::<bf16>(m * n).unwrap();
            let mut y = DeviceMatMut::new(memory.as_view_mut(), m, n).unwrap();
            let mut workspace = gpu.workspace(stream, m, k).unwrap();
            let gemm = Gemm::new(&x, weight, Width::A4);
            gpu.run(stream, &gemm, &mut y, &mut workspace).unwrap();
            bits(&stream.clone_dtoh(&memory).unwrap())
        };
        let repeated = gpu.upload_repeated(&one.pack(), times).unwrap();
        let packed = gpu.upload(&one.rows(&channels).pack()).unwrap();
        assert_eq!(repeated.n(), packed.n());
        assert_eq!(repeated.bytes(), packed.bytes());
        assert_eq!(run(&repeated), run(&packed), "{grouping}");
    }
}
