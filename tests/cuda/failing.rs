//! Steps that cannot be captured: what is wrong is told, and the stream goes on.

use crate::harness::Device;
use crate::support::dispatcher;
use cudarc::driver::CudaStream;
use std::sync::Arc;
use w4ax::cuda::{ConditionalNodes, CudaEngine, CudaStep, Routing, WidthSource};
use w4ax::step::{StepOptions, StepPipeline};
use w4ax::{Error, Result};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Prefill,
    Decode,
}

/// A step that does one thing in one part while it is captured, which names no memory to the stream.
struct Once<F>(Part, F);

// SAFETY: see above.
unsafe impl<F: FnMut(&Arc<CudaStream>) -> Result<()>> CudaStep for Once<F> {
    type Observation = ();
    fn load(&mut self, _: &(), _: &Arc<CudaStream>) -> Result<()> {
        Ok(())
    }
    fn prefill(&mut self, _: WidthSource<'_>, stream: &Arc<CudaStream>) -> Result<()> {
        match self.0 {
            Part::Prefill => (self.1)(stream),
            Part::Decode => Ok(()),
        }
    }
    fn decode(&mut self, _: WidthSource<'_>, stream: &Arc<CudaStream>) -> Result<()> {
        match self.0 {
            Part::Prefill => Ok(()),
            Part::Decode => (self.1)(stream),
        }
    }
}

/// A step with a host function in it cannot be a conditional body: the error names it. In the kernels' graph it may stand.
#[test]
#[ignore = "needs a CUDA GPU"]
fn a_host_function_in_a_body_is_named() {
    extern "C" fn nothing(_: *mut core::ffi::c_void) {}
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    let engine = |routing| {
        let step = Once(Part::Decode, |stream: &Arc<CudaStream>| {
            // SAFETY: the function does nothing.
            unsafe {
                cudarc::driver::sys::cuLaunchHostFunc(
                    stream.cu_stream(),
                    Some(nothing),
                    std::ptr::null_mut(),
                )
            }
            .result()
            .unwrap();
            Ok(())
        });
        CudaEngine::new(gpu, stream, step, routing, StepOptions::default())
    };
    if ConditionalNodes::available().is_some() {
        let error = engine(Routing::Graph).map(drop).unwrap_err();
        let Error::GraphNode { node, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(node, "a host function");
    }
    let mut pipeline = StepPipeline::new(engine(Routing::Kernel).unwrap(), dispatcher());
    pipeline.begin(&()).unwrap();
    pipeline.finish().unwrap();
    // The failed capture has left the stream as it was.
    stream.synchronize().unwrap();
}

/// Captures a step by each routing, which must give an error that is as `expected`, and leave the stream usable.
fn fails_alone(
    step: impl Fn(&Arc<CudaStream>) -> Result<()> + Copy,
    expected: impl Fn(&Error) -> bool,
) {
    let device = Device::new();
    let (gpu, stream) = (&device.gpu, &device.stream);
    let routings = [Routing::Kernel, Routing::Graph, Routing::Host];
    for (routing, part) in
        (routings.into_iter()).flat_map(|r| [(r, Part::Prefill), (r, Part::Decode)])
    {
        let step = Once(part, step);
        let engine = CudaEngine::new(gpu, stream, step, routing, StepOptions::default());
        let error = engine.map(drop).unwrap_err();
        assert!(expected(&error), "{routing:?} {part:?}: {error}");
        let zeros: Vec<u8> = stream
            .clone_dtoh(&stream.alloc_zeros::<u8>(4).unwrap())
            .unwrap();
        stream.synchronize().unwrap();
        assert_eq!(zeros, [0; 4]);
    }
}

/// A step that waits while it is captured, which CUDA forbids: an error, not the end of the process.
#[test]
#[ignore = "needs a CUDA GPU"]
fn a_step_that_waits_breaks_its_capture_and_nothing_else() {
    let waits = |stream: &Arc<CudaStream>| {
        assert!(stream.synchronize().is_err());
        Ok(())
    };
    fails_alone(waits, |error| {
        matches!(error, Error::Driver { .. } | Error::Cuda { .. })
    });
}

/// A step that fails while it is captured: its error comes out.
#[test]
#[ignore = "needs a CUDA GPU"]
fn a_failing_step_leaves_the_stream_usable() {
    fails_alone(
        |_| Err(Error::UnsupportedWidth(99)),
        |error| matches!(error, Error::UnsupportedWidth(99)),
    );
}
