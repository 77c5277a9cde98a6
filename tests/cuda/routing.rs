//! The flag routes the GPU: each step runs at the stored width, with the bits of direct calls, for
//! every routing.

use crate::harness::{Device, scaled};
use crate::support::{bits, dispatcher, rng};
use gpu_model::decoder::{Sizes, Stack};
use rand::Rng;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use w4ax::cuda::{
    ConditionalNodes, CudaEngine, CudaStep, Family, LatchOptions, MappedFlag, Routed, RoutedGraph,
    Routing,
};
use w4ax::step::{Decide, Outcome, PrefillWidth, StepEngine, StepOptions, StepPipeline};
use w4ax::{Error, Grouping, Scheme, Width, WidthSource};

/// A small decoder with odd sizes, and enough tokens for separate quantization.
fn sizes(grouping: Grouping, prefill: usize) -> Sizes {
    Sizes {
        hidden: scaled(256, 128),
        mlp: scaled(704, 136),
        layers: scaled(3, 2),
        distinct: 2,
        scheme: Scheme::Grouped,
        grouping,
        prefill,
        decode: 2,
        pdl: false,
    }
}

/// A graph of a part of a step branches on the latched width.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn graph_branches_on_latch() {
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    let flag = Arc::new(MappedFlag::new(gpu).unwrap());
    let latch = gpu.latch(stream, flag.clone(), 0).unwrap();
    // Launches in a body do not overlap, although the step asks for it.
    let sizes = Sizes {
        pdl: true,
        ..sizes(Grouping::G64, 6)
    };
    let mut stack = Stack::new(gpu, stream, sizes).unwrap();
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
    for step in 0..scaled(40u32, 8) {
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
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn overlapping_layers_keep_bits() {
    let device = Device::new();
    for grouping in [Grouping::G64, Grouping::PerChannel] {
        for tokens in [1, 5, 16, 48] {
            let run = |pdl| {
                let sizes = Sizes {
                    layers: scaled(16, 6),
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
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
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
        for step in 0..scaled(1000, 100) {
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
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn all_routings_agree() {
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    let mut widths = HashSet::new();
    // BF16 has the same bits within a family of kernels. Above the decode family's tokens, the
    // table may give BF16 and a latched width different ones on a device with wgmma.
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
                    .with_spin(Duration::from_millis(scaled(500, 1000)));
                let stack = Stack::new(gpu, stream, sizes).unwrap();
                let engine = CudaEngine::new(gpu, stream, stack, routing, options).unwrap();
                assert_eq!(engine.routed(), expected_routed(routing));
                let mut pipeline = StepPipeline::new(engine, dispatcher());
                for step in 0..scaled(60, 6) {
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
    // Six steps on the software device, in which hysteresis leaves two.
    assert!(widths.len() >= scaled(3, 2), "{widths:?}");
}

/// Without a decision, or with a late one, a step runs at BF16 and reports why.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
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

/// The flag of an engine outlives it, and dropping an engine frees no memory that a running step
/// uses.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
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
