//! Steps that leave layers out, decided on the device (DySL-VLA, arXiv 2602.22896): one graph of IF nodes a step.

mod words;

pub use words::SkipRun;

use super::Gpu;
use super::gemm::options::extent;
use super::memory::{DeviceMatRef, Pinned};
use super::step::graph::{ConditionalNodes, Executable, Graph};
use super::sys::{self, status};
use crate::skip::{Fate, Gap, Layers, SkipConfig};
use crate::{Error, Result};
use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr};
use half::bf16;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// The words of a [`SkipGraph`] in memory that the host and a GPU both see: allow-points one way, the layers' fates the other.
pub struct SkipWords {
    memory: Pinned,
    layers: Layers,
}

// SAFETY: the words are atomics, which any thread may use; the rest does not change.
unsafe impl Send for SkipWords {}
// SAFETY: as above.
unsafe impl Sync for SkipWords {}

impl SkipWords {
    fn new(gpu: &Gpu, layers: &Layers) -> Result<Self> {
        let words = layers.gaps().len() + layers.len();
        Ok(Self {
            memory: Pinned::new(gpu, words * size_of::<u64>())?,
            layers: layers.clone(),
        })
    }

    /// The gaps' words, then the layers'.
    fn words(&self) -> (&[AtomicU64], &[AtomicU64]) {
        let gaps = self.layers.gaps().len();
        let all = gaps + self.layers.len();
        // SAFETY: `new` has made that many words, zeros, at the start of a page. The device changes them as atomics are
        // changed: whole words, released.
        let words = unsafe { std::slice::from_raw_parts(self.memory.host().cast().as_ptr(), all) };
        words.split_at(gaps)
    }

    /// The address at which the device sees a gap's word.
    fn allow_address(&self) -> CUdeviceptr {
        self.memory.address()
    }

    /// The address at which the device sees a layer's word.
    fn report_address(&self, layer: usize) -> CUdeviceptr {
        self.memory.address() + (8 * (self.layers.gaps().len() + layer)) as CUdeviceptr
    }

    /// Stores the allow-points of step `sequence`, as [`Guide::allow_points`](crate::skip::Guide::allow_points) has them: before
    /// the step is launched. A gap without a point of its step skips nothing.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of points than gaps, [`Error::Range`] for a point outside of its gap; nothing is
    /// stored then.
    pub fn store(&self, sequence: u32, allow_points: &[usize]) -> Result<()> {
        words::store(self.words().0, self.layers.gaps(), sequence, allow_points)
    }

    /// Takes all points back: the next launch skips nothing, as a step that runs again for verification must not.
    ///
    /// Each launch counts. The second pass of a step is therefore the next number, here and for a latch in
    /// [`SkipPart::Before`]: its width is stored in the flag once more, under that number, or it runs at BF16.
    pub fn forbid(&self) {
        for word in self.words().0 {
            word.store(0, std::sync::atomic::Ordering::Release);
        }
    }

    /// What became of each layer in step `sequence`, `[layers]`: once the step has ended on its stream.
    ///
    /// # Errors
    /// [`Error::Shape`] for another number of fates than layers, [`Error::InvalidState`] if the step has not ended yet, or another
    /// one has run since.
    pub fn fates(&self, sequence: u32, fates: &mut [Fate]) -> Result<SkipRun> {
        words::read(self.words().1, &self.layers, sequence, fates)
    }
}

impl std::fmt::Debug for SkipWords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SkipWords")
            .field("device", &self.memory.ordinal())
            .field("layers", &self.layers)
            .finish()
    }
}

/// The end of a controller: `p = sigmoid(out . silu(hidden) + bias)`, in f32 on the device.
#[derive(Clone, Copy, Debug)]
pub struct DeviceController<'a> {
    /// `[1, hc]`: what [`SkipPart::Controller`] leaves.
    pub hidden: &'a DeviceMatRef<'a, bf16>,
    /// `[1, hc]`.
    pub out: &'a DeviceMatRef<'a, f32>,
    /// One number.
    pub bias: f32,
}

/// A part of a step, to be enqueued on the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipPart {
    /// What comes before the layers: the embedding, a [latch](crate::cuda::Latch) of the step. It always runs.
    Before,
    /// A layer on the hidden state.
    Layer(usize),
    /// A dynamic layer's controller up to its hidden vector, from the layer's input, which it leaves as it is.
    Controller(usize),
    /// The adapter of layer `from`, which makes the input of layer `to` (of the head, if there is no such layer) from that of
    /// `from`.
    Adapter {
        /// The layer that skips.
        from: usize,
        /// The end of its gap.
        to: usize,
    },
    /// What comes behind the layers: the head. It always runs.
    After,
}

impl std::fmt::Display for SkipPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Before => f.write_str("what comes before the layers"),
            Self::Layer(layer) => write!(f, "layer {layer}"),
            Self::Controller(layer) => write!(f, "the controller of layer {layer}"),
            Self::Adapter { from, .. } => write!(f, "the adapter of layer {from}"),
            Self::After => f.write_str("what comes behind the layers"),
        }
    }
}

/// How a [`SkipGraph`] is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SkipOptions {
    /// A controller's p above this skips; in [0, 1].
    pub threshold: f32,
    /// The number of the first step.
    pub first: u32,
}

impl Default for SkipOptions {
    fn default() -> Self {
        Self {
            threshold: SkipConfig::THRESHOLD,
            first: 0,
        }
    }
}

/// A step over a stack of layers, captured once: static layers run, a dynamic one runs unless its gap has been skipped by then.
///
/// The device decides, layer by layer, from the controllers and the allow-points that it finds in [`SkipWords`] when the step
/// begins; the host waits for nothing. What runs, runs at the width of the launch, so at a latch's where it is that
/// ([`WidthSource::Latched`](crate::cuda::WidthSource)).
///
/// ```no_run
/// # use cudarc::driver::CudaStream;
/// # use std::collections::BTreeMap;
/// # use std::sync::Arc;
/// # use w4ax::cuda::{DeviceController, Gpu, SkipGraph, SkipOptions, SkipPart};
/// # use w4ax::skip::{Fate, Guide, Layers, SkipConfig};
/// # fn skipping(gpu: &Gpu, stream: &Arc<CudaStream>, controllers: &BTreeMap<usize, DeviceController<'_>>,
/// #     enqueue: impl FnMut(SkipPart) -> w4ax::Result<()>, act: impl Fn() -> w4ax::Result<[f64; 7]>) -> w4ax::Result<()> {
/// let layers = Layers::new(16, &[0, 1, 2, 9, 15])?;
/// let mut guide = Guide::new(&SkipConfig::default(), &layers)?;
/// // SAFETY: what `controllers` and `enqueue` name outlives the graph, and all of it runs on this stream.
/// let mut graph =
///     unsafe { SkipGraph::capture(gpu, stream, &layers, controllers, SkipOptions::default(), enqueue)? };
/// let words = graph.words().clone();
/// let mut fates = [Fate::Static; 16];
/// for step in 0..100 {
///     words.store(step, guide.allow_points())?; // All that the host says.
///     graph.launch(stream)?;
///     let action = act()?; // Waits for the stream, and reads the action.
///     println!("{} layers ran", words.fates(step, &mut fates)?.layers_run);
///     guide.observe(&action)?;
/// }
/// # Ok(())
/// # }
/// ```
pub struct SkipGraph {
    executable: Executable,
    words: Arc<SkipWords>,
    /// [`State`]'s.
    _memory: CudaSlice<u32>,
}

/// Where the step's state stands in device memory: a `w4axk_skip_state`, and a `w4axk_skip_gap` for each gap behind it.
#[derive(Clone, Copy)]
struct State(CUdeviceptr);

impl State {
    fn steps(self) -> *mut sys::w4axk_skip_state {
        self.0 as *mut _
    }

    fn gap(self, gap: usize) -> *mut sys::w4axk_skip_gap {
        (self.0 + 16 * (1 + gap as CUdeviceptr)) as *mut _
    }
}

impl SkipGraph {
    /// Captures what `enqueue` enqueues on the stream for each part: [`SkipPart::Before`], the parts of each layer in order,
    /// [`SkipPart::After`]. It may call launches only (kernels, copies and fills of the device's primary context), and runs
    /// here and now, once a part.
    ///
    /// # Safety
    /// The graph holds bare addresses. The controllers' memory, and all that `enqueue` names to the stream,
    /// must stay where it was until the graph is dropped and its last launch has ended; and a launch on another stream than the one
    /// it was captured on must be ordered with whatever else uses that memory, before and after it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if there are no conditional nodes, [`Error::Shape`] for a dynamic layer without a controller, a
    /// controller's vectors of different lengths, or a stack without gaps or with more than 64, [`Error::Config`] for a
    /// threshold outside [0, 1], [`Error::DeviceMismatch`] for something of another device or stream, [`Error::GraphNode`] if `enqueue`
    /// enqueues what an IF node cannot run, [`Error::Cuda`] if the graph cannot be made, and `enqueue`'s own.
    pub unsafe fn capture(
        gpu: &Gpu,
        stream: &Arc<CudaStream>,
        layers: &Layers,
        controllers: &BTreeMap<usize, DeviceController<'_>>,
        options: SkipOptions,
        mut enqueue: impl FnMut(SkipPart) -> Result<()>,
    ) -> Result<Self> {
        check(layers, controllers, &options)?;
        gpu.check_stream(stream)?;
        for controller in controllers.values() {
            let target = stream.as_ref().into();
            controller.hidden.place.check("hidden vector", target)?;
            controller.out.place.check("controller", target)?;
        }
        ConditionalNodes::needed()?;
        let words = Arc::new(SkipWords::new(gpu, layers)?);
        let mut state = vec![0u32; 4 * (1 + layers.gaps().len())];
        state[..2].fill(options.first);
        let memory = stream
            .clone_htod(&state)
            .map_err(status::driver("allocating device memory"))?;
        let (address, guard) = memory.device_ptr(stream);
        drop(guard);
        // Nothing that was enqueued so far may become part of the graph's order.
        stream
            .synchronize()
            .map_err(status::driver("cuStreamSynchronize"))?;
        let mut maker = Maker {
            gpu,
            stream,
            words: &words,
            state: State(address),
            options,
            graph: Graph::new(gpu)?,
        };
        maker.step(layers, controllers, &mut enqueue)?;
        Ok(Self {
            executable: maker.graph.instantiate(gpu)?,
            words,
            _memory: memory,
        })
    }

    /// Where the host stores allow-points, and reads what became of the layers.
    pub fn words(&self) -> &Arc<SkipWords> {
        &self.words
    }

    /// Launches the next step: its number is one above that of the launch before.
    ///
    /// # Errors
    /// [`Error::DeviceMismatch`] for a stream of another device, [`Error::Cuda`] if the launch fails.
    pub fn launch(&mut self, stream: &CudaStream) -> Result<()> {
        self.executable.launch(stream)
    }
}

/// What needs no device to be seen.
fn check(
    layers: &Layers,
    controllers: &BTreeMap<usize, DeviceController<'_>>,
    options: &SkipOptions,
) -> Result<()> {
    let most = sys::W4AXK_MAX_SKIP_GAPS as usize;
    let gaps = layers.gaps().len();
    if !(1..=most).contains(&gaps) {
        return Err(Error::shape("gaps", [gaps.clamp(1, most)], [gaps]));
    }
    if !(0.0..=1.0).contains(&options.threshold) {
        let reason = format!("is {}, it must be in [0, 1]", options.threshold);
        return Err(Error::Config {
            field: "threshold",
            reason,
        });
    }
    let dynamic: Vec<usize> = layers.dynamic_layers().collect();
    if !dynamic.iter().eq(controllers.keys()) {
        let got: Vec<usize> = controllers.keys().copied().collect();
        return Err(Error::Mismatch {
            what: "controllers",
            expected: format!("those of layers {dynamic:?}"),
            got: format!("those of layers {got:?}"),
        });
    }
    for DeviceController { hidden, out, .. } in controllers.values() {
        let (hidden, out) = ([hidden.rows(), hidden.cols()], [out.rows(), out.cols()]);
        let longest = sys::W4AXK_MAX_SKIP_HIDDEN as usize;
        let expected = [1, hidden[1].clamp(1, longest)];
        if hidden != expected {
            return Err(Error::shape("hidden vector", expected, hidden));
        }
        if out != hidden {
            return Err(Error::shape("controller", hidden, out));
        }
    }
    Ok(())
}

/// Makes the graph.
struct Maker<'a> {
    gpu: &'a Gpu,
    stream: &'a CudaStream,
    words: &'a SkipWords,
    state: State,
    options: SkipOptions,
    graph: Graph,
}

/// The handles of a dynamic layer's IF nodes.
#[derive(Clone, Copy)]
struct Handles {
    controller: u64,
    layer: u64,
    adapter: u64,
}

impl Maker<'_> {
    fn step(
        &mut self,
        layers: &Layers,
        controllers: &BTreeMap<usize, DeviceController<'_>>,
        enqueue: &mut dyn FnMut(SkipPart) -> Result<()>,
    ) -> Result<()> {
        let mut handles = BTreeMap::new();
        for &layer in controllers.keys() {
            // Until a kernel says otherwise the layer runs.
            let of = Handles {
                controller: self.graph.if_handle(false)?,
                layer: self.graph.if_handle(true)?,
                adapter: self.graph.if_handle(false)?,
            };
            handles.insert(layer, of);
        }
        let stream = self.stream;
        let begin = self.begin(layers.gaps(), &handles);
        self.graph.capture(stream, || {
            // SAFETY: the state and the words are this graph's; the stream is of this device, and alive.
            let status = unsafe { sys::w4axk_skip_begin(&begin, stream.cu_stream().cast()) };
            status::check("skip_begin", status)
        })?;
        self.graph.capture(stream, || enqueue(SkipPart::Before))?;
        for layer in 0..layers.len() {
            let (Some(of), Some(gap)) = (handles.get(&layer), layers.gap_of(layer)) else {
                self.graph
                    .capture(stream, || enqueue(SkipPart::Layer(layer)))?;
                continue;
            };
            let to = layers.gaps()[gap].end;
            self.when(of.controller, SkipPart::Controller(layer), enqueue)?;
            let next = (layer + 1 < to).then(|| handles[&(layer + 1)].controller);
            let decide = self.decide((layer, gap), &controllers[&layer], *of, next)?;
            self.graph.capture(stream, || {
                // SAFETY: as above; the controller's vectors are of this device and of that length, as `check` has seen.
                let status = unsafe { sys::w4axk_skip_decide(&decide, stream.cu_stream().cast()) };
                status::check("skip_decide", status)
            })?;
            self.when(of.layer, SkipPart::Layer(layer), enqueue)?;
            self.when(of.adapter, SkipPart::Adapter { from: layer, to }, enqueue)?;
        }
        self.graph.capture(stream, || enqueue(SkipPart::After))
    }

    /// A part in an IF node.
    fn when(
        &mut self,
        handle: u64,
        part: SkipPart,
        enqueue: &mut dyn FnMut(SkipPart) -> Result<()>,
    ) -> Result<()> {
        let mut body = self.graph.add_if(handle)?;
        body.capture(self.stream, || enqueue(part))?;
        body.check_body(|| part.to_string())
    }

    fn begin(
        &self,
        gaps: &[Gap],
        handles: &BTreeMap<usize, Handles>,
    ) -> sys::w4axk_skip_begin_args {
        let mut args = sys::w4axk_skip_begin_args {
            state: self.state.steps(),
            gaps: self.state.gap(0),
            allow: self.words.allow_address() as *const _,
            gap_count: gaps.len() as u32,
            device: self.gpu.number(),
            ..Default::default()
        };
        for (at, gap) in gaps.iter().enumerate() {
            // Of at most that many: `check` has seen.
            args.first[at] = gap.start as u32;
            args.end[at] = gap.end as u32;
            args.controllers[at] = handles[&gap.start].controller;
        }
        args
    }

    fn decide(
        &self,
        (layer, gap): (usize, usize),
        controller: &DeviceController<'_>,
        handles: Handles,
        next: Option<u64>,
    ) -> Result<sys::w4axk_skip_decide_args> {
        Ok(sys::w4axk_skip_decide_args {
            state: self.state.steps(),
            gap: self.state.gap(gap),
            hidden: controller.hidden.place.address as *const _,
            out: controller.out.place.address as *const _,
            report: self.words.report_address(layer) as *mut _,
            run_layer: handles.layer,
            run_adapter: handles.adapter,
            next_controller: next.unwrap_or(0),
            has_next: next.is_some().into(),
            hidden_len: extent("hidden vector", controller.hidden.cols())?,
            layer: extent("layers", layer + 1)? - 1,
            bias: controller.bias,
            threshold: self.options.threshold,
            flags: 0,
            device: self.gpu.number(),
            reserved: 0,
        })
    }
}
