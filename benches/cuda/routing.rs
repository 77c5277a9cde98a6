//! The cost of routing the GPU by the flag: per GEMM, per step of 32 decoder layers, and from the
//! store to the latch.
//!
//! Results are ratios of medians within one run. A GEMM is captured many times, each time with
//! other weights, so that none are in a cache. A step is the graph of a [`CudaEngine`], timed
//! between two CUDA events.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, Table};
use cudarc::driver::CudaStream;
use cudarc::driver::sys::{CUevent_flags, CUgraphInstantiate_flags, CUstreamCaptureMode};
use gpu_model::decoder::{Sizes, Stack};
use gpu_model::report::Measurement;
use half::bf16;
use serde::Serialize;
use w4ax::cuda::{
    CudaEngine, CudaStep, DeviceMatMut, DeviceMatRef, Gemm, LatchOptions, MappedFlag, Routing,
    cudarc, driver_version,
};
use w4ax::step::{StepEngine, StepFlag, StepOptions};
use w4ax::{Grouping, Width, WidthSource};

use crate::measure::Bench;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// One comparison: `ratio` is the median divided by the median of the baseline.
#[derive(Clone, Debug, Serialize)]
struct RoutingRow {
    what: String,
    case: String,
    baseline: String,
    times: Measurement,
    baseline_times: Measurement,
    ratio: f64,
}

impl RoutingRow {
    fn new(
        what: String,
        case: String,
        baseline: &str,
        times: Measurement,
        baseline_times: Measurement,
    ) -> Self {
        Self {
            what,
            case,
            baseline: baseline.into(),
            times,
            baseline_times,
            ratio: times.median_us / baseline_times.median_us,
        }
    }
}

#[derive(Serialize)]
struct RoutingReport {
    device: String,
    driver_cuda: Option<String>,
    archs: &'static str,
    layers: usize,
    /// Time to observe an action, to decide, and to store the decision.
    dispatcher_ns: f64,
    /// Share of that time in the shortest step.
    dispatcher_share: f64,
    store_to_latch: Measurement,
    rows: Vec<RoutingRow>,
}

impl Bench {
    /// Measures a GEMM over many weights in one graph, at a fixed width and at the same width from
    /// the latch.
    fn gemm(&self, m: usize, (n, k): (usize, usize), rows: &mut Vec<RoutingRow>) -> Result<()> {
        let (gpu, stream) = (&self.gpu, &self.stream);
        let layers = self.layers((n, k), Grouping::G128)?;
        let x = stream.clone_htod(&vec![bf16::from_f32(0.7); m * k])?;
        let mut y = stream.alloc_zeros::<bf16>(m * n)?;
        let mut workspace = gpu.workspace(stream, m, k)?;
        let flag = Arc::new(MappedFlag::new(gpu)?);
        let latch = gpu.latch(stream, flag, 0)?;
        let x = DeviceMatRef::new(x.as_view(), m, k)?;
        let mut y = DeviceMatMut::new(y.as_view_mut(), m, n)?;
        let calls = layers.len().max(16);
        let mut time = |width: WidthSource<'_>| -> Result<Measurement> {
            stream.synchronize()?;
            stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
            let launched = layers.iter().cycle().take(calls).try_for_each(|layer| {
                gpu.run(stream, &Gemm::new(&x, layer, width), &mut y, &mut workspace)
            });
            let graph = stream.end_capture(CUgraphInstantiate_flags(0));
            launched?;
            let graph = graph?.ok_or("the capture is empty")?;
            graph.upload()?;
            Ok(Measurement::new(self.times(&|| graph.launch())?, calls))
        };
        for width in Width::ALL {
            let options = LatchOptions::default().with_forced(width);
            gpu.begin_step(stream, &latch, options)?;
            let direct = time(WidthSource::Fixed(width))?;
            let routed = time(WidthSource::Latched(&latch))?;
            rows.push(RoutingRow::new(
                "GEMM, routed in the kernel".into(),
                format!("{n}x{k} M {m} {width}"),
                "the kernel of that width",
                routed,
                direct,
            ));
        }
        Ok(())
    }

    fn engine(&self, routing: Routing, layers: usize) -> Result<CudaEngine<Unloaded>> {
        let sizes = Sizes {
            layers,
            ..Sizes::LLAMA_2_7B
        };
        let step = Unloaded(Stack::new(&self.gpu, &self.stream, sizes)?);
        let options = StepOptions::default();
        Ok(CudaEngine::new(
            &self.gpu,
            &self.stream,
            step,
            routing,
            options,
        )?)
    }

    /// Runs steps at `widths` in turn, waiting for each. Returns the times of the steps at the last
    /// width.
    fn steps(
        &self,
        engine: &mut CudaEngine<Unloaded>,
        steps: &mut u32,
        widths: &[Width],
    ) -> Result<Measurement> {
        let timing = Some(CUevent_flags::CU_EVENT_DEFAULT);
        let context = self.gpu.context();
        let (start, end) = (context.new_event(timing)?, context.new_event(timing)?);
        let mut us = Vec::new();
        for repeat in 0..self.repeats + 3 {
            for &width in widths {
                engine.words().requested().store(*steps, width);
                start.record(&self.stream)?;
                engine.begin(*steps, &())?;
                end.record(&self.stream)?;
                engine.finish()?;
                let ran = engine.words().executed().ok_or("no step was executed")?;
                if (ran.sequence, ran.width) != (*steps, width) {
                    return Err(format!("step {steps} at {width}: executed {ran:?} instead").into());
                }
                *steps = steps.wrapping_add(1);
            }
            if repeat >= 3 {
                us.push(f64::from(start.elapsed_ms(&end)?) * 1e3);
            }
        }
        Ok(Measurement::new(us, 1))
    }

    /// Compares routing by kernels and by conditional nodes with graphs of one width. For each of
    /// the three, compares a step after a step of another width with a step after one of the same
    /// width.
    fn step_rows(&self, layers: usize, rows: &mut Vec<RoutingRow>) -> Result<()> {
        let mut host = Vec::new();
        for routing in [Routing::Host, Routing::Kernel, Routing::Graph] {
            let mut engine = self.engine(routing, layers)?;
            let (mut steps, mut steady) = (0, Vec::new());
            for width in Width::ALL {
                steady.push(self.steps(&mut engine, &mut steps, &[width])?);
            }
            let routed = engine.routed().to_string();
            if routing == Routing::Host {
                host.clone_from(&steady);
            }
            let case = |width: Width| format!("{layers} layers, M 1, {width}");
            for (at, width) in Width::ALL.into_iter().enumerate() {
                rows.push(RoutingRow::new(
                    format!("step, routed {routed}"),
                    case(width),
                    "a graph of that width",
                    steady[at],
                    host[at],
                ));
            }
            for (before, after) in [(3, 0), (3, 1), (1, 2), (0, 3)] {
                let widths = [before, after].map(|at: usize| Width::ALL[at]);
                let times = self.steps(&mut engine, &mut steps, &widths)?;
                rows.push(RoutingRow::new(
                    format!("switch, routed {routed}"),
                    format!("{} after {}", case(widths[1]), widths[0]),
                    "after a step of its own width",
                    times,
                    steady[after],
                ));
            }
        }
        Ok(())
    }

    /// Measures the time from the store of a word until the host sees that the waiting latch has
    /// executed it.
    fn store_to_latch(&self) -> Result<Measurement> {
        let flag = Arc::new(MappedFlag::new(&self.gpu)?);
        let latch = self.gpu.latch(&self.stream, flag.clone(), 0)?;
        let spin = LatchOptions::default().with_spin(Duration::from_millis(500));
        let mut us = Vec::new();
        for step in 0..200 {
            self.gpu.begin_step(&self.stream, &latch, spin)?;
            // By then the latch kernel has started and polls the flag.
            std::thread::sleep(Duration::from_micros(200));
            let begin = Instant::now();
            flag.requested().store(step, Width::A4);
            while flag.executed().is_none_or(|ran| ran.sequence != step) {
                std::hint::spin_loop();
                if begin.elapsed() > Duration::from_secs(1) {
                    return Err("the latch did not execute the step within one second".into());
                }
            }
            us.push(begin.elapsed().as_secs_f64() * 1e6);
        }
        self.stream.synchronize()?;
        Ok(Measurement::new(us, 1))
    }
}

/// A step whose input is the result of the previous step. Its time has no upload.
struct Unloaded(Stack);

// SAFETY: as for `Stack`, which allocates in `new` only.
unsafe impl CudaStep for Unloaded {
    type Observation = ();

    fn load(&mut self, _: &(), _: &Arc<CudaStream>) -> w4ax::Result<()> {
        Ok(())
    }

    fn prefill(&mut self, width: WidthSource<'_>, stream: &Arc<CudaStream>) -> w4ax::Result<()> {
        self.0.prefill(width, stream)
    }

    fn decode(&mut self, width: WidthSource<'_>, stream: &Arc<CudaStream>) -> w4ax::Result<()> {
        self.0.decode(width, stream)
    }
}

/// Returns the nanoseconds to observe an action, to decide, and to store the decision.
fn dispatcher_ns() -> Result<f64> {
    let mut dispatcher = test_support::dispatcher();
    let words = StepFlag::new();
    const STEPS: u32 = 100_000;
    let begin = Instant::now();
    for step in 0..STEPS {
        let speed = f64::from(step % 97) * 0.01;
        dispatcher.observe(&[speed, 0.0, 0.1, 0.0, speed * 0.1, 0.0, 1.0])?;
        words.requested().store(step, dispatcher.decide().active);
    }
    Ok(begin.elapsed().as_secs_f64() * 1e9 / f64::from(STEPS))
}

fn print(report: &RoutingReport) {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header([
        "what", "case", "us", "least", "most", "baseline", "its us", "ratio",
    ]);
    for row in &report.rows {
        table.add_row([
            row.what.clone(),
            row.case.clone(),
            format!("{:.2}", row.times.median_us),
            format!("{:.2}", row.times.least_us),
            format!("{:.2}", row.times.most_us),
            row.baseline.clone(),
            format!("{:.2}", row.baseline_times.median_us),
            format!("{:.3}", row.ratio),
        ]);
    }
    for column in [2, 3, 4, 6, 7] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    println!("{table}");
    println!(
        "from a stored word to its execution by the latch: {:.2} us ({:.2} to {:.2})",
        report.store_to_latch.median_us,
        report.store_to_latch.least_us,
        report.store_to_latch.most_us
    );
    println!(
        "to observe, decide and store: {:.0} ns, {:.4} % of the shortest step",
        report.dispatcher_ns,
        report.dispatcher_share * 100.0
    );
}

/// Measures all cases, prints a table and writes the report as JSON.
pub fn run(device: usize, repeats: usize, layers: usize, json: Option<&Path>) -> Result<()> {
    let info = w4ax::cuda::build_info()?;
    let bench = Bench::new(device, repeats)?;
    let mut rows = Vec::new();
    for (shape, m) in [
        ((4096, 4096), 1),
        ((12288, 4096), 1),
        ((22016, 4096), 1),
        ((4096, 11008), 1),
        ((4096, 4096), 16),
        ((4096, 4096), 290),
    ] {
        bench.gemm(m, shape, &mut rows)?;
    }
    bench.step_rows(layers, &mut rows)?;
    let dispatcher_ns = dispatcher_ns()?;
    let shortest = (rows.iter())
        .filter(|row| row.what.starts_with("step"))
        .map(|row| row.times.median_us)
        .fold(f64::INFINITY, f64::min);
    let report = RoutingReport {
        device: bench.gpu.name().to_owned(),
        driver_cuda: driver_version().map(|v| v.to_string()),
        archs: info.archs,
        layers,
        dispatcher_ns,
        dispatcher_share: dispatcher_ns / 1e3 / shortest,
        store_to_latch: bench.store_to_latch()?,
        rows,
    };
    print(&report);
    if let Some(path) = json {
        std::fs::write(path, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    Ok(())
}
