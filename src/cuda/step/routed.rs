//! A graph that branches on the width of a step.

use super::graph::{ConditionalNodes, Executable, Graph};
use super::latch::Latch;
use crate::cuda::Gpu;
use crate::cuda::memory::StreamRef;
use crate::{Result, Width};
use cudarc::driver::CudaStream;

/// A graph that branches on the width of the running step: a part of a step, or everything after
/// its latch.
///
/// ```no_run
/// # use w4ax::cuda::{
/// #     DeviceMatMut, DeviceMatRef, DeviceWeight, Gemm, Gpu, Latch, LatchOptions, RoutedGraph,
/// #     Workspace,
/// # };
/// # use cudarc::driver::CudaStream;
/// # use half::bf16;
/// # fn graph(gpu: &Gpu, stream: &CudaStream, latch: &Latch, x: &DeviceMatRef<'_, bf16>,
/// #     weight: &DeviceWeight, y: &mut DeviceMatMut<'_, bf16>,
/// #     workspace: &mut Workspace) -> w4ax::Result<()> {
/// // SAFETY: latch, x, weight, y and workspace outlive the last launch, which is waited for.
/// let mut graph = unsafe {
///     RoutedGraph::capture(gpu, stream, latch, |width| {
///         gpu.run(stream, &Gemm::new(x, weight, width), y, workspace)
///     })?
/// };
/// for _ in 0..100 {
///     gpu.begin_step(stream, latch, LatchOptions::default())?; // Loads the flag.
///     graph.launch(stream)?; // Runs the body of that width.
/// }
/// stream.synchronize().expect("the launches succeed");
/// # Ok(())
/// # }
/// ```
pub struct RoutedGraph {
    executable: Executable,
    nodes: ConditionalNodes,
}

impl RoutedGraph {
    /// Captures the launches of `enqueue` on the stream, for each width, as the bodies of
    /// conditional nodes.
    ///
    /// `enqueue` runs four times during this call. It may only launch kernels, copies and fills of
    /// the device's primary context.
    ///
    /// # Safety
    /// The graph holds bare addresses. The latch, and all memory that `enqueue` uses, must stay at
    /// its address until the graph is dropped and its last launch has ended. A launch on another
    /// stream than that of the capture must be ordered with all other uses of that memory, before
    /// and after it.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::Error::Unavailable) without support for conditional nodes,
    /// [`Error::GraphNode`](crate::Error::GraphNode) if `enqueue` launches what such a node cannot
    /// run, [`Error::DeviceMismatch`](crate::Error::DeviceMismatch) for a stream other than that of
    /// the latch, [`Error::Cuda`](crate::Error::Cuda) if the graph cannot be built, and the errors
    /// of `enqueue`.
    pub unsafe fn capture(
        gpu: &Gpu,
        stream: &CudaStream,
        latch: &Latch,
        enqueue: impl FnMut(Width) -> Result<()>,
    ) -> Result<Self> {
        let nodes = ConditionalNodes::needed()?;
        let mut graph = Graph::new(gpu)?;
        let conditionals = graph.conditionals(nodes)?;
        graph.capture(stream, || {
            gpu.launch_branch(stream.into(), latch, &conditionals)
        })?;
        graph.branches(nodes, &conditionals, stream, enqueue)?;
        Ok(Self {
            executable: graph.instantiate(gpu)?,
            nodes,
        })
    }

    /// The kind of the conditional nodes.
    pub fn nodes(&self) -> ConditionalNodes {
        self.nodes
    }

    /// Launches the graph at the width that the last latch of the stream holds.
    ///
    /// # Errors
    /// [`Error::DeviceMismatch`](crate::Error::DeviceMismatch) for a stream of another device,
    /// [`Error::Cuda`](crate::Error::Cuda) if the launch fails.
    pub fn launch<'s>(&mut self, stream: impl Into<StreamRef<'s>>) -> Result<()> {
        self.executable.launch(stream.into())
    }
}
