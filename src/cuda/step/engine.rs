//! Control steps on a GPU: captured once, launched once per step, routed by the flag.

use super::capture::{CudaStep, GraphBuilder, Graphs};
use super::flag::MappedFlag;
use super::graph::ConditionalNodes;
use super::latch::Latch;
use super::routing::{Routed, Routing};
use crate::Result;
use crate::cuda::Gpu;
use crate::cuda::sys::status;
use crate::step::{Decide, StepEngine, StepFlag, StepOptions};
use cudarc::driver::CudaStream;
use std::sync::Arc;

/// A [`StepEngine`] on a stream of a GPU. The whole step is a graph, and the decision reaches the
/// kernels through the word of the flag.
///
/// With [`Routing::Host`] the host reads the word instead, after the pipeline has stored it. The
/// latch of the selected graph then records that width
/// ([`Outcome::ByHost`](crate::step::Outcome::ByHost)), or BF16 for a step that ends without a
/// decision.
///
/// ```no_run
/// use cudarc::driver::{CudaSlice, CudaStream};
/// use half::bf16;
/// use std::sync::Arc;
/// use w4ax::cuda::{
///     CudaEngine, CudaStep, DeviceMatMut, DeviceMatRef, DeviceWeight, Gemm, Gpu, Routing,
///     Workspace,
/// };
/// use w4ax::{Error, Result, WidthSource, step::StepOptions};
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
///     fn layer(
///         &mut self,
///         m: usize,
///         width: WidthSource<'_>,
///         stream: &Arc<CudaStream>,
///     ) -> Result<()> {
///         let (n, k) = (self.weight.n(), self.weight.k());
///         let x = DeviceMatRef::new(self.x.slice(..m * k), m, k)?;
///         let mut y = DeviceMatMut::new(self.y.slice_mut(..m * n), m, n)?;
///         let gemm = Gemm::new(&x, &self.weight, width);
///         self.gpu.run(stream, &gemm, &mut y, &mut self.workspace)
///     }
/// }
///
/// // SAFETY: x, y, weight and workspace own device memory, which stays at its address while they
/// // live.
/// unsafe impl CudaStep for Policy {
///     type Observation = [bf16];
///     fn load(&mut self, observation: &[bf16], stream: &Arc<CudaStream>) -> Result<()> {
///         let copied = stream.memcpy_htod(observation, &mut self.x);
///         copied.map_err(|source| Error::Driver { call: "memcpy", source })
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
/// // Before the memory of the policy is allocated: its views are created during a capture.
/// // SAFETY: all memory belongs to one stream, so no use of it needs an event.
/// unsafe { gpu.context().disable_event_tracking() };
/// let stream = gpu.context().new_stream()?;
/// let engine = CudaEngine::new(gpu, &stream, policy, Routing::Kernel, StepOptions::default())?;
/// println!("routed {}", engine.routed()); // Pass the engine to a `StepPipeline`.
/// # Ok(())
/// # }
/// ```
pub struct CudaEngine<S: CudaStep> {
    // Fields are dropped in this order: the graphs before the memory whose addresses they hold.
    graphs: Graphs,
    step: S,
    latch: Latch,
    gpu: Gpu,
    stream: Arc<CudaStream>,
    options: StepOptions,
    routed: Routed,
    /// With host routing: the step that waits for its width.
    undecided: Option<u32>,
}

impl<S: CudaStep> CudaEngine<S> {
    /// Captures the step. Steps are counted from 0.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) for invalid options,
    /// [`Error::DeviceMismatch`](crate::Error::DeviceMismatch) for a stream of another device,
    /// [`Error::GraphNode`](crate::Error::GraphNode) if the step launches what a conditional node
    /// cannot run, [`Error::Cuda`](crate::Error::Cuda) if a graph cannot be built, and the errors
    /// of the step.
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
        // Earlier work of the stream must not become a dependency of a graph.
        stream
            .synchronize()
            .map_err(status::driver("cuStreamSynchronize"))?;
        let mut builder = GraphBuilder {
            gpu,
            stream,
            step: &mut step,
            latch: &latch,
            options,
        };
        let (graphs, routed) = match (routing, ConditionalNodes::available()) {
            (Routing::Kernel, _) => (builder.by_kernels()?, Routed::Kernel),
            (Routing::Graph, Some(nodes)) => (
                builder.by_nodes(nodes)?,
                match nodes {
                    ConditionalNodes::Switch => Routed::SwitchNode,
                    ConditionalNodes::If => Routed::IfNodes,
                },
            ),
            (Routing::Graph, None) | (Routing::Host, _) => (builder.by_host()?, Routed::Host),
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

    /// What branches on the width in its steps.
    pub fn routed(&self) -> Routed {
        self.routed
    }

    /// The step, to read results between steps.
    pub fn step(&self) -> &S {
        &self.step
    }

    /// The flag, to store decisions from another thread.
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

    /// With host routing: launches the graph of the width that the flag holds.
    fn launch_undecided(&mut self) -> Result<()> {
        let Some(sequence) = self.undecided.take() else {
            return Ok(());
        };
        let width = self.latch.flag().requested().load(sequence);
        match &mut self.graphs {
            Graphs::One(_) => {
                unreachable!("with one graph for all widths, no step waits for its width")
            }
            Graphs::Each { steps, .. } => steps[width.index()].launch((&self.stream).into()),
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
            Graphs::One(graph) => graph.launch((&self.stream).into()),
            Graphs::Each { before, .. } => {
                if let Some(before) = before {
                    before.launch((&self.stream).into())?;
                }
                self.undecided = Some(sequence);
                // A decision before the step is stored already.
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
        // The step ends without a decision.
        self.launch_undecided()?;
        self.stream
            .synchronize()
            .map_err(status::driver("cuStreamSynchronize"))
    }
}

impl<S: CudaStep> Drop for CudaEngine<S> {
    fn drop(&mut self) {
        // The graphs hold bare addresses of memory that is dropped after them.
        let _ = self.stream.synchronize();
    }
}
