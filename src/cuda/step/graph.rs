//! CUDA graphs that route themselves, step by step of their making.

use super::latch::{Conditionals, Latch};
use crate::cuda::Gpu;
use crate::cuda::sys::{self, status};
use crate::{Error, Result, Unavailable, Width};
use cudarc::driver::CudaStream;

/// The conditional nodes that a graph may hold here: what the driver and this build both know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionalNodes {
    /// One SWITCH node (CUDA 12.8).
    Switch,
    /// Four IF nodes, one after the other (CUDA 12.4).
    If,
}

impl ConditionalNodes {
    /// What there is; `None`: no conditional nodes.
    pub fn available() -> Option<Self> {
        // SAFETY: it looks at the versions of driver and library.
        match unsafe { sys::w4axk_conditional_nodes() } {
            sys::W4AXK_NODES_SWITCH => Some(Self::Switch),
            sys::W4AXK_NODES_IF => Some(Self::If),
            _ => None,
        }
    }

    /// What there is, or why there is nothing.
    pub(crate) fn needed() -> Result<Self> {
        Self::available()
            .ok_or_else(|| Unavailable::NoConditionalNodes.of("a graph with conditional nodes"))
    }

    fn code(self) -> u32 {
        match self {
            Self::Switch => sys::W4AXK_NODES_SWITCH,
            Self::If => sys::W4AXK_NODES_IF,
        }
    }

    fn count(self) -> u32 {
        match self {
            Self::Switch => 1,
            Self::If => 4,
        }
    }
}

/// A graph in the making, or a body of one.
pub(crate) struct Graph {
    raw: *mut sys::w4axk_graph,
}

impl Graph {
    pub fn new(gpu: &Gpu) -> Result<Self> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: it writes one pointer.
        status::check("cudaGraphCreate", unsafe {
            sys::w4axk_graph_create(gpu.number(), &mut raw)
        })?;
        Ok(Self { raw })
    }

    /// Handles for a latch that will be captured into this graph.
    pub fn conditionals(&mut self, nodes: ConditionalNodes) -> Result<Conditionals> {
        let mut handles = [0; 4];
        // SAFETY: the graph lives; there is room for four.
        status::check("cudaGraphConditionalHandleCreate", unsafe {
            sys::w4axk_graph_conditionals(self.raw, nodes.code(), handles.as_mut_ptr())
        })?;
        Ok(Conditionals {
            handles,
            count: nodes.count(),
        })
    }

    /// Puts what `enqueue` enqueues on the stream behind what the graph holds. The capture ends in any case, with a panic too.
    pub fn capture(
        &mut self,
        stream: &CudaStream,
        enqueue: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        /// Ends the capture when it is dropped, if nobody has.
        struct Capture<'a>(&'a Graph, Option<&'a CudaStream>);
        impl Capture<'_> {
            fn end(&mut self) -> Result<()> {
                let Some(stream) = self.1.take() else {
                    return Ok(());
                };
                // SAFETY: the graph and the stream live.
                status::check("cudaStreamEndCapture", unsafe {
                    sys::w4axk_graph_end_capture(self.0.raw, stream.cu_stream().cast())
                })
            }
        }
        impl Drop for Capture<'_> {
            fn drop(&mut self) {
                let _ = self.end();
            }
        }

        // SAFETY: the graph and the stream live.
        status::check("cudaStreamBeginCaptureToGraph", unsafe {
            sys::w4axk_graph_capture(self.raw, stream.cu_stream().cast())
        })?;
        let mut capture = Capture(self, Some(stream));
        enqueue()?;
        capture.end()
    }

    /// Adds the branch: what `enqueue` enqueues on the stream at each width.
    pub fn branches(
        &mut self,
        nodes: ConditionalNodes,
        conditionals: &Conditionals,
        stream: &CudaStream,
        mut enqueue: impl FnMut(Width) -> Result<()>,
    ) -> Result<()> {
        let bodies = self.add_branch(nodes, conditionals)?;
        for (width, mut body) in Width::ALL.into_iter().zip(bodies) {
            body.capture(stream, || enqueue(width))?;
            body.check_body(|| format!("the step at {width}"))?;
        }
        Ok(())
    }

    /// The bodies, empty, in the order of [`Width::ALL`].
    fn add_branch(
        &mut self,
        nodes: ConditionalNodes,
        conditionals: &Conditionals,
    ) -> Result<[Graph; 4]> {
        let mut bodies = [std::ptr::null_mut(); 4];
        // SAFETY: the graph lives; there is room for four bodies, which are ours from then on.
        let status = unsafe {
            sys::w4axk_graph_add_conditionals(
                self.raw,
                nodes.code(),
                conditionals.handles.as_ptr(),
                bodies.as_mut_ptr(),
            )
        };
        let bodies = bodies.map(|raw| Graph { raw });
        status::check("cudaGraphAddNode", status)?;
        Ok(bodies)
    }

    /// A handle of an IF node of this graph, which runs at each launch or not until a kernel says otherwise.
    pub fn if_handle(&mut self, runs: bool) -> Result<u64> {
        let mut handle = 0;
        // SAFETY: the graph lives; it writes one number.
        status::check("cudaGraphConditionalHandleCreate", unsafe {
            sys::w4axk_graph_if_handle(self.raw, runs.into(), &mut handle)
        })?;
        Ok(handle)
    }

    /// Adds the IF node of a handle behind what the graph holds; gives its body, empty.
    pub fn add_if(&mut self, handle: u64) -> Result<Graph> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: the graph lives; it writes one pointer, which is ours from then on.
        let status = unsafe { sys::w4axk_graph_add_if(self.raw, handle, &mut raw) };
        let body = Graph { raw };
        status::check("cudaGraphAddNode", status)?;
        Ok(body)
    }

    /// Whether a conditional node can run all that this body holds.
    pub fn check_body(&self, body: impl FnOnce() -> String) -> Result<()> {
        let mut node = 0;
        // SAFETY: the graph lives; it writes one number.
        match unsafe { sys::w4axk_graph_check_body(self.raw, &mut node) } {
            sys::W4AXK_BAD_NODE => Err(Error::GraphNode {
                body: body(),
                node: node_name(node),
            }),
            status => status::check("cudaGraphGetNodes", status),
        }
    }

    pub fn instantiate(&self, gpu: &Gpu) -> Result<Executable> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: the graph lives; it writes one pointer.
        status::check("cudaGraphInstantiate", unsafe {
            sys::w4axk_graph_instantiate(self.raw, &mut raw)
        })?;
        Ok(Executable {
            raw,
            gpu: gpu.clone(),
        })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: ours alone; null does nothing.
        unsafe { sys::w4axk_graph_destroy(self.raw) }
    }
}

/// A graph that can be launched.
pub(crate) struct Executable {
    raw: *mut core::ffi::c_void,
    gpu: Gpu,
}

// SAFETY: the runtime's objects may be used by any thread, by one at a time: launches take `&mut`.
unsafe impl Send for Executable {}

impl Executable {
    pub fn launch(&mut self, stream: &CudaStream) -> Result<()> {
        self.gpu.check_stream(stream)?;
        // SAFETY: the graph was instantiated on this device, and what it holds addresses of is its owner's to keep.
        status::check("cudaGraphLaunch", unsafe {
            sys::w4axk_graph_launch(self.gpu.number(), self.raw, stream.cu_stream().cast())
        })
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        // SAFETY: ours alone. A launch that still runs is finished first, by CUDA's word.
        unsafe { sys::w4axk_graph_exec_destroy(self.raw) }
    }
}

/// A graph that branches on the width of the step that runs: part of a step, or all of what follows its latch.
///
/// ```no_run
/// # use w4ax::cuda::{DeviceMatMut, DeviceMatRef, DeviceWeight, Gemm, Gpu, Latch, LatchOptions, RoutedGraph, Workspace};
/// # use half::bf16;
/// # fn graph(gpu: &Gpu, stream: &cudarc::driver::CudaStream, latch: &Latch, x: &DeviceMatRef<'_, bf16>, weight: &DeviceWeight,
/// #     y: &mut DeviceMatMut<'_, bf16>, workspace: &mut Workspace) -> w4ax::Result<()> {
/// // SAFETY: latch, x, weight, y and workspace live on until this function has waited for the last launch.
/// let mut graph = unsafe {
///     RoutedGraph::capture(gpu, stream, latch, |width| gpu.gemm(stream, &Gemm::new(x, weight, width), y, workspace))?
/// };
/// for _ in 0..100 {
///     gpu.begin_step(stream, latch, LatchOptions::default())?; // Reads the flag.
///     graph.launch(stream)?; // Runs the body of that width.
/// }
/// stream.synchronize().expect("the launches end");
/// # Ok(())
/// # }
/// ```
pub struct RoutedGraph {
    executable: Executable,
    nodes: ConditionalNodes,
}

impl RoutedGraph {
    /// Captures what `enqueue` enqueues on the stream at each width, as the bodies of conditional nodes. It may call launches
    /// only (kernels, copies and fills of the device's primary context), and runs four times, here and now.
    ///
    /// # Safety
    /// The graph holds bare addresses. The latch, and all memory that `enqueue` names to the stream,
    /// must stay where it was until the graph is dropped and its last launch has ended; and a launch on another stream than the one
    /// it was captured on must be ordered with whatever else uses that memory, before and after it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if there are no conditional nodes, [`Error::GraphNode`] if it enqueues what such a node cannot run,
    /// [`Error::DeviceMismatch`] for another stream than the latch's, [`Error::Cuda`] if the graph cannot be made, and its own.
    pub unsafe fn capture(
        gpu: &Gpu,
        stream: &CudaStream,
        latch: &Latch,
        enqueue: impl FnMut(Width) -> Result<()>,
    ) -> Result<Self> {
        let nodes = ConditionalNodes::needed()?;
        let mut graph = Graph::new(gpu)?;
        let conditionals = graph.conditionals(nodes)?;
        graph.capture(stream, || gpu.launch_branch(stream, latch, &conditionals))?;
        graph.branches(nodes, &conditionals, stream, enqueue)?;
        Ok(Self {
            executable: graph.instantiate(gpu)?,
            nodes,
        })
    }

    /// The nodes that branch.
    pub fn nodes(&self) -> ConditionalNodes {
        self.nodes
    }

    /// Launches it, at the width that the stream's last latch has set.
    ///
    /// # Errors
    /// [`Error::DeviceMismatch`] for a stream of another device, [`Error::Cuda`] if the launch fails.
    pub fn launch(&mut self, stream: &CudaStream) -> Result<()> {
        self.executable.launch(stream)
    }
}

/// A `cudaGraphNodeType` in words.
fn node_name(code: u32) -> &'static str {
    if code & sys::W4AXK_OF_ANOTHER_CONTEXT != 0 {
        return "a kernel of another context";
    }
    match code {
        3 => "a host function",
        6 => "an event wait",
        7 => "an event record",
        8 => "a signal of an external semaphore",
        9 => "a wait for an external semaphore",
        10 => "an allocation of memory",
        11 => "a release of memory",
        12 => "a batch of memory operations",
        _ => "a node of a kind that this crate does not know",
    }
}
