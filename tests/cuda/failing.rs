//! Steps that cannot be captured: they return an error, and the stream stays usable.

use crate::harness::Device;
use crate::support::dispatcher;
use cudarc::driver::CudaStream;
use std::sync::Arc;
use w4ax::cuda::{ConditionalNodes, CudaEngine, CudaStep, Routing};
use w4ax::step::{StepOptions, StepPipeline};
use w4ax::{Error, Result, WidthSource};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Prefill,
    Decode,
}

/// A step that calls a function in one part of its capture. The function uses no memory.
struct Once<F>(Part, F);

// SAFETY: the step uses no memory.
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

/// A step with a host function cannot be a conditional body, and the error names the node. A graph
/// of routed kernels may contain it.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn reports_host_function_in_conditional_body() {
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
    // The failed capture did not change the stream.
    stream.synchronize().unwrap();
}

/// Captures a step with each routing. Each capture must return the `expected` error and leave the
/// stream usable.
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

/// A step that synchronizes during its capture, which CUDA forbids, returns an error.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn synchronizing_step_fails_its_capture_only() {
    let waits = |stream: &Arc<CudaStream>| {
        assert!(stream.synchronize().is_err());
        Ok(())
    };
    fails_alone(waits, |error| matches!(error, Error::Cuda { .. }));
}

/// A step that fails during its capture: the engine returns its error.
#[test]
#[cfg_attr(not(w4ax_software_device), ignore = "needs a CUDA GPU")]
fn failing_step_leaves_stream_usable() {
    fails_alone(
        |_| Err(Error::UnsupportedWidth(99)),
        |error| matches!(error, Error::UnsupportedWidth(99)),
    );
}
