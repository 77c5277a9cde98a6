//! The latch routes kernels: each step runs at the stored width, with the bits of direct calls.

use crate::harness::{Device, scaled, setting};
use crate::support::{PlainWeight, WIDTHS, bits, rng};
use cudarc::driver::CudaSlice;
use half::bf16;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use std::time::Duration;
use w4ax::cuda::{
    DeviceMatMut, DeviceMatRef, DeviceWeight, Gemm, Latch, LatchOptions, MappedFlag,
    QuantizedActivations, Workspace, cudarc,
};
use w4ax::step::{Outcome, StepFlag};
use w4ax::{Error, FlagWord, Grouping, ScaleType, Scheme, Width, WidthSource};

fn latch_outcome(device: &Device, words: &StepFlag) -> (u32, Width, Outcome) {
    device.stream.synchronize().unwrap();
    let ran = words.executed().expect("a latch has run");
    (ran.sequence, ran.width, ran.outcome)
}

/// The rules of kernels/ops/latch.cuh on the device: each outcome, step numbers that wrap, a forced
/// width.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn latch_accepts_word_of_its_step_only() {
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    let flag = Arc::new(MappedFlag::new(gpu).unwrap());
    let first = u32::MAX - 3;
    let latch = gpu.latch(stream, flag.clone(), first).unwrap();
    assert_eq!(flag.executed(), None);
    let mut step = first;
    let mut expect = |word: Option<FlagWord>, forced, width, outcome| {
        if let Some(word) = word {
            flag.requested().store_word(word);
        }
        let options = LatchOptions::default().with_forced(forced);
        gpu.begin_step(stream, &latch, options).unwrap();
        assert_eq!(latch_outcome(&device, &flag), (step, width, outcome));
        step = step.wrapping_add(1);
    };
    let word = |of: u32, width| Some(FlagWord::encode(of, width));
    expect(None, None, Width::Bf16, Outcome::Unwritten);
    for (of, width) in [
        (u32::MAX - 2, Width::A2),
        (u32::MAX - 1, Width::A4),
        (u32::MAX, Width::A8),
        (0, Width::Bf16),
    ] {
        expect(word(of, width), None, width, Outcome::OnTime);
    }
    expect(None, None, Width::Bf16, Outcome::Stale);
    expect(word(3, Width::A2), None, Width::Bf16, Outcome::Future);
    expect(None, None, Width::A2, Outcome::OnTime);
    let invalid = Some(FlagWord::from_bits(4 << 32 | 3));
    expect(invalid, None, Width::Bf16, Outcome::Invalid);
    expect(
        word(5, Width::A2),
        Some(Width::A8),
        Width::A8,
        Outcome::ByHost,
    );
}

/// A GEMM on the device, with its buffers.
struct Product<'a> {
    device: &'a Device,
    weight: DeviceWeight,
    m: usize,
    x: CudaSlice<bf16>,
    y: CudaSlice<bf16>,
    workspace: Workspace,
}

impl<'a> Product<'a> {
    fn new(
        device: &'a Device,
        rng: &mut ChaCha8Rng,
        m: usize,
        (n, k): (usize, usize),
        (scheme, grouping): (Scheme, Grouping),
    ) -> Self {
        let (gpu, stream) = (&device.gpu, &device.stream);
        let scales = ScaleType::Bf16;
        let plain = PlainWeight::random_of(scheme, rng, (n, k), grouping, scales, false);
        let x: Vec<bf16> = (0..m * k)
            .map(|_| bf16::from_f32(rng.random_range(-2.0..2.0)))
            .collect();
        Self {
            device,
            weight: gpu.upload(&plain.pack()).unwrap(),
            m,
            x: stream.clone_htod(&x).unwrap(),
            y: stream.alloc_zeros(m * n).unwrap(),
            workspace: gpu.workspace(stream, m, k).unwrap(),
        }
    }

    /// Returns y, which is poisoned first. `quantized`: memory into which x is quantized first, at
    /// the width of the latch.
    fn run(
        &mut self,
        width: WidthSource<'_>,
        quantized: Option<(&mut QuantizedActivations, &Latch)>,
    ) -> Vec<u16> {
        let (gpu, stream) = (&self.device.gpu, &self.device.stream);
        let (m, n, k) = (self.m, self.weight.n(), self.weight.k());
        stream
            .memcpy_htod(&vec![bf16::NAN; m * n], &mut self.y)
            .unwrap();
        {
            let x = DeviceMatRef::new(self.x.as_view(), m, k).unwrap();
            let mut y = DeviceMatMut::new(self.y.as_view_mut(), m, n).unwrap();
            let mut multiply = |gemm| gpu.run(stream, &gemm, &mut y, &mut self.workspace).unwrap();
            match quantized {
                None => multiply(Gemm::new(&x, &self.weight, width)),
                Some((quantized, latch)) => {
                    gpu.quantize(
                        stream,
                        &x,
                        width,
                        self.weight.activation_grouping(),
                        quantized,
                    )
                    .unwrap();
                    multiply(Gemm::quantized_latched(&x, quantized, &self.weight, latch).unwrap());
                }
            }
        }
        let y: Vec<bf16> = stream.clone_dtoh(&self.y).unwrap();
        stream.synchronize().unwrap();
        bits(&y)
    }
}

/// Random widths for each step, and sometimes a word of another step: each step runs at the stored
/// width, and its result has the bits of a direct call.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn steps_run_at_stored_width() {
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    let rng = &mut rng(setting("W4AX_SEED", 1));
    for (m, weights) in [
        (1, (Scheme::Grouped, Grouping::G128)),
        (9, (Scheme::Grouped, Grouping::G64)),
        (40, (Scheme::Grouped, Grouping::PerChannel)),
        (12, (Scheme::TwoLevel, Grouping::G32)),
    ] {
        let mut product = Product::new(&device, rng, m, (200, 320), weights);
        let direct = Width::ALL.map(|width| product.run(width.into(), None));
        let flag = Arc::new(MappedFlag::new(gpu).unwrap());
        let latch = gpu.latch(stream, flag.clone(), 0).unwrap();
        let steps = scaled(10_000u32, 300) / if m == 1 { 1 } else { 10 };
        for step in 0..steps {
            let at = rng.random_range(0..4);
            let other = rng.random_range(0..10) == 0;
            let of = if other { step.wrapping_sub(1) } else { step };
            flag.requested().store(of, Width::ALL[at]);
            gpu.begin_step(stream, &latch, LatchOptions::default())
                .unwrap();
            let y = product.run((&latch).into(), None);
            let at = if other { 3 } else { at };
            let ran = flag.executed().unwrap();
            assert_eq!((ran.sequence, ran.width), (step, Width::ALL[at]));
            assert_eq!(ran.outcome == Outcome::OnTime, !other);
            assert!(y == direct[at], "M {m}, step {step} at {}", ran.width);
        }
    }
}

/// Activations that are quantized once for several GEMMs, at the latched width.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn latched_activations_are_shared() {
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    let (m, k) = (12, 640);
    let weights = (Scheme::Grouped, Grouping::G32);
    let mut product = Product::new(&device, &mut rng(5), m, (300, k), weights);
    let mut quantized = gpu.quantized_activations(stream, m, k).unwrap();
    let flag = Arc::new(MappedFlag::new(gpu).unwrap());
    let latch = gpu.latch(stream, flag.clone(), 0).unwrap();
    for (step, width) in (0u32..).zip(Width::ALL) {
        flag.requested().store(step, width);
        gpu.begin_step(stream, &latch, LatchOptions::default())
            .unwrap();
        let shared = product.run((&latch).into(), Some((&mut quantized, &latch)));
        assert!(shared == product.run(width.into(), None), "{width}");
    }
    // They cannot be used as activations of a fixed width.
    let result = Gemm::quantized(&quantized, &product.weight);
    assert!(matches!(result, Err(Error::Mismatch { .. })));
}

/// The latch accepts a word that is stored while it spins. Without one it ends, and the step runs
/// at BF16.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn spin_ends_with_or_without_word() {
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    let flag = Arc::new(MappedFlag::new(gpu).unwrap());
    let latch = gpu.latch(stream, flag.clone(), 0).unwrap();
    let spin = |ms| LatchOptions::default().with_spin(Duration::from_millis(ms));
    for step in 0..100 {
        gpu.begin_step(stream, &latch, spin(1000)).unwrap();
        // The latch has been launched, and may already spin.
        flag.requested().store(step, WIDTHS[step as usize % 3]);
        let expected = (step, WIDTHS[step as usize % 3], Outcome::OnTime);
        assert_eq!(latch_outcome(&device, &flag), expected);
    }
    gpu.begin_step(stream, &latch, spin(5)).unwrap();
    let expected = (100, Width::Bf16, Outcome::Stale);
    assert_eq!(latch_outcome(&device, &flag), expected);
}

/// A flag, a latch and a weight that are dropped while the latch spins are freed after the step.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn memory_is_freed_after_step() {
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    let spin = LatchOptions::default().with_spin(Duration::from_millis(100));
    for drops_weight in [true, false] {
        let flag = Arc::new(MappedFlag::new(gpu).unwrap());
        let latch = gpu.latch(stream, flag, 0).unwrap();
        let weights = (Scheme::TwoLevel, Grouping::G64);
        let mut product = Product::new(&device, &mut rng(8), 1, (64, 128), weights);
        let direct = product.run(Width::Bf16.into(), None);
        gpu.begin_step(stream, &latch, spin).unwrap();
        let Product {
            weight,
            x,
            mut y,
            mut workspace,
            ..
        } = product;
        {
            let x = DeviceMatRef::new(x.as_view(), 1, 128).unwrap();
            let mut y = DeviceMatMut::new(y.as_view_mut(), 1, 64).unwrap();
            let gemm = Gemm::new(&x, &weight, Width::Bf16);
            gpu.run(stream, &gemm, &mut y, &mut workspace).unwrap();
        }
        if drops_weight {
            drop(weight);
        } else {
            // The last owner of the flag.
            drop(latch);
        }
        let y: Vec<bf16> = stream.clone_dtoh(&y).unwrap();
        stream.synchronize().unwrap();
        assert!(bits(&y) == direct);
    }
}

/// A latch and a flag belong to their stream and device.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn rejects_latch_of_another_stream() {
    let device = Device::new();
    let other = device.fork();
    let gpu = &device.gpu;
    let flag = Arc::new(MappedFlag::new(gpu).unwrap());
    let latch = gpu.latch(&device.stream, flag, 0).unwrap();
    let result = gpu.begin_step(&other.stream, &latch, LatchOptions::default());
    assert!(matches!(
        result,
        Err(Error::DeviceMismatch { what: "latch", .. })
    ));
    let long = LatchOptions::default().with_spin(Duration::from_secs(2));
    let result = gpu.begin_step(&device.stream, &latch, long);
    assert!(matches!(result, Err(Error::Config { field: "spin", .. })));
}
