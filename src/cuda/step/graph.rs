//! CUDA graphs with conditional nodes: construction, capture and launch.

use super::latch::Conditionals;
use crate::cuda::Gpu;
use crate::cuda::memory::StreamRef;
use crate::cuda::sys::{self, status};
use crate::{Error, Result, Unavailable, Width};
use cudarc::driver::CudaStream;

/// The conditional nodes that both the driver and the build support.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConditionalNodes {
    /// One SWITCH node (CUDA 12.8).
    Switch,
    /// Four IF nodes in sequence (CUDA 12.4).
    If,
}

impl ConditionalNodes {
    /// The best kind of node that is supported; `None` if there is none.
    pub fn available() -> Option<Self> {
        // SAFETY: the function reads the versions of driver and library.
        match unsafe { sys::w4axk_conditional_nodes() } {
            sys::W4AXK_NODES_SWITCH => Some(Self::Switch),
            sys::W4AXK_NODES_IF => Some(Self::If),
            _ => None,
        }
    }

    /// The best kind of node that is supported.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if there is none.
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

/// A graph under construction, or the body of a conditional node.
pub(crate) struct Graph {
    raw: *mut sys::w4axk_graph,
}

impl Graph {
    pub fn new(gpu: &Gpu) -> Result<Self> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: the function writes one pointer.
        status::check("cudaGraphCreate", unsafe {
            sys::w4axk_graph_create(gpu.number(), &mut raw)
        })?;
        Ok(Self { raw })
    }

    /// Creates the handles for a latch that this graph captures.
    pub fn conditionals(&mut self, nodes: ConditionalNodes) -> Result<Conditionals> {
        let mut handles = [0; 4];
        // SAFETY: the graph is alive; the array has four elements.
        status::check("cudaGraphConditionalHandleCreate", unsafe {
            sys::w4axk_graph_conditionals(self.raw, nodes.code(), handles.as_mut_ptr())
        })?;
        Ok(Conditionals {
            handles,
            count: nodes.count(),
        })
    }

    /// Appends the launches of `enqueue` on the stream to the graph. The capture ends in any case,
    /// even by a panic.
    pub fn capture(
        &mut self,
        stream: &CudaStream,
        enqueue: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        /// Ends the capture when it is dropped, unless `end` did.
        struct Capture<'a>(&'a Graph, Option<&'a CudaStream>);
        impl Capture<'_> {
            fn end(&mut self) -> Result<()> {
                let Some(stream) = self.1.take() else {
                    return Ok(());
                };
                // SAFETY: the graph and the stream are alive.
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

        // SAFETY: the graph and the stream are alive.
        status::check("cudaStreamBeginCaptureToGraph", unsafe {
            sys::w4axk_graph_capture(self.raw, stream.cu_stream().cast())
        })?;
        let mut capture = Capture(self, Some(stream));
        enqueue()?;
        capture.end()
    }

    /// Appends the branch: the launches of `enqueue` on the stream, for each width.
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

    /// Appends conditional nodes. Returns their empty bodies in the order of [`Width::ALL`].
    fn add_branch(
        &mut self,
        nodes: ConditionalNodes,
        conditionals: &Conditionals,
    ) -> Result<[Graph; 4]> {
        let mut bodies = [std::ptr::null_mut(); 4];
        // SAFETY: the graph is alive; the array has four elements. The function passes ownership of
        // the bodies.
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

    /// Creates the handle of an IF node. `runs`: whether its body runs at each launch unless a
    /// kernel sets the handle.
    pub fn if_handle(&mut self, runs: bool) -> Result<u64> {
        let mut handle = 0;
        // SAFETY: the graph is alive; the function writes one number.
        status::check("cudaGraphConditionalHandleCreate", unsafe {
            sys::w4axk_graph_if_handle(self.raw, runs.into(), &mut handle)
        })?;
        Ok(handle)
    }

    /// Appends the IF node of a handle. Returns its empty body.
    pub fn add_if(&mut self, handle: u64) -> Result<Graph> {
        let mut raw = std::ptr::null_mut();
        // SAFETY: the graph is alive; the function writes one pointer and passes its ownership.
        let status = unsafe { sys::w4axk_graph_add_if(self.raw, handle, &mut raw) };
        let body = Graph { raw };
        status::check("cudaGraphAddNode", status)?;
        Ok(body)
    }

    /// Checks that a conditional node can run every node of this body.
    ///
    /// # Errors
    /// [`Error::GraphNode`] with the first node that it cannot run.
    pub fn check_body(&self, body: impl FnOnce() -> String) -> Result<()> {
        let mut node = 0;
        // SAFETY: the graph is alive; the function writes one number.
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
        // SAFETY: the graph is alive; the function writes one pointer.
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
        // SAFETY: this value owns the graph; null has no effect.
        unsafe { sys::w4axk_graph_destroy(self.raw) }
    }
}

/// A graph that can be launched.
pub(crate) struct Executable {
    raw: *mut core::ffi::c_void,
    gpu: Gpu,
}

// SAFETY: any thread may use the runtime's objects, one thread at a time: launches take `&mut`.
unsafe impl Send for Executable {}

impl Executable {
    pub fn launch(&mut self, stream: StreamRef<'_>) -> Result<()> {
        self.gpu.check_stream(stream)?;
        // SAFETY: the graph was instantiated on this device. Its owner keeps the memory whose
        // addresses it holds.
        status::check("cudaGraphLaunch", unsafe {
            sys::w4axk_graph_launch(self.gpu.number(), self.raw, stream.as_ptr())
        })
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        // SAFETY: this value owns the graph. CUDA lets a running launch finish first.
        unsafe { sys::w4axk_graph_exec_destroy(self.raw) }
    }
}

/// The text of a `cudaGraphNodeType`.
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
        _ => "a node of an unknown type",
    }
}
