//! Control steps on a GPU: captured once, launched once per step, routed by the flag.
//!
//! ```sh
//! cargo run --release --features cuda --example 6_cuda_step
//! ```

use cudarc::driver::{CudaSlice, CudaStream};
use half::bf16;
use std::sync::Arc;
use w4ax::cuda::{self, CudaEngine, CudaStep, DeviceMatMut, DeviceMatRef, Gemm, Gpu, Routing};
use w4ax::dispatch::{DispatchConfig, Dispatcher, MotionScale, Thresholds};
use w4ax::step::{StepOptions, StepPipeline};
use w4ax::{Error, Grouping, MatRef, Quantize, Result, WidthSource};

const TOKENS: usize = 290;
const SIZE: usize = 1024;

/// A policy of one square layer.
struct Policy {
    gpu: Gpu,
    weight: cuda::DeviceWeight,
    x: CudaSlice<bf16>, // [TOKENS, SIZE]
    y: CudaSlice<bf16>, // [TOKENS, SIZE]
    workspace: cuda::Workspace,
}

impl Policy {
    fn layer(&mut self, m: usize, width: WidthSource<'_>, stream: &Arc<CudaStream>) -> Result<()> {
        let x = DeviceMatRef::new(self.x.slice(..m * SIZE), m, SIZE)?;
        let mut y = DeviceMatMut::new(self.y.slice_mut(..m * SIZE), m, SIZE)?;
        self.gpu.run(
            stream,
            &Gemm::new(&x, &self.weight, width),
            &mut y,
            &mut self.workspace,
        )
    }
}

// SAFETY: the fields own device memory, which stays at its address while they live.
unsafe impl CudaStep for Policy {
    type Observation = [bf16];
    fn load(&mut self, observation: &[bf16], stream: &Arc<CudaStream>) -> Result<()> {
        let copied = stream.memcpy_htod(observation, &mut self.x);
        copied.map_err(|source| Error::Driver {
            call: "memcpy",
            source,
        })
    }
    fn prefill(&mut self, width: WidthSource<'_>, stream: &Arc<CudaStream>) -> Result<()> {
        self.layer(TOKENS, width, stream)
    }
    fn decode(&mut self, width: WidthSource<'_>, stream: &Arc<CudaStream>) -> Result<()> {
        (0..7).try_for_each(|_| self.layer(1, width, stream))
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let gpu = Gpu::new(0)?;
    // SAFETY: all memory belongs to one stream, so no use of it needs an event. An event of earlier
    // work would tie a captured step to that work.
    unsafe { gpu.context().disable_event_tracking() };
    let stream = gpu.context().new_stream()?;
    let plain: Vec<f32> = (0..SIZE * SIZE)
        .map(|i| (i % 17) as f32 / 17.0 - 0.5)
        .collect();
    let packed = Quantize::new(Grouping::G128).pack(MatRef::new(&plain, SIZE, SIZE)?)?;
    let policy = Policy {
        weight: gpu.upload(&packed)?,
        x: stream.alloc_zeros(TOKENS * SIZE)?,
        y: stream.alloc_zeros(TOKENS * SIZE)?,
        workspace: gpu.workspace(&stream, TOKENS, SIZE)?,
        gpu: gpu.clone(),
    };
    let motion = MotionScale {
        mu_max: 0.9,
        nu_max: 0.2,
    };
    let thresholds = Thresholds {
        theta_24: 0.275,
        theta_48: 0.4,
        theta_fp: 0.5,
    };
    let dispatcher = Dispatcher::new(&DispatchConfig::new(motion, thresholds))?;

    let engine = CudaEngine::new(
        &gpu,
        &stream,
        policy,
        Routing::Kernel,
        StepOptions::default(),
    )?;
    println!("routed {}", engine.routed());
    let mut pipeline = StepPipeline::new(engine, dispatcher);
    let mut action = [0.3f64, 0.0, -0.1, 0.0, 0.0, 0.0, 1.0];
    for _ in 0..20 {
        pipeline.begin(&vec![bf16::ONE; TOKENS * SIZE])?;
        let report = pipeline.finish()?;
        println!("step {}: {}", report.sequence, report.decode.width);
        action[0] *= 0.9; // A real policy decodes its action from the outputs.
        pipeline.decide(&[action])?; // The width of the next step: one store, no driver call.
    }
    Ok(())
}
