//! Control steps on a GPU: captured once, launched once a step, routed by the flag.

use super::flag::MappedFlag;
use super::graph::{ConditionalNodes, Executable, Graph};
use super::latch::{Conditionals, Latch, LatchOptions};
use crate::cuda::Gpu;
use crate::cuda::sys::status;
use crate::step::{Decide, PrefillWidth, StepEngine, StepFlag, StepOptions};
use crate::{Result, Width, WidthSource};
use cudarc::driver::CudaStream;
use std::sync::Arc;

/// What a step on a GPU does. `prefill` and `decode` are captured: they run when the engine is made, once for each graph,
/// and only enqueue on the stream (allocate nothing, wait for nothing).
///
/// # Safety
/// The engine's graphs hold bare addresses. All memory that `prefill` and `decode` name to the stream stays where it is for as long as
/// the step lives, whatever `load` does, and wherever the step itself is moved; the engine drops its graphs before the step.
pub unsafe trait CudaStep {
    /// What a step begins with.
    type Observation: ?Sized;

    /// Copies an observation to where the step reads it, and enqueues that on the stream: each step, before its graph.
    ///
    /// # Errors
    /// What keeps the step from being begun.
    fn load(&mut self, observation: &Self::Observation, stream: &Arc<CudaStream>) -> Result<()>;

    /// Enqueues the tokens of the observation.
    ///
    /// # Errors
    /// What keeps the engine from being made.
    fn prefill(&mut self, width: WidthSource<'_>, stream: &Arc<CudaStream>) -> Result<()>;

    /// Enqueues the tokens of the action, one after the other.
    ///
    /// # Errors
    /// As [`CudaStep::prefill`].
    fn decode(&mut self, width: WidthSource<'_>, stream: &Arc<CudaStream>) -> Result<()>;
}

/// Who branches on a step's width.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Routing {
    /// Each kernel: one launch that has the code of all widths.
    #[default]
    Kernel,
    /// The graph: conditional nodes on the latch, whose bodies are the step at each width. Where the driver or the build
    /// knows no conditional nodes, one graph for each width, picked by the host: [`Routed`] says what it is.
    Graph,
    /// The host: one graph for each width, picked when the flag is stored.
    Host,
}

/// How an engine's steps are really routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Routed {
    /// Inside of the kernels.
    Kernel,
    /// By one SWITCH node of the graph.
    SwitchNode,
    /// By four IF nodes of the graph.
    IfNodes,
    /// By the host, which reads the flag and picks a graph.
    Host,
}

impl std::fmt::Display for Routed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Kernel => "in the kernels",
            Self::SwitchNode => "by a SWITCH node",
            Self::IfNodes => "by IF nodes",
            Self::Host => "by the host",
        })
    }
}

/// The graphs of a step.
enum Graphs {
    /// One for all widths.
    One(Executable),
    /// `before`: what comes before the latch, if anything; `steps`: the latch, with its width forced, and the rest, in the
    /// order of [`Width::ALL`].
    Each {
        before: Option<Executable>,
        steps: Box<[Executable; 4]>,
    },
}

/// A [`StepEngine`] on a stream of a GPU: the whole step is a graph, and what passes between the decision and the kernels is
/// the flag's word.
///
/// Routed by the host the word is read on the host instead, when the pipeline says that it has been stored; that graph's
/// latch then writes down what was chosen ([`Outcome::ByHost`](crate::step::Outcome::ByHost)), or, for a step that ends
/// without a decision, BF16.
///
/// ```no_run
/// use cudarc::driver::{CudaSlice, CudaStream};
/// use half::bf16;
/// use std::sync::Arc;
/// use w4ax::cuda::{
///     CudaEngine, CudaStep, DeviceMatMut, DeviceMatRef, DeviceWeight, Gemm, Gpu, Routing, WidthSource, Workspace,
/// };
/// use w4ax::{Error, Result, step::StepOptions};
///
/// /// A policy of one layer.
/// struct Policy {
///     gpu: Gpu,
///     weight: DeviceWeight,
///     x: CudaSlice<bf16>, // [290, K]
///     y: CudaSlice<bf16>, // [290, N]
///     workspace: Workspace,
/// }
///
/// impl Policy {
///     fn layer(&mut self, m: usize, width: WidthSource<'_>, stream: &Arc<CudaStream>) -> Result<()> {
///         let (n, k) = (self.weight.n(), self.weight.k());
///         let x = DeviceMatRef::new(self.x.slice(..m * k), m, k)?;
///         let mut y = DeviceMatMut::new(self.y.slice_mut(..m * n), m, n)?;
///         self.gpu.gemm(stream, &Gemm::new(&x, &self.weight, width), &mut y, &mut self.workspace)
///     }
/// }
///
/// // SAFETY: x, y, weight and workspace own device memory, which stays where it is as long as they live; `load` writes into it.
/// unsafe impl CudaStep for Policy {
///     type Observation = [bf16];
///     fn load(&mut self, observation: &[bf16], stream: &Arc<CudaStream>) -> Result<()> {
///         let copied = stream.memcpy_htod(observation, &mut self.x);
///         copied.map_err(|e| Error::Cuda { call: "memcpy", reason: e.to_string() })
///     }
///     fn prefill(&mut self, width: WidthSource<'_>, stream: &Arc<CudaStream>) -> Result<()> {
///         self.layer(290, width, stream)
///     }
///     fn decode(&mut self, width: WidthSource<'_>, stream: &Arc<CudaStream>) -> Result<()> {
///         (0..7).try_for_each(|_| self.layer(1, width, stream))
///     }
/// }
///
/// # fn engine(gpu: &Gpu, policy: Policy) -> std::result::Result<(), Box<dyn std::error::Error>> {
/// let stream = gpu.context().new_stream()?;
/// let engine = CudaEngine::new(gpu, &stream, policy, Routing::Kernel, StepOptions::default())?;
/// println!("routed {}", engine.routed()); // For a `StepPipeline`.
/// # Ok(())
/// # }
/// ```
pub struct CudaEngine<S: CudaStep> {
    // Fields are dropped in this order: graphs before what they hold the addresses of.
    graphs: Graphs,
    step: S,
    latch: Latch,
    gpu: Gpu,
    stream: Arc<CudaStream>,
    options: StepOptions,
    routed: Routed,
    /// Routed by the host: the step that waits for its width.
    undecided: Option<u32>,
}

impl<S: CudaStep> CudaEngine<S> {
    /// Captures the step. Steps are counted from 0.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for options that make no sense, [`Error::DeviceMismatch`](crate::Error::DeviceMismatch) for a stream of another device,
    /// [`Error::GraphNode`](crate::Error::GraphNode) for a step that enqueues what a conditional node cannot run, [`Error::Cuda`](crate::Error::Cuda) if a graph cannot be
    /// made, and whatever the step answers.
    pub fn new(
        gpu: &Gpu,
        stream: &Arc<CudaStream>,
        mut step: S,
        routing: Routing,
        options: StepOptions,
    ) -> Result<Self> {
        options.validate()?;
        gpu.check_stream(stream)?;
        let latch = gpu.latch(stream, Arc::new(MappedFlag::new(gpu)?), 0)?;
        // Nothing that was enqueued so far may become part of a graph's order.
        stream
            .synchronize()
            .map_err(status::driver("cuStreamSynchronize"))?;
        let mut maker = Maker {
            gpu,
            stream,
            step: &mut step,
            latch: &latch,
            options,
        };
        let (graphs, routed) = match (routing, ConditionalNodes::available()) {
            (Routing::Kernel, _) => (maker.routed_by_kernels()?, Routed::Kernel),
            (Routing::Graph, Some(nodes)) => (
                maker.routed_by_nodes(nodes)?,
                match nodes {
                    ConditionalNodes::Switch => Routed::SwitchNode,
                    ConditionalNodes::If => Routed::IfNodes,
                },
            ),
            (Routing::Graph, None) | (Routing::Host, _) => {
                (maker.routed_by_the_host()?, Routed::Host)
            }
        };
        Ok(Self {
            graphs,
            step,
            latch,
            gpu: gpu.clone(),
            stream: stream.clone(),
            options,
            routed,
            undecided: None,
        })
    }

    /// How its steps are really routed.
    pub fn routed(&self) -> Routed {
        self.routed
    }

    /// The step, to read results from between steps.
    pub fn step(&self) -> &S {
        &self.step
    }

    /// The flag, for whoever stores decisions from another thread.
    pub fn flag(&self) -> &Arc<MappedFlag> {
        self.latch.flag()
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The stream that the steps run on.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// Routed by the host: launches the graph of what the flag says.
    fn launch_undecided(&mut self) -> Result<()> {
        let Some(sequence) = self.undecided.take() else {
            return Ok(());
        };
        let width = self.latch.flag().requested().load(sequence);
        match &mut self.graphs {
            Graphs::One(_) => unreachable!("only graphs of one width wait for it"),
            Graphs::Each { steps, .. } => steps[width.index()].launch(&self.stream),
        }
    }
}

impl<S: CudaStep> StepEngine for CudaEngine<S> {
    type Observation = S::Observation;

    fn options(&self) -> &StepOptions {
        &self.options
    }

    fn words(&self) -> &StepFlag {
        self.latch.flag()
    }

    fn begin(&mut self, sequence: u32, observation: &S::Observation) -> Result<()> {
        self.step.load(observation, &self.stream)?;
        match &mut self.graphs {
            Graphs::One(graph) => graph.launch(&self.stream),
            Graphs::Each { before, .. } => {
                if let Some(before) = before {
                    before.launch(&self.stream)?;
                }
                self.undecided = Some(sequence);
                // With a decision before the step there is nothing to wait for.
                match self.options.decide() {
                    Decide::BeforeStep => self.launch_undecided(),
                    Decide::DuringPrefill(_) => Ok(()),
                }
            }
        }
    }

    fn decided(&mut self, _sequence: u32) -> Result<()> {
        self.launch_undecided()
    }

    fn finish(&mut self) -> Result<()> {
        // No decision came.
        self.launch_undecided()?;
        self.stream
            .synchronize()
            .map_err(status::driver("cuStreamSynchronize"))
    }
}

impl<S: CudaStep> Drop for CudaEngine<S> {
    fn drop(&mut self) {
        // Graphs hold bare addresses of what goes away after them.
        let _ = self.stream.synchronize();
    }
}

/// Makes an engine's graphs.
struct Maker<'a, S> {
    gpu: &'a Gpu,
    stream: &'a Arc<CudaStream>,
    step: &'a mut S,
    latch: &'a Latch,
    options: StepOptions,
}

impl<S: CudaStep> Maker<'_, S> {
    /// What runs before the latch: the prefill, if the decision comes during it.
    fn before(&mut self) -> Result<()> {
        match self.options.decide() {
            Decide::BeforeStep => Ok(()),
            Decide::DuringPrefill(PrefillWidth::Fixed(width)) => {
                self.step.prefill(WidthSource::Fixed(width), self.stream)
            }
            // The latch still holds the step before's.
            Decide::DuringPrefill(PrefillWidth::LastLatched) => self
                .step
                .prefill(WidthSource::Latched(self.latch), self.stream),
        }
    }

    fn latch(&self, forced: Option<Width>, conditionals: &Conditionals) -> Result<()> {
        let options = LatchOptions {
            spin: self.options.spin(),
            forced,
        };
        self.gpu
            .launch_latch(self.stream, self.latch, options, conditionals)
    }

    /// What runs after the latch.
    fn after(&mut self, width: WidthSource<'_>) -> Result<()> {
        if self.options.decide() == Decide::BeforeStep {
            self.step.prefill(width, self.stream)?;
        }
        self.step.decode(width, self.stream)
    }

    fn routed_by_kernels(&mut self) -> Result<Graphs> {
        let mut graph = Graph::new(self.gpu)?;
        graph.capture(self.stream, || {
            self.before()?;
            self.latch(None, &Conditionals::NONE)?;
            self.after(WidthSource::Latched(self.latch))
        })?;
        Ok(Graphs::One(graph.instantiate(self.gpu)?))
    }

    fn routed_by_nodes(&mut self, nodes: ConditionalNodes) -> Result<Graphs> {
        let mut graph = Graph::new(self.gpu)?;
        let conditionals = graph.conditionals(nodes)?;
        graph.capture(self.stream, || {
            self.before()?;
            self.latch(None, &conditionals)
        })?;
        let stream = self.stream;
        graph.branches(nodes, &conditionals, stream, |width| {
            self.after(WidthSource::Fixed(width))
        })?;
        Ok(Graphs::One(graph.instantiate(self.gpu)?))
    }

    fn routed_by_the_host(&mut self) -> Result<Graphs> {
        let before = match self.options.decide() {
            Decide::BeforeStep => None,
            Decide::DuringPrefill(_) => {
                let mut graph = Graph::new(self.gpu)?;
                graph.capture(self.stream, || self.before())?;
                Some(graph.instantiate(self.gpu)?)
            }
        };
        let mut steps = Vec::with_capacity(4);
        for width in Width::ALL {
            let mut graph = Graph::new(self.gpu)?;
            graph.capture(self.stream, || {
                self.latch(Some(width), &Conditionals::NONE)?;
                self.after(WidthSource::Fixed(width))
            })?;
            steps.push(graph.instantiate(self.gpu)?);
        }
        let steps: [Executable; 4] = steps
            .try_into()
            .unwrap_or_else(|_| unreachable!("four widths"));
        Ok(Graphs::Each {
            before,
            steps: Box::new(steps),
        })
    }
}
