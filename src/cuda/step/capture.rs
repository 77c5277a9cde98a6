//! The capture of a step: one graph for all widths, or one for each.

use super::graph::{ConditionalNodes, Executable, Graph};
use super::latch::{Conditionals, Latch, LatchOptions};
use crate::cuda::Gpu;
use crate::step::{Decide, PrefillWidth, StepOptions};
use crate::{Result, Width, WidthSource};
use cudarc::driver::CudaStream;
use std::sync::Arc;

/// A control step on a GPU. `prefill` and `decode` are captured: they run when the engine is
/// created, once for each graph, and only launch on the stream (they neither allocate nor
/// synchronize).
///
/// # Safety
/// The graphs of the engine hold bare addresses. All memory that `prefill` and `decode` use stays
/// at its address as long as the step lives, whatever `load` does and wherever the step itself is
/// moved. The engine drops its graphs before the step.
pub unsafe trait CudaStep {
    /// The input of a step.
    type Observation: ?Sized;

    /// Enqueues the copy of an observation to the memory that the step reads, before the graph of
    /// each step.
    ///
    /// # Errors
    /// Any; the step does not begin then.
    fn load(&mut self, observation: &Self::Observation, stream: &Arc<CudaStream>) -> Result<()>;

    /// Enqueues the tokens of the observation.
    ///
    /// # Errors
    /// Any; the engine is not created then.
    fn prefill(&mut self, width: WidthSource<'_>, stream: &Arc<CudaStream>) -> Result<()>;

    /// Enqueues the tokens of the action in sequence.
    ///
    /// # Errors
    /// As [`CudaStep::prefill`].
    fn decode(&mut self, width: WidthSource<'_>, stream: &Arc<CudaStream>) -> Result<()>;
}

/// The graphs of a step.
pub(super) enum Graphs {
    /// One graph for all widths.
    One(Executable),
    /// One graph for each width.
    Each {
        /// The part before the latch, if there is one.
        before: Option<Executable>,
        /// The latch, with its width forced, and the rest, in the order of [`Width::ALL`].
        steps: Box<[Executable; 4]>,
    },
}

/// Captures the graphs of an engine.
pub(super) struct GraphBuilder<'a, S> {
    pub gpu: &'a Gpu,
    pub stream: &'a Arc<CudaStream>,
    pub step: &'a mut S,
    pub latch: &'a Latch,
    pub options: StepOptions,
}

impl<S: CudaStep> GraphBuilder<'_, S> {
    /// Enqueues the part before the latch: the prefill, if the decision is made during it.
    fn before(&mut self) -> Result<()> {
        match self.options.decide() {
            Decide::BeforeStep => Ok(()),
            Decide::DuringPrefill(PrefillWidth::Fixed(width)) => {
                self.step.prefill(WidthSource::Fixed(width), self.stream)
            }
            // The latch still holds the width of the previous step.
            Decide::DuringPrefill(PrefillWidth::LastLatched) => self
                .step
                .prefill(WidthSource::Latched(self.latch), self.stream),
        }
    }

    fn latch(&self, forced: Option<Width>, conditionals: &Conditionals) -> Result<()> {
        let options = LatchOptions::default()
            .with_spin(self.options.spin())
            .with_forced(forced);
        self.gpu
            .launch_latch(self.stream.into(), self.latch, options, conditionals)
    }

    /// Enqueues the part after the latch.
    fn after(&mut self, width: WidthSource<'_>) -> Result<()> {
        if self.options.decide() == Decide::BeforeStep {
            self.step.prefill(width, self.stream)?;
        }
        self.step.decode(width, self.stream)
    }

    pub fn by_kernels(&mut self) -> Result<Graphs> {
        let mut graph = Graph::new(self.gpu)?;
        graph.capture(self.stream, || {
            self.before()?;
            self.latch(None, &Conditionals::NONE)?;
            self.after(WidthSource::Latched(self.latch))
        })?;
        Ok(Graphs::One(graph.instantiate(self.gpu)?))
    }

    pub fn by_nodes(&mut self, nodes: ConditionalNodes) -> Result<Graphs> {
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

    pub fn by_host(&mut self) -> Result<Graphs> {
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
