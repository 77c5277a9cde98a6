//! Steps that skip layers, decided on the device, compared with the same launches decided by the
//! host.

use crate::harness::{Device, cases};
use crate::support::{PlainWeight, bits, rng};
use cudarc::driver::{CudaSlice, DevicePtr, DevicePtrMut};
use half::bf16;
use rand::Rng;
use std::collections::BTreeMap;
use std::sync::Arc;
use w4ax::cuda::{
    ConditionalNodes, DeviceController, DeviceMatMut, DeviceMatRef, DeviceWeight, Gemm, Latch,
    LatchOptions, MappedFlag, SkipGraph, SkipOptions, SkipPart, Workspace,
};
use w4ax::skip::{Fate, Guide, Layers, SkipConfig};
use w4ax::{Error, Grouping, Result, ScaleType, Width, WidthSource};

/// Width of the hidden state, and of the hidden vector of a controller.
const D: usize = 128;
const HC: usize = 64;
const THRESHOLD: f32 = 0.5;

/// A stack whose layers, adapters and controllers are one GEMM each. Graphs hold the addresses of
/// its memory.
struct Stack<'a> {
    device: &'a Device,
    layers: Layers,
    weights: Vec<DeviceWeight>,
    adapters: Vec<DeviceWeight>,
    controllers: Vec<DeviceWeight>,
    bias: Vec<f32>,
    out: Vec<f32>,
    out_there: CudaSlice<f32>,
    state: CudaSlice<bf16>,
    scratch: CudaSlice<bf16>,
    /// `[layers, HC]`
    hidden: CudaSlice<bf16>,
    workspace: Workspace,
    /// The addresses of `state`, `scratch` and `hidden`, taken before any capture.
    addresses: [u64; 3],
}

impl<'a> Stack<'a> {
    fn new(device: &'a Device, layers: Layers, seed: u64) -> Self {
        let (gpu, stream, rng) = (&device.gpu, &device.stream, &mut rng(seed));
        let n = layers.len();
        let mut weights = |rows: usize| -> Vec<DeviceWeight> {
            let mut one = || {
                let shape = (rows, D);
                let plain = PlainWeight::random(rng, shape, Grouping::G64, ScaleType::F32, true);
                gpu.upload(&plain.pack()).unwrap()
            };
            (0..n).map(|_| one()).collect()
        };
        let (layer, adapters, controllers) = (weights(D), weights(D), weights(HC));
        let out: Vec<f32> = (0..HC).map(|_| rng.random_range(-0.05f32..0.05)).collect();
        let mut stack = Self {
            device,
            weights: layer,
            adapters,
            controllers,
            bias: (0..n).map(|_| rng.random_range(-1f32..1.0)).collect(),
            out_there: stream.clone_htod(&out).unwrap(),
            out,
            state: stream.alloc_zeros(D).unwrap(),
            scratch: stream.alloc_zeros(D).unwrap(),
            hidden: stream.alloc_zeros(n * HC).unwrap(),
            workspace: gpu.workspace(stream, 1, D).unwrap(),
            layers,
            addresses: [0; 3],
        };
        stack.addresses = [
            stack.state.device_ptr_mut(stream).0,
            stack.scratch.device_ptr_mut(stream).0,
            stack.hidden.device_ptr_mut(stream).0,
        ];
        stack
    }

    /// The input of a step.
    fn load(&mut self, seed: u64) {
        let rng = &mut rng(seed);
        let x: Vec<bf16> = (0..D)
            .map(|_| bf16::from_f32(rng.random_range(-1.0..1.0)))
            .collect();
        self.device.stream.memcpy_htod(&x, &mut self.state).unwrap();
    }

    fn enqueue(&mut self, part: SkipPart, width: WidthSource<'_>) -> Result<()> {
        let [state, scratch, hidden] = self.addresses;
        let (gpu, stream) = (&self.device.gpu, &self.device.stream);
        let (weight, to, n) = match part {
            SkipPart::Layer(layer) => (&self.weights[layer], scratch, D),
            SkipPart::Adapter { from, .. } => (&self.adapters[from], scratch, D),
            SkipPart::Controller(layer) => (
                &self.controllers[layer],
                hidden + (2 * HC * layer) as u64,
                HC,
            ),
            SkipPart::Before | SkipPart::After => return Ok(()),
        };
        // SAFETY: memory of the stack, of that length, which only its stream uses.
        unsafe {
            let x = DeviceMatRef::from_raw(gpu.ordinal(), state, 1, D, D);
            let mut y = DeviceMatMut::from_raw(gpu.ordinal(), to, 1, n, n);
            let gemm = Gemm::new(&x, weight, width);
            gpu.run(stream, &gemm, &mut y, &mut self.workspace)?;
            if to == scratch {
                let bytes = 2 * D;
                cudarc::driver::result::memcpy_dtod_async(
                    state,
                    scratch,
                    bytes,
                    stream.cu_stream(),
                )
                .map_err(|source| Error::Driver {
                    call: "memcpy",
                    source,
                })?;
            }
        }
        Ok(())
    }

    fn graph(&mut self, width: WidthSource<'_>, first: u32) -> Result<SkipGraph> {
        let (gpu, stream) = (self.device.gpu.clone(), self.device.stream.clone());
        let hidden = self.addresses[2];
        let out = self.out_there.device_ptr(&stream).0;
        // SAFETY: as in `enqueue`.
        let out = unsafe { DeviceMatRef::<f32>::from_raw(gpu.ordinal(), out, 1, HC, HC) };
        let layers = self.layers.clone();
        let vectors: BTreeMap<usize, DeviceMatRef<'_, bf16>> = (layers.dynamic_layers())
            .map(|layer| {
                let at = hidden + (2 * HC * layer) as u64;
                // SAFETY: as above.
                let of = unsafe { DeviceMatRef::from_raw(gpu.ordinal(), at, 1, HC, HC) };
                (layer, of)
            })
            .collect();
        let controllers = (vectors.iter())
            .map(|(&layer, hidden)| {
                let bias = self.bias[layer];
                let out = &out;
                (layer, DeviceController { hidden, out, bias })
            })
            .collect();
        let options = SkipOptions::default()
            .with_threshold(THRESHOLD)
            .with_first(first);
        // SAFETY: the stack owns the memory, and each test drops the graph, or synchronizes, before
        // the stack.
        unsafe {
            SkipGraph::capture(&gpu, &stream, &layers, &controllers, options, |part| {
                self.enqueue(part, width)
            })
        }
    }

    fn result(&self) -> Vec<u16> {
        let stream = &self.device.stream;
        let state: Vec<bf16> = stream.clone_dtoh(&self.state).unwrap();
        stream.synchronize().unwrap();
        bits(&state)
    }

    /// p of the controller of a layer, from its hidden vector.
    fn p(&self, layer: usize) -> f32 {
        let stream = &self.device.stream;
        let hidden: Vec<bf16> = stream.clone_dtoh(&self.hidden).unwrap();
        stream.synchronize().unwrap();
        let hidden = hidden[layer * HC..][..HC]
            .iter()
            .map(|h| f64::from(h.to_f32()));
        let sum: f64 = (hidden.zip(&self.out))
            .map(|(h, &out)| f64::from(out) * h / (1.0 + (-h).exp()))
            .sum();
        (1.0 / (1.0 + (-(sum + f64::from(self.bias[layer]))).exp())) as f32
    }

    /// Runs the step by the rules of the host. `None` if a controller is too close to the threshold
    /// to predict the device.
    fn by_host(&mut self, points: &[usize], width: Width) -> Option<Vec<Fate>> {
        let (n, mut fates, mut layer) = (self.layers.len(), Vec::new(), 0);
        let width = WidthSource::Fixed(width);
        while layer < n {
            let fate = match self.layers.gap_of(layer) {
                None => Fate::Static,
                Some(gap) if layer < points[gap] => Fate::Forced,
                Some(gap) => {
                    self.enqueue(SkipPart::Controller(layer), width).unwrap();
                    let p = self.p(layer);
                    if (p - THRESHOLD).abs() < 1e-4 {
                        return None;
                    }
                    if p > THRESHOLD {
                        let to = self.layers.gaps()[gap].end;
                        self.enqueue(SkipPart::Adapter { from: layer, to }, width)
                            .unwrap();
                        fates.push(Fate::Skipped(p));
                        fates.resize(to, Fate::Covered(layer));
                        layer = to;
                        continue;
                    }
                    Fate::Declined(p)
                }
            };
            self.enqueue(SkipPart::Layer(layer), width).unwrap();
            fates.push(fate);
            layer += 1;
        }
        Some(fates)
    }
}

/// Whether two fates are equal, up to the rounding of p.
fn same(a: &Fate, b: &Fate) -> bool {
    match (a, b) {
        (Fate::Declined(a), Fate::Declined(b)) | (Fate::Skipped(a), Fate::Skipped(b)) => {
            (a - b).abs() < 1e-5
        }
        _ => a == b,
    }
}

fn layers() -> Layers {
    Layers::new(12, &[3, 8]).unwrap()
}

/// Random allow-points and inputs, at each width, fixed and latched: the same layers run as by the
/// rules of the host, with the same bits.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn step_matches_host_decisions() {
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    let mut stack = Stack::new(&device, layers(), 1);
    if ConditionalNodes::available().is_none() {
        let refused = stack.graph(WidthSource::Fixed(Width::A8), 0);
        assert!(matches!(refused.map(drop), Err(Error::Unavailable { .. })));
        return;
    }
    let flag = Arc::new(MappedFlag::new(gpu).unwrap());
    let latch: Latch = gpu.latch(stream, flag.clone(), 0).unwrap();
    let (mut latched_step, mut skipped, mut declined) = (0, 0, 0);
    let rng = &mut rng(5);
    for (at, width) in Width::ALL.into_iter().enumerate() {
        for latched in [false, true] {
            let first = [0, u32::MAX - 3, 7, 0xFF_FFFE][at];
            let of = match latched {
                true => WidthSource::Latched(&latch),
                false => WidthSource::Fixed(width),
            };
            let mut graph = stack.graph(of, first).unwrap();
            let words = graph.words().clone();
            for step in 0..cases(60) {
                let sequence = first.wrapping_add(step);
                let points: Vec<usize> = (layers().gaps().iter())
                    .map(|gap| rng.random_range(gap.start..=gap.end))
                    .collect();
                let seed = u64::from(step);
                stack.load(seed);
                let expected = stack.by_host(&points, width);
                let bits = stack.result();
                stack.load(seed);
                words.store(sequence, &points).unwrap();
                if latched {
                    flag.requested().store(latched_step, width);
                    gpu.begin_step(stream, &latch, LatchOptions::default())
                        .unwrap();
                    latched_step += 1;
                }
                graph.launch(stream).unwrap();
                let got = stack.result();
                let mut fates = vec![Fate::Static; layers().len()];
                let run = words.fates(sequence, &mut fates).unwrap();
                let Some(expected) = expected else { continue };
                let agree = fates.len() == expected.len()
                    && fates.iter().zip(&expected).all(|(a, b)| same(a, b));
                assert!(
                    agree,
                    "{width} latched {latched} step {step}: {fates:?}, not {expected:?}"
                );
                assert!(
                    got == bits,
                    "{width} latched {latched} step {step}: {fates:?}"
                );
                assert_eq!(
                    run.layers_run,
                    fates.iter().filter(|fate| fate.ran()).count()
                );
                assert_eq!(run.stale, 0);
                skipped += fates
                    .iter()
                    .filter(|fate| matches!(fate, Fate::Skipped(_)))
                    .count();
                declined += fates
                    .iter()
                    .filter(|fate| matches!(fate, Fate::Declined(_)))
                    .count();
            }
        }
    }
    assert!(
        skipped > 0 && declined > 0,
        "{skipped} skips, {declined} layers kept"
    );
}

/// A step without a word of its own, and a step after `forbid`, run every layer.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn step_without_words_runs_every_layer() {
    let device = Device::new();
    let stream = &device.stream;
    let mut stack = Stack::new(&device, layers(), 2);
    stack.bias.fill(100.0);
    let width = Width::A8;
    let Ok(mut graph) = stack.graph(WidthSource::Fixed(width), 5) else {
        assert!(ConditionalNodes::available().is_none());
        return;
    };
    let words = graph.words().clone();
    let starts: Vec<usize> = layers().gaps().iter().map(|gap| gap.start).collect();
    stack.load(1);
    for layer in 0..layers().len() {
        stack
            .enqueue(SkipPart::Layer(layer), WidthSource::Fixed(width))
            .unwrap();
    }
    let full = stack.result();
    let dynamic = layers().dynamic_layers().count();
    let mut fates = vec![Fate::Static; layers().len()];
    // Unwritten, of the previous step, of the next step, withdrawn, and finally its own.
    for (sequence, stored) in [
        (5, None),
        (6, Some(5)),
        (7, Some(8)),
        (8, None),
        (9, Some(9)),
    ] {
        match stored {
            Some(of) => words.store(of, &starts).unwrap(),
            None => words.forbid(),
        }
        assert!(words.fates(sequence, &mut fates).is_err());
        stack.load(1);
        graph.launch(stream).unwrap();
        let got = stack.result();
        let run = words.fates(sequence, &mut fates).unwrap();
        if stored == Some(sequence) {
            assert_eq!((run.stale, run.layers_run), (0, layers().len() - dynamic));
            assert!(got != full);
        } else {
            assert_eq!((run.stale, run.layers_run), (dynamic, layers().len()));
            assert!(got == full, "step {sequence}");
        }
    }
}

/// An episode with jumps under a [`Guide`]: a step whose action drops runs again at the same
/// latched width without skips.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn verification_runs_every_layer() {
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    let mut stack = Stack::new(&device, layers(), 6);
    stack.bias.fill(100.0); // Every controller skips.
    let flag = Arc::new(MappedFlag::new(gpu).unwrap());
    let latch: Latch = gpu.latch(stream, flag.clone(), 0).unwrap();
    let Ok(mut graph) = stack.graph(WidthSource::Latched(&latch), 0) else {
        assert!(ConditionalNodes::available().is_none());
        return;
    };
    let width = Width::A8;
    stack.load(1);
    for layer in 0..layers().len() {
        let layer = SkipPart::Layer(layer);
        stack.enqueue(layer, WidthSource::Fixed(width)).unwrap();
    }
    let full = stack.result();
    let words = graph.words().clone();
    let mut guide = Guide::new(&SkipConfig::default(), &layers()).unwrap();
    let mut fates = vec![Fate::Static; layers().len()];
    let (mut sequence, mut again) = (0, 0);
    for step in 0..30 {
        // The robot stands still, and jumps at some steps.
        let action = [if step % 10 == 9 { 0.5 } else { 0.0 }; 7];
        let mut pass = |sequence: u32, stack: &mut Stack<'_>| {
            stack.load(1);
            flag.requested().store(sequence, width);
            gpu.begin_step(stream, &latch, LatchOptions::default())
                .unwrap();
            graph.launch(stream).unwrap();
            let result = stack.result();
            let run = words.fates(sequence, &mut fates).unwrap();
            assert_eq!(flag.executed().unwrap().width, width, "step {step}");
            (result, run)
        };
        words.store(sequence, guide.allow_points()).unwrap();
        let (result, run) = pass(sequence, &mut stack);
        assert_eq!(
            result == full,
            run.layers_run == layers().len(),
            "step {step}"
        );
        sequence += 1;
        if guide.judge(&action).unwrap().drops && run.layers_run < layers().len() {
            words.forbid();
            let (result, run) = pass(sequence, &mut stack);
            assert_eq!(run.layers_run, layers().len(), "step {step}");
            assert!(result == full, "step {step}");
            sequence += 1;
            again += 1;
        }
        guide.observe(&action).unwrap();
    }
    assert!(again > 0, "no step ran again");
}

#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn rejects_invalid_capture_arguments() {
    let device = Device::new();
    let mut stack = Stack::new(&device, layers(), 3);
    let (gpu, stream) = (device.gpu.clone(), device.stream.clone());
    let none = BTreeMap::new();
    let options = SkipOptions::default();
    let capture = |layers: &Layers, options, part: &mut dyn FnMut(SkipPart) -> Result<()>| {
        // SAFETY: the graph is never launched.
        unsafe { SkipGraph::capture(&gpu, &stream, layers, &none, options, part) }.map(drop)
    };
    let all_static = Layers::new(2, &[0, 1]).unwrap();
    let wrong = capture(&all_static, options, &mut |_| Ok(()));
    assert!(matches!(wrong, Err(Error::Shape { what: "gaps", .. })));
    let wrong = capture(&layers(), options, &mut |_| Ok(()));
    assert!(matches!(
        wrong,
        Err(Error::Mismatch {
            what: "controllers",
            ..
        })
    ));
    let threshold = options.with_threshold(f32::NAN);
    let wrong = capture(&layers(), threshold, &mut |_| Ok(()));
    assert!(matches!(
        wrong,
        Err(Error::Config {
            field: "threshold",
            ..
        })
    ));
    if ConditionalNodes::available().is_some() {
        let graph = stack.graph(WidthSource::Fixed(Width::A4), 0).unwrap();
        let words = graph.words();
        assert!(matches!(words.store(0, &[0]), Err(Error::Shape { .. })));
        assert!(matches!(
            words.store(0, &[0, 3, 9]),
            Err(Error::Range { .. })
        ));
    }
}
