//! The engine on a GPU: one stream, and x and y on the device.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use half::bf16;
use w4ax::cuda::cudarc::driver::{CudaSlice, CudaStream, DriverError};
use w4ax::cuda::{
    DeviceMatMut, DeviceMatRef, DeviceWeight, Gemm, Gpu, Latch, LatchOptions, MappedFlag,
    RoutedGraph, Workspace,
};
use w4ax::step::StepFlag;
use w4ax::{Error, Result, Width, WidthSource};

use super::{HostSteps, Routing, StepWidth, floors_unavailable};

/// A stream of a GPU with its buffers.
pub struct Engine {
    pub(super) gpu: Gpu,
    pub(super) routing: Routing,
    /// By the address of the weight, the number of rows and the floor; the weight stays alive with
    /// its graph. Dropped before the buffers whose addresses the graphs hold.
    graphs: HashMap<(usize, usize, Width), (RoutedGraph, Arc<DeviceWeight>)>,
    stream: Arc<CudaStream>,
    x: CudaSlice<bf16>,
    y: CudaSlice<bf16>,
    workspace: Workspace,
    latch: Latch,
    /// For [`Routing::Host`].
    steps: HostSteps,
}

fn failed(call: &'static str) -> impl Fn(DriverError) -> Error {
    move |source| Error::Driver { call, source }
}

impl Engine {
    pub(super) fn new(gpu: Gpu, routing: Routing, rows: usize, widest: usize) -> Result<Self> {
        let stream = gpu.context().new_stream().map_err(failed("new stream"))?;
        let memory = || {
            stream
                .alloc_zeros(rows * widest)
                .map_err(failed("allocating"))
        };
        let (x, y) = (memory()?, memory()?);
        let flag = Arc::new(MappedFlag::new(&gpu)?);
        Ok(Self {
            workspace: gpu.workspace(&stream, rows, widest)?,
            latch: gpu.latch(&stream, flag, 0)?,
            steps: HostSteps::new(),
            graphs: HashMap::new(),
            x,
            y,
            stream,
            gpu,
            routing,
        })
    }

    pub(super) fn words(&self) -> &StepFlag {
        match self.routing {
            Routing::Kernel | Routing::Graph => self.latch.flag(),
            Routing::Host => &self.steps.words,
        }
    }

    pub(super) fn latch(&mut self) -> Result<()> {
        match self.routing {
            Routing::Host => {
                self.steps.latch();
                Ok(())
            }
            Routing::Kernel | Routing::Graph => {
                let options = LatchOptions::default();
                self.gpu.begin_step(&self.stream, &self.latch, options)
            }
        }
    }

    pub(super) fn gemm(
        &mut self,
        rows: usize,
        x: &[bf16],
        weight: &Arc<DeviceWeight>,
        width: StepWidth,
        y: &mut [bf16],
    ) -> Result<()> {
        let (n, k) = (weight.n(), weight.k());
        let (x, y) = (&x[..rows * k], &mut y[..rows * n]);
        let (gpu, stream) = (&self.gpu, &self.stream);
        stream
            .memcpy_htod(x, &mut self.x)
            .map_err(failed("copying x"))?;
        {
            let x = DeviceMatRef::new(self.x.as_view(), rows, k)?;
            let mut y = DeviceMatMut::new(self.y.as_view_mut(), rows, n)?;
            let workspace = &mut self.workspace;
            let mut launch = |width: WidthSource<'_>| {
                gpu.run(stream, &Gemm::new(&x, weight, width), &mut y, workspace)
            };
            match (width, self.routing) {
                (StepWidth::Fixed(width), _) => launch(width.into())?,
                (_, Routing::Host) => launch(self.steps.width(width).into())?,
                (StepWidth::Latched, Routing::Kernel) => launch((&self.latch).into())?,
                (StepWidth::AtLeast(_), Routing::Kernel) => return Err(floors_unavailable()),
                (StepWidth::Latched | StepWidth::AtLeast(_), Routing::Graph) => {
                    let floor = match width {
                        StepWidth::AtLeast(floor) => floor,
                        _ => Width::A2,
                    };
                    let key = (Arc::as_ptr(weight).addr(), rows, floor);
                    let (graph, _) = match self.graphs.entry(key) {
                        Entry::Occupied(there) => there.into_mut(),
                        Entry::Vacant(new) => {
                            let enqueue = |width: Width| launch(width.max(floor).into());
                            // SAFETY: the map keeps the weight. The engine owns x, y, workspace and
                            // latch, and drops them after the graphs.
                            let graph =
                                unsafe { RoutedGraph::capture(gpu, stream, &self.latch, enqueue)? };
                            new.insert((graph, Arc::clone(weight)))
                        }
                    };
                    graph.launch(stream)?;
                }
            }
        }
        let result = self.y.slice(..rows * n);
        stream
            .memcpy_dtoh(&result, y)
            .map_err(failed("copying y"))?;
        stream.synchronize().map_err(failed("waiting for y"))
    }
}
