//! RMSNorm and `silu(gate) * up` on the device: rows with the bits of the reference, quantized with
//! the bytes of the two launches, and the GEMMs after them.

use crate::harness::{Device, Guarded, POISON};
use crate::support::{Kind, PlainWeight, bits, rng};
use half::bf16;
use std::sync::Arc;
use w4ax::cuda::{
    ActivationLayout, AddRmsNorm, DeviceMatMut, DeviceMatRef, DeviceVecRef, Family, Gemm,
    LatchOptions, MappedFlag, OperandLayout, QuantizedActivations, RmsNorm, SiluMul,
};
use w4ax::{Error, Grouping, MatMut, MatRef, ScaleType, Scheme, Width, WidthSource, reference};

const QUANTIZED: [Width; 3] = [Width::A2, Width::A4, Width::A8];

/// The operands of an operation on the host, with gaps between their rows.
struct Operands {
    m: usize,
    k: usize,
    stride: usize,
    x: Vec<bf16>,
    wide: Vec<f32>,
    up: Vec<bf16>,
    weight: Vec<bf16>,
}

impl Operands {
    fn new((m, k): (usize, usize), gap: usize, kind: Kind, seed: u64) -> Self {
        let (rng, stride) = (&mut rng(seed), k + gap);
        let len = (m - 1) * stride + k;
        let x = kind.fill(rng, len);
        Self {
            m,
            k,
            stride,
            wide: x.iter().map(|v| v.to_f32() * 1.01).collect(),
            x,
            up: Kind::Normal.fill(rng, len),
            weight: Kind::Normal.fill(rng, k),
        }
    }

    /// The rows of the three operations: RMSNorm of BF16, of f32, and SiLU.
    fn expected(&self) -> [Vec<bf16>; 3] {
        let (m, k, stride) = (self.m, self.k, self.stride);
        let of = |data| MatRef::with_stride(data, m, k, stride).unwrap();
        let wide = MatRef::with_stride(&self.wide, m, k, stride).unwrap();
        [
            reference::rms_norm(&w4ax::RmsNorm::new(of(&self.x), &self.weight, 1e-5)).unwrap(),
            reference::rms_norm(&w4ax::RmsNorm::new(wide, &self.weight, 1e-5)).unwrap(),
            reference::silu_mul(&w4ax::SiluMul::new(of(&self.x), of(&self.up))).unwrap(),
        ]
    }
}

/// Rows of every operation, and their quantization in one launch and in two.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn operations_match_reference() {
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    let mut at = 0;
    for shape in [(1, 64), (3, 511), (9, 700), (17, 1300), (2, 5000)] {
        let (m, k) = shape;
        for grouping in Grouping::ALL {
            at += 1;
            let kind = [Kind::Normal, Kind::AnyBits, Kind::Poisoned][at % 3];
            let operands = Operands::new(shape, at % 3, kind, at as u64);
            let shift = at % 2;
            let x = Guarded::new(stream, &operands.x, bf16::NAN, shift);
            let wide = Guarded::new(stream, &operands.wide, f32::NAN, shift);
            let up = Guarded::new(stream, &operands.up, bf16::NAN, 0);
            let weight = Guarded::new(stream, &operands.weight, bf16::NAN, 0);
            let x = DeviceMatRef::with_stride(x.view(), m, k, operands.stride).unwrap();
            let up = DeviceMatRef::with_stride(up.view(), m, k, operands.stride).unwrap();
            let wide = DeviceMatRef::with_stride(wide.view(), m, k, operands.stride).unwrap();
            let weight = DeviceVecRef::new(weight.view(), k).unwrap();
            let norms = [
                RmsNorm::new(&x, &weight, 1e-5),
                RmsNorm::new(&wide, &weight, 1e-5),
            ];
            let silu = SiluMul::new(&x, &up);
            for (op, expected) in operands.expected().iter().enumerate() {
                let what = format!("operation {op}, {shape:?}, {grouping}");
                let mut y = Guarded::new(stream, &vec![POISON; m * k], POISON, shift);
                {
                    let mut y = DeviceMatMut::new(y.view_mut(), m, k).unwrap();
                    match op {
                        2 => gpu.silu_mul(stream, &silu, &mut y).unwrap(),
                        _ => gpu.rms_norm(stream, &norms[op], &mut y).unwrap(),
                    }
                }
                assert!(bits(&y.read(stream, "y")) == bits(expected), "{what}");
                let rows = DeviceMatRef::new(y.view(), m, k).unwrap();
                for (operand, width) in OperandLayout::ALL.into_iter().zip([QUANTIZED[at % 3]; 2]) {
                    let layout = ActivationLayout::new(grouping).with_operand(operand);
                    let size =
                        QuantizedActivations::bytes_for(m, k, width, grouping, operand).unwrap();
                    let run = |fused: bool| {
                        let memory = Guarded::new(stream, &vec![0xEEu8; size], 0xAB, 0);
                        let address = memory.address(stream);
                        // SAFETY: `memory` has that many bytes and outlives the launches, which run
                        // on its stream.
                        let mut to =
                            unsafe { QuantizedActivations::from_raw(gpu.ordinal(), address, size) };
                        let to = &mut to;
                        match (fused, op) {
                            (false, _) => gpu.quantize(stream, &rows, width, layout, to),
                            (true, 2) => {
                                gpu.silu_mul_quantize(stream, &silu, width, layout, to, None)
                            }
                            (true, _) => {
                                gpu.rms_norm_quantize(stream, &norms[op], width, layout, to, None)
                            }
                        }
                        .unwrap();
                        memory.read(stream, "quantized activations")
                    };
                    assert!(run(true) == run(false), "{what}, {operand} {width}");
                }
            }
        }
    }
}

/// A residual connection and the norm after it in one launch: x, rows and quantized rows have the
/// bits of the reference.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn additions_before_the_norm_match_reference() {
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    for (at, shape) in [(1, 64), (3, 511), (9, 700), (2, 5000)]
        .into_iter()
        .enumerate()
    {
        let (m, k) = shape;
        let grouping = Grouping::ALL[at];
        let operands = Operands::new(shape, at % 3, Kind::Normal, at as u64 + 50);
        let (shift, stride) = (at % 2, operands.stride);
        let addend = Guarded::new(stream, &operands.up, bf16::NAN, shift);
        let weight = Guarded::new(stream, &operands.weight, bf16::NAN, 0);
        let addend = DeviceMatRef::with_stride(addend.view(), m, k, stride).unwrap();
        let weight = DeviceVecRef::new(weight.view(), k).unwrap();
        let on_host = MatRef::with_stride(&operands.up, m, k, stride).unwrap();
        let (mut sums, mut wide_sums) = (operands.x.clone(), operands.wide.clone());
        let x = MatMut::with_stride(&mut sums, m, k, stride).unwrap();
        let norm = w4ax::AddRmsNorm::new(x, on_host, &operands.weight, 1e-5);
        let narrow_rows = reference::add_rms_norm(norm).unwrap();
        let x = MatMut::with_stride(&mut wide_sums, m, k, stride).unwrap();
        let norm = w4ax::AddRmsNorm::new(x, on_host, &operands.weight, 1e-5);
        let wide_rows = reference::add_rms_norm(norm).unwrap();
        for (wide, expected) in [(false, &narrow_rows), (true, &wide_rows)] {
            for width in [None, Some(Width::A4), Some(Width::A8)] {
                let what = format!("{shape:?}, {grouping}, f32 {wide}, {width:?}");
                let mut x = Guarded::new(stream, &operands.x, bf16::NAN, shift);
                let mut wide_x = Guarded::new(stream, &operands.wide, f32::NAN, shift);
                let mut y = Guarded::new(stream, &vec![POISON; m * k], POISON, 0);
                let mut activations = gpu.quantized_activations(stream, m, k).unwrap();
                {
                    let mut x = DeviceMatMut::with_stride(x.view_mut(), m, k, stride).unwrap();
                    let mut wide_x =
                        DeviceMatMut::with_stride(wide_x.view_mut(), m, k, stride).unwrap();
                    let mut y = DeviceMatMut::new(y.view_mut(), m, k).unwrap();
                    let norm = match wide {
                        true => AddRmsNorm::new(&mut wide_x, &addend, &weight, 1e-5),
                        false => AddRmsNorm::new(&mut x, &addend, &weight, 1e-5),
                    };
                    let to = &mut activations;
                    match width {
                        None => gpu.add_rms_norm(stream, norm, &mut y),
                        Some(width) => {
                            gpu.add_rms_norm_quantize(stream, norm, width, grouping, to, None)
                        }
                    }
                    .unwrap();
                }
                let (x, wide_x) = (x.read(stream, "x"), wide_x.read(stream, "x in f32"));
                let y = y.read(stream, "y");
                match wide {
                    true => assert!(
                        wide_x == wide_sums && bits(&x) == bits(&operands.x),
                        "{what}"
                    ),
                    false => assert!(bits(&x) == bits(&sums) && wide_x == operands.wide, "{what}"),
                }
                let Some(width) = width else {
                    assert!(bits(&y) == bits(expected), "{what}");
                    continue;
                };
                // The GEMM of the quantized rows.
                let plain = PlainWeight::random_of(
                    Scheme::Grouped,
                    &mut rng(at as u64),
                    (33, k),
                    grouping,
                    ScaleType::F32,
                    true,
                );
                let packed = plain.pack();
                let weight = gpu.upload(&packed).unwrap();
                let mut out = stream.alloc_zeros::<bf16>(m * 33).unwrap();
                let mut workspace = gpu.workspace(stream, m, k).unwrap();
                {
                    let gemm = Gemm::quantized(&activations, &weight).unwrap();
                    let mut out = DeviceMatMut::new(out.as_view_mut(), m, 33).unwrap();
                    gpu.run(stream, &gemm, &mut out, &mut workspace).unwrap();
                }
                let out = stream.clone_dtoh(&out).unwrap();
                stream.synchronize().unwrap();
                let rows = MatRef::new(expected, m, k).unwrap();
                let expected = reference::gemm(rows, &packed, width, None).unwrap();
                assert!(bits(&out) == bits(&expected), "{what}");
            }
        }
    }
}

/// A latched step: the operation and the GEMM after it run at the width of the latch, with the bits
/// of the reference.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn latched_operation_feeds_the_routed_gemm() {
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    let flag = Arc::new(MappedFlag::new(gpu).unwrap());
    let latch = gpu.latch(stream, flag.clone(), 0).unwrap();
    let (m, n, k, grouping) = (5, 48, 320, Grouping::G64);
    let plain = PlainWeight::random_of(
        Scheme::Grouped,
        &mut rng(4),
        (n, k),
        grouping,
        ScaleType::F32,
        true,
    );
    let packed = plain.pack();
    let weight = gpu.upload(&packed).unwrap();
    let operands = Operands::new((m, k), 0, Kind::Normal, 9);
    let gate = stream.clone_htod(&operands.x).unwrap();
    let up = stream.clone_htod(&operands.up).unwrap();
    let gate = DeviceMatRef::new(gate.as_view(), m, k).unwrap();
    let up = DeviceMatRef::new(up.as_view(), m, k).unwrap();
    let silu = SiluMul::new(&gate, &up);
    let rows_on_host = &operands.expected()[2];
    let mut activations = gpu.quantized_activations(stream, m, k).unwrap();
    let mut workspace = gpu.workspace(stream, m, k).unwrap();
    let mut layouts = vec![OperandLayout::Fragments];
    if gpu.has_family(Family::Wgmma) {
        layouts.push(OperandLayout::CoreMatrices);
    }
    let widths = [Width::A4, Width::Bf16, Width::A8, Width::A2];
    let steps = layouts
        .into_iter()
        .flat_map(|of| widths.map(|width| (of, width)));
    for (step, (operand, width)) in steps.enumerate() {
        flag.requested().store(step as u32, width);
        gpu.begin_step(stream, &latch, LatchOptions::default())
            .unwrap();
        let mut rows = stream.clone_htod(&vec![POISON; m * k]).unwrap();
        let mut y = stream.alloc_zeros::<bf16>(m * n).unwrap();
        {
            let mut to = DeviceMatMut::new(rows.as_view_mut(), m, k).unwrap();
            let source = WidthSource::from(&latch);
            let layout = ActivationLayout::new(grouping).with_operand(operand);
            let out = &mut activations;
            gpu.silu_mul_quantize(stream, &silu, source, layout, out, Some(&mut to))
                .unwrap();
            let rows = to.as_ref();
            let gemm = Gemm::quantized_latched(&rows, &activations, &weight, &latch).unwrap();
            let mut y = DeviceMatMut::new(y.as_view_mut(), m, n).unwrap();
            gpu.run(stream, &gemm, &mut y, &mut workspace).unwrap();
        }
        let rows: Vec<bf16> = stream.clone_dtoh(&rows).unwrap();
        let y: Vec<bf16> = stream.clone_dtoh(&y).unwrap();
        stream.synchronize().unwrap();
        if width == Width::Bf16 {
            // The sums of BF16 have another order than those of the reference.
            assert!(bits(&rows) == bits(rows_on_host));
            continue;
        }
        assert!(rows.iter().all(|v| v.to_bits() == POISON.to_bits()));
        let x = MatRef::new(rows_on_host, m, k).unwrap();
        let expected = reference::gemm(x, &packed, width, None).unwrap();
        assert!(bits(&y) == bits(&expected), "{width} {operand}");
    }
}

#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn rejects_operands_that_do_not_fit() {
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    let (m, k) = (3, 64);
    let data = stream.clone_htod(&vec![bf16::ONE; m * k]).unwrap();
    let mut out = stream.alloc_zeros::<bf16>(m * k).unwrap();
    let x = DeviceMatRef::new(data.as_view(), m, k).unwrap();
    let short = DeviceVecRef::new(data.as_view(), k - 1).unwrap();
    let weight = DeviceVecRef::new(data.as_view(), k).unwrap();
    let fewer = DeviceMatRef::new(data.as_view(), m - 1, k).unwrap();
    let mut y = DeviceMatMut::new(out.as_view_mut(), m, k).unwrap();
    let shape = |result: w4ax::Result<()>, what: &str| match result.unwrap_err() {
        Error::Shape { what: got, .. } => assert_eq!(got, what),
        other => panic!("{other}"),
    };
    shape(
        gpu.rms_norm(stream, &RmsNorm::new(&x, &short, 1e-6), &mut y),
        "weight of an RMSNorm",
    );
    shape(
        gpu.rms_norm(stream, &RmsNorm::new(&fewer, &weight, 1e-6), &mut y),
        "y",
    );
    shape(
        gpu.silu_mul(stream, &SiluMul::new(&x, &fewer), &mut y),
        "up",
    );
    let mut hidden = stream.alloc_zeros::<bf16>(m * k).unwrap();
    let mut hidden = DeviceMatMut::new(hidden.as_view_mut(), m, k).unwrap();
    shape(
        gpu.add_rms_norm(
            stream,
            AddRmsNorm::new(&mut hidden, &fewer, &weight, 1e-6),
            &mut y,
        ),
        "addend",
    );
    for eps in [0.0, f32::NAN] {
        let result = gpu.rms_norm(stream, &RmsNorm::new(&x, &weight, eps), &mut y);
        assert!(matches!(result, Err(Error::Range { .. })));
    }
    let mut activations = gpu.quantized_activations(stream, m, k).unwrap();
    let silu = SiluMul::new(&x, &x);
    let g32 = ActivationLayout::new(Grouping::G32);
    let result = gpu.silu_mul_quantize(stream, &silu, Width::Bf16, g32, &mut activations, None);
    assert!(matches!(result, Err(Error::Range { .. })));
    let gathered = g32.with_gathered(true);
    let result = gpu.silu_mul_quantize(stream, &silu, Width::A4, gathered, &mut activations, None);
    assert!(matches!(result, Err(Error::Mismatch { .. })));
    let flag = Arc::new(MappedFlag::new(gpu).unwrap());
    let latch = gpu.latch(stream, flag, 0).unwrap();
    let result = gpu.silu_mul_quantize(stream, &silu, &latch, g32, &mut activations, None);
    assert!(matches!(result, Err(Error::Mismatch { .. })));
    let mut small = gpu.quantized_activations(stream, 1, 32).unwrap();
    let result = gpu.silu_mul_quantize(stream, &silu, Width::A8, g32, &mut small, None);
    assert!(matches!(result, Err(Error::Buffer { .. })));
    assert!(activations.contents().is_none());
}
