//! The flag routes the GPU: each step runs at the stored width, with the bits of direct calls, for
//! every routing.

use crate::harness::{Device, cases, setting};
use crate::support::{PlainWeight, WIDTHS, bits, dispatcher, rng};
use cudarc::driver::CudaSlice;
use gpu_model::decoder::{Sizes, Stack};
use half::bf16;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use w4ax::cuda::{
    ConditionalNodes, CudaEngine, CudaStep, DeviceMatMut, DeviceMatRef, DeviceWeight, Family, Gemm,
    Latch, LatchOptions, MappedFlag, QuantizedActivations, Routed, RoutedGraph, Routing, Workspace,
    cudarc,
};
use w4ax::step::{Decide, Outcome, PrefillWidth, StepEngine, StepFlag, StepOptions, StepPipeline};
use w4ax::{Error, FlagWord, Grouping, Width, WidthSource};

/// A small decoder with odd sizes, and enough tokens for separate quantization.
fn sizes(grouping: Grouping, prefill: usize) -> Sizes {
    Sizes {
        hidden: 256,
        mlp: 704,
        layers: 3,
        distinct: 2,
        grouping,
        prefill,
        decode: 2,
        pdl: false,
    }
}

fn latch_outcome(device: &Device, words: &StepFlag) -> (u32, Width, Outcome) {
    device.stream.synchronize().unwrap();
    let ran = words.executed().expect("a latch has run");
    (ran.sequence, ran.width, ran.outcome)
}

/// The rules of kernels/ops/latch.cuh on the device: each outcome, step numbers that wrap, a forced
/// width.
#[test]
#[ignore = "needs a CUDA GPU"]
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
        grouping: Grouping,
    ) -> Self {
        let (gpu, stream) = (&device.gpu, &device.stream);
        let plain = PlainWeight::random(rng, (n, k), grouping, w4ax::ScaleType::Bf16, false);
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
                    gpu.quantize(stream, &x, width, self.weight.grouping(), quantized)
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
#[ignore = "needs a CUDA GPU"]
fn steps_run_at_stored_width() {
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    let rng = &mut rng(setting("W4AX_SEED", 1));
    for (m, grouping) in [
        (1, Grouping::G128),
        (9, Grouping::G64),
        (40, Grouping::PerChannel),
    ] {
        let mut product = Product::new(&device, rng, m, (200, 320), grouping);
        let direct = Width::ALL.map(|width| product.run(width.into(), None));
        let flag = Arc::new(MappedFlag::new(gpu).unwrap());
        let latch = gpu.latch(stream, flag.clone(), 0).unwrap();
        let steps = cases(10_000) / if m == 1 { 1 } else { 10 };
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
#[ignore = "needs a CUDA GPU"]
fn latched_activations_are_shared() {
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    let (m, k) = (12, 640);
    let mut product = Product::new(&device, &mut rng(5), m, (300, k), Grouping::G32);
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

/// A graph of a part of a step branches on the latched width.
#[test]
#[ignore = "needs a CUDA GPU"]
fn graph_branches_on_latch() {
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    let flag = Arc::new(MappedFlag::new(gpu).unwrap());
    let latch = gpu.latch(stream, flag.clone(), 0).unwrap();
    let mut stack = Stack::new(gpu, stream, sizes(Grouping::G64, 6)).unwrap();
    let expected = direct(&device, &mut stack, 4);
    // SAFETY: latch and stack outlive the graph, and the test waits for each launch.
    let captured = unsafe {
        RoutedGraph::capture(gpu, stream, &latch, |width| {
            stack.prefill(width.into(), stream)?;
            stack.decode(width.into(), stream)
        })
    };
    let Some(nodes) = ConditionalNodes::available() else {
        assert!(matches!(captured.map(drop), Err(Error::Unavailable { .. })));
        return;
    };
    let mut graph = captured.unwrap();
    assert_eq!(graph.nodes(), nodes);
    for step in 0..40u32 {
        let at = (step * 7 % 4) as usize;
        stack.load(&4, stream).unwrap();
        flag.requested().store(step, Width::ALL[at]);
        gpu.begin_step(stream, &latch, LatchOptions::default())
            .unwrap();
        graph.launch(stream).unwrap();
        let got = stack.results(stream).unwrap().map(|y| bits(&y));
        assert!(got == expected[at], "step {step} at {}", Width::ALL[at]);
        assert_eq!(flag.executed().unwrap().sequence, step);
    }
}

/// The results of the stack at each width by direct launches.
fn direct(device: &Device, stack: &mut Stack, seed: u64) -> [[Vec<u16>; 2]; 4] {
    let stream = &device.stream;
    Width::ALL.map(|width| {
        stack.load(&seed, stream).unwrap();
        stack.prefill(WidthSource::Fixed(width), stream).unwrap();
        stack.decode(WidthSource::Fixed(width), stream).unwrap();
        stack.results(stream).unwrap().map(|y| bits(&y))
    })
}

/// Layers with overlapping launches, each GEMM on the result of the previous one, have the bits of
/// the same layers in sequence.
#[test]
#[ignore = "needs a CUDA GPU"]
fn overlapping_layers_keep_bits() {
    let device = Device::new();
    for grouping in [Grouping::G64, Grouping::PerChannel] {
        for tokens in [1, 5, 16, 48] {
            let run = |pdl| {
                let sizes = Sizes {
                    layers: 16,
                    pdl,
                    ..sizes(grouping, tokens)
                };
                let mut stack = Stack::new(&device.gpu, &device.stream, sizes).unwrap();
                direct(&device, &mut stack, 5)
            };
            assert_eq!(run(true), run(false), "{grouping}, {tokens} tokens");
        }
    }
}

/// A host thread stores words as fast as it can while steps run. No step mixes widths, and each
/// runs at the reported width.
#[test]
#[ignore = "needs a CUDA GPU"]
fn racing_stores_never_mix_widths_in_a_step() {
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    let mut stack = Stack::new(gpu, stream, sizes(Grouping::G64, 5)).unwrap();
    let expected = direct(&device, &mut stack, 3);
    let distinct: HashSet<_> = expected.iter().collect();
    assert_eq!(distinct.len(), 4, "two widths have equal results");
    let flag = Arc::new(MappedFlag::new(gpu).unwrap());
    let latch = gpu.latch(stream, flag.clone(), 0).unwrap();
    let stop = AtomicBool::new(false);
    let mut ran = HashSet::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let rng = &mut rng(11);
            while !stop.load(Ordering::Relaxed) {
                let next = flag.executed().map_or(0, |e| e.sequence.wrapping_add(1));
                let near = next.wrapping_add_signed(rng.random_range(-1..=1));
                flag.requested()
                    .store(near, Width::ALL[rng.random_range(0..4)]);
            }
        });
        for step in 0..cases(1000) {
            stack.load(&3, stream).unwrap();
            gpu.begin_step(stream, &latch, LatchOptions::default())
                .unwrap();
            stack.prefill(WidthSource::Latched(&latch), stream).unwrap();
            stack.decode(WidthSource::Latched(&latch), stream).unwrap();
            let got = stack.results(stream).unwrap().map(|y| bits(&y));
            let executed = flag.executed().unwrap();
            assert_eq!(executed.sequence, step);
            assert!(
                got == expected[executed.width.index()],
                "step {step} did not run at {}",
                executed.width
            );
            ran.insert(executed.width);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(ran.len(), 4, "{ran:?}");
}

/// The latch accepts a word that is stored while it spins. Without one it ends, and the step runs
/// at BF16.
#[test]
#[ignore = "needs a CUDA GPU"]
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

/// A motion that visits all widths.
fn action(step: u64) -> [f64; 7] {
    let phase = step % 24;
    let speed = if phase < 14 {
        0.5 + 0.03 * phase as f64
    } else {
        0.1
    };
    let twist = if phase >= 20 {
        0.1 * (step % 3) as f64
    } else {
        0.0
    };
    [speed, 0.0, 0.0, twist, 0.0, 0.0, 1.0]
}

fn expected_routed(routing: Routing) -> Routed {
    match (routing, ConditionalNodes::available()) {
        (Routing::Kernel, _) => Routed::Kernel,
        (Routing::Graph, Some(ConditionalNodes::Switch)) => Routed::SwitchNode,
        (Routing::Graph, Some(ConditionalNodes::If)) => Routed::IfNodes,
        (Routing::Graph, None) | (Routing::Host, _) => Routed::Host,
        other => panic!("unknown routing {other:?}"),
    }
}

/// Kernel, graph and host routing, with decisions before the step and during its prefill, run at
/// the same widths, and have the bits of direct calls in prefill and decode.
#[test]
#[ignore = "needs a CUDA GPU"]
fn all_routings_agree() {
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    let mut widths = HashSet::new();
    // BF16 has the same bits within a family of kernels. Above the decode family's tokens, a step
    // that is not routed may use the wgmma family, and a routed step never does.
    let many = if gpu.has_family(Family::Wgmma) {
        16
    } else {
        20
    };
    for (grouping, prefill) in [(Grouping::G128, many), (Grouping::PerChannel, 3)] {
        let sizes = sizes(grouping, prefill);
        let expected = direct(&device, &mut Stack::new(gpu, stream, sizes).unwrap(), 9);
        for routing in [Routing::Kernel, Routing::Graph, Routing::Host] {
            for decide in [
                Decide::BeforeStep,
                Decide::DuringPrefill(PrefillWidth::Fixed(Width::A8)),
                Decide::DuringPrefill(PrefillWidth::LastLatched),
            ] {
                let options = StepOptions::default()
                    .with_decide(decide)
                    .with_spin(Duration::from_millis(500));
                let stack = Stack::new(gpu, stream, sizes).unwrap();
                let engine = CudaEngine::new(gpu, stream, stack, routing, options).unwrap();
                assert_eq!(engine.routed(), expected_routed(routing));
                let mut pipeline = StepPipeline::new(engine, dispatcher());
                for step in 0..u64::from(cases(60)) {
                    let actions = if step == 0 {
                        vec![]
                    } else {
                        vec![action(step)]
                    };
                    if decide == Decide::BeforeStep {
                        pipeline.decide(&actions).unwrap();
                        pipeline.begin(&9).unwrap();
                    } else {
                        pipeline.begin(&9).unwrap();
                        pipeline.decide(&actions).unwrap();
                    }
                    let report = pipeline.finish().unwrap();
                    assert!(report.as_decided(), "{routing:?} {decide:?} {report:?}");
                    let got = pipeline.engine().step().results(stream).unwrap();
                    for (part, width) in [(0, report.prefill), (1, report.decode.width)] {
                        assert!(
                            bits(&got[part]) == expected[width.index()][part],
                            "{routing:?} {decide:?} step {step}, part {part} at {width}"
                        );
                    }
                    widths.insert(report.decode.width);
                }
            }
        }
    }
    assert!(widths.len() >= 3, "{widths:?}");
}

/// Without a decision, or with a late one, a step runs at BF16 and reports why.
#[test]
#[ignore = "needs a CUDA GPU"]
fn late_decision_is_not_used() {
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    for routing in [Routing::Kernel, Routing::Graph, Routing::Host] {
        let options = StepOptions::default()
            .with_decide(Decide::DuringPrefill(PrefillWidth::Fixed(Width::A4)))
            .with_spin(Duration::ZERO);
        let stack = Stack::new(gpu, stream, sizes(Grouping::G128, 4)).unwrap();
        let engine = CudaEngine::new(gpu, stream, stack, routing, options).unwrap();
        let host = engine.routed() == Routed::Host;
        let mut pipeline = StepPipeline::new(engine, dispatcher());
        for step in 0..20 {
            pipeline.begin(&step).unwrap();
            if !host {
                stream.synchronize().unwrap();
                pipeline.decide(&[action(3)]).unwrap();
            }
            let report = pipeline.finish().unwrap();
            assert_eq!(report.decode.width, Width::Bf16);
            assert_eq!(report.prefill, Width::A4);
            let expected = match (host, step) {
                (true, _) => Outcome::ByHost,
                (false, 0) => Outcome::Unwritten,
                (false, _) => Outcome::Stale,
            };
            assert_eq!(report.decode.outcome, expected, "{routing:?}");
        }
    }
}

/// A latch and a flag belong to their stream and device.
#[test]
#[ignore = "needs a CUDA GPU"]
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

/// The flag of an engine outlives it, and dropping an engine frees no memory that a running step
/// uses.
#[test]
#[ignore = "needs a CUDA GPU"]
fn engine_can_be_dropped_during_step() {
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    for routing in [Routing::Kernel, Routing::Graph] {
        let options = StepOptions::default()
            .with_decide(Decide::DuringPrefill(PrefillWidth::LastLatched))
            .with_spin(Duration::from_millis(20));
        let stack = Stack::new(gpu, stream, sizes(Grouping::G128, 4)).unwrap();
        let mut engine = CudaEngine::new(gpu, stream, stack, routing, options).unwrap();
        let flag = engine.flag().clone();
        engine.begin(0, &1).unwrap();
        // The latch spins, but no word is stored.
        drop(engine);
        assert_eq!(flag.executed().unwrap().outcome, Outcome::Unwritten);
    }
}
