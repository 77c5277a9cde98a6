//! The graph of a step that skips layers.

use super::parts::{DeviceController, SkipOptions, SkipPart, check};
use super::words::SkipWords;
use crate::Result;
use crate::cuda::Gpu;
use crate::cuda::gemm::limits::extent;
use crate::cuda::memory::StreamRef;
use crate::cuda::step::graph::{ConditionalNodes, Executable, Graph};
use crate::cuda::sys::{self, status};
use crate::skip::{Gap, Layers};
use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A step over a stack of layers, captured once. Static layers always run. A dynamic layer runs
/// unless it is skipped or an earlier layer has skipped the rest of its gap.
///
/// The device decides for each layer, from its controller and from the allow-points that
/// [`SkipWords`] hold when the step begins. The host does not wait. Each part runs at the width of
/// its launches, which a latch may hold ([`WidthSource::Latched`](crate::WidthSource::Latched)).
///
/// ```no_run
/// # use cudarc::driver::CudaStream;
/// # use std::collections::BTreeMap;
/// # use std::sync::Arc;
/// # use w4ax::cuda::{DeviceController, Gpu, SkipGraph, SkipOptions, SkipPart};
/// # use w4ax::skip::{Fate, Guide, Layers, SkipConfig};
/// # fn skipping(gpu: &Gpu, stream: &Arc<CudaStream>,
/// #     controllers: &BTreeMap<usize, DeviceController<'_>>,
/// #     enqueue: impl FnMut(SkipPart) -> w4ax::Result<()>,
/// #     act: impl Fn() -> w4ax::Result<[f64; 7]>) -> w4ax::Result<()> {
/// let layers = Layers::new(16, &[0, 1, 2, 9, 15])?;
/// let mut guide = Guide::new(&SkipConfig::default(), &layers)?;
/// // SAFETY: the memory of `controllers` and `enqueue` outlives the graph, on this stream only.
/// let options = SkipOptions::default();
/// let mut graph =
///     unsafe { SkipGraph::capture(gpu, stream, &layers, controllers, options, enqueue)? };
/// let words = graph.words().clone();
/// let mut fates = [Fate::Static; 16];
/// for step in 0..100 {
///     words.store(step, guide.allow_points())?; // The only input from the host.
///     graph.launch(stream)?;
///     let action = act()?; // Synchronizes and reads the action.
///     println!("{} layers ran", words.fates(step, &mut fates)?.layers_run);
///     guide.observe(&action)?;
/// }
/// # Ok(())
/// # }
/// ```
pub struct SkipGraph {
    executable: Executable,
    words: Arc<SkipWords>,
    /// The memory of [`State`].
    _memory: CudaSlice<u32>,
}

/// The state of the step in device memory: a `w4axk_skip_state`, then a `w4axk_skip_gap` for each
/// gap.
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
    /// Captures the launches of `enqueue` on the stream, for each part in order:
    /// [`SkipPart::Before`], the parts of each layer, [`SkipPart::After`].
    ///
    /// `enqueue` runs once for each part during this call. It may only launch kernels, copies and
    /// fills of the device's primary context.
    ///
    /// # Safety
    /// The graph holds bare addresses. The memory of the controllers, and all memory that `enqueue`
    /// uses, must stay at its address until the graph is dropped and its last launch has ended. A
    /// launch on another stream than that of the capture must be ordered with all other uses of
    /// that memory, before and after it.
    ///
    /// # Errors
    /// - [`Error::Unavailable`](crate::Error::Unavailable) without support for conditional nodes,
    /// - [`Error::Shape`](crate::Error::Shape) for a dynamic layer without a controller, a
    ///   controller whose vectors differ in length, or a stack without gaps or with more than 64,
    /// - [`Error::Config`](crate::Error::Config) for a threshold outside of [0, 1],
    /// - [`Error::DeviceMismatch`](crate::Error::DeviceMismatch) for an argument of another device
    ///   or stream,
    /// - [`Error::GraphNode`](crate::Error::GraphNode) if `enqueue` launches what an IF node cannot
    ///   run,
    /// - [`Error::Cuda`](crate::Error::Cuda) if the graph cannot be built,
    /// - the errors of `enqueue`.
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
            let target = StreamRef::from(stream);
            controller.hidden.place.check("hidden vector", target)?;
            controller.out.place.check("controller", target)?;
        }
        ConditionalNodes::needed()?;
        let words = Arc::new(SkipWords::new(gpu, layers)?);
        let mut state = vec![0u32; 4 * (1 + layers.gaps().len())];
        state[..2].fill(options.first());
        let memory = stream
            .clone_htod(&state)
            .map_err(status::driver("allocating device memory"))?;
        let (address, guard) = memory.device_ptr(stream);
        drop(guard);
        // Earlier work of the stream must not become a dependency of the graph.
        stream
            .synchronize()
            .map_err(status::driver("cuStreamSynchronize"))?;
        let mut builder = GraphBuilder {
            gpu,
            stream,
            words: &words,
            state: State(address),
            options,
            graph: Graph::new(gpu)?,
        };
        builder.step(layers, controllers, &mut enqueue)?;
        Ok(Self {
            executable: builder.graph.instantiate(gpu)?,
            words,
            _memory: memory,
        })
    }

    /// The words in which the host stores allow-points and reads the fates of the layers.
    pub fn words(&self) -> &Arc<SkipWords> {
        &self.words
    }

    /// Launches the next step, whose number is one above that of the previous launch.
    ///
    /// # Errors
    /// [`Error::DeviceMismatch`](crate::Error::DeviceMismatch) for a stream of another device,
    /// [`Error::Cuda`](crate::Error::Cuda) if the launch fails.
    pub fn launch<'s>(&mut self, stream: impl Into<StreamRef<'s>>) -> Result<()> {
        self.executable.launch(stream.into())
    }
}

/// Captures the graph.
struct GraphBuilder<'a> {
    gpu: &'a Gpu,
    stream: &'a CudaStream,
    words: &'a SkipWords,
    state: State,
    options: SkipOptions,
    graph: Graph,
}

/// The handles of the IF nodes of a dynamic layer.
#[derive(Clone, Copy)]
struct Handles {
    controller: u64,
    layer: u64,
    adapter: u64,
}

impl GraphBuilder<'_> {
    fn step(
        &mut self,
        layers: &Layers,
        controllers: &BTreeMap<usize, DeviceController<'_>>,
        enqueue: &mut dyn FnMut(SkipPart) -> Result<()>,
    ) -> Result<()> {
        let mut handles = BTreeMap::new();
        for &layer in controllers.keys() {
            // The layer runs unless a kernel sets its handle.
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
            // SAFETY: the graph owns the state and the words; the stream belongs to this device and
            // is alive.
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
                // SAFETY: as above; the vectors of the controller are on this device and have this
                // length, as `check` verified.
                let status = unsafe { sys::w4axk_skip_decide(&decide, stream.cu_stream().cast()) };
                status::check("skip_decide", status)
            })?;
            self.when(of.layer, SkipPart::Layer(layer), enqueue)?;
            self.when(of.adapter, SkipPart::Adapter { from: layer, to }, enqueue)?;
        }
        self.graph.capture(stream, || enqueue(SkipPart::After))
    }

    /// Captures a part into an IF node.
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
            // `check` verified that there are at most as many as the arrays have elements.
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
            threshold: self.options.threshold(),
            flags: 0,
            device: self.gpu.number(),
            reserved: 0,
        })
    }
}
