//! What branches on the width of a step.

/// What branches on the width of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Routing {
    /// Each kernel: one launch with the code of all widths.
    #[default]
    Kernel,
    /// The graph: conditional nodes on the latch, whose bodies are the step at each width. Without
    /// support for conditional nodes it falls back to [`Routing::Host`];
    /// [`CudaEngine::routed`](crate::cuda::CudaEngine::routed) returns which it is.
    Graph,
    /// The host: one graph for each width, selected when the flag is stored.
    Host,
}

/// What branches on the width in the steps of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Routed {
    /// The kernels.
    Kernel,
    /// One SWITCH node of the graph.
    SwitchNode,
    /// Four IF nodes of the graph.
    IfNodes,
    /// The host, which reads the flag and selects a graph.
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
