//! The cost of routing the GPU by the flag: per GEMM, per step of 32 decoder layers, and from the
//! store to the latch.
//!
//! Results are ratios of medians within one run. A GEMM is captured many times, each time with
//! other weights, so that none are in a cache. A step is the graph of a [`CudaEngine`], timed
//! between two CUDA events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cudarc::driver::CudaStream;
use cudarc::driver::sys::CUevent_flags;
use gpu_model::decoder::{Sizes, Stack};
use gpu_model::report::Measurement;
use serde::Serialize;
use w4ax::cuda::{
    CudaEngine, CudaStep, DeviceMatMut, DeviceMatRef, Gemm, LatchOptions, MappedFlag, Routing,
    cudarc, driver_version,
};
use w4ax::step::{StepEngine, StepFlag, StepOptions};
use w4ax::{Grouping, Scheme, Width, WidthSource};

use crate::measure::{Bench, Result, SHAPES};
use crate::output::{Output, table};

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
struct RoutingReport<'a> {
    device: &'a str,
    copy_gb_per_s: f64,
    driver_cuda: Option<String>,
    archs: &'static str,
    layers: usize,
    /// Time to observe an action, to decide, and to store the decision.
    dispatcher_ns: f64,
    /// Share of that time in the shortest step, if one was measured.
    dispatcher_share: Option<f64>,
    store_to_latch: Option<Measurement>,
    rows: &'a [RoutingRow],
}

impl Bench {
    /// Measures a GEMM over the weights of the stack in one graph, at a fixed width and at the same
    /// width from the latch.
    fn routed_gemm(&self, m: usize, shape: usize, rows: &mut Vec<RoutingRow>) -> Result<()> {
        let (gpu, stream) = (&self.gpu, &self.stream);
        let (n, k) = SHAPES[shape];
        let stack = self.stack((Scheme::Grouped, Grouping::G128))?;
        let x = self.activations(m * k)?;
        let mut y = stream.alloc_zeros(m * n)?;
        let mut workspace = gpu.workspace(stream, m, k)?;
        let flag = Arc::new(MappedFlag::new(gpu)?);
        let latch = gpu.latch(stream, flag, 0)?;
        let x = DeviceMatRef::new(x.as_view(), m, k)?;
        let mut y = DeviceMatMut::new(y.as_view_mut(), m, n)?;
        let mut time = |width: WidthSource<'_>| {
            self.replay(stack.len(), || {
                stack.of_shape(shape).try_for_each(|weight| {
                    let gemm = Gemm::new(&x, weight, width);
                    Ok(gpu.run(stream, &gemm, &mut y, &mut workspace)?)
                })
            })
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

    fn engine(&self, routing: Routing) -> Result<CudaEngine<Unloaded>> {
        let sizes = Sizes {
            layers: self.layers,
            ..Sizes::LLAMA_2_7B
        };
        let weights = self.stack((sizes.scheme, sizes.grouping))?;
        let (gpu, stream) = (&self.gpu, &self.stream);
        let step = Unloaded(Stack::with_layers(gpu, stream, sizes, weights)?);
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

    /// Compares a routing with graphs of one width, whose times are `host`. Compares a step after a
    /// step of another width with a step after one of the same width. Returns the times of steps at
    /// each width.
    fn step_rows(
        &self,
        routing: Routing,
        host: &[Measurement],
        rows: &mut Vec<RoutingRow>,
    ) -> Result<Vec<Measurement>> {
        let layers = self.layers;
        let mut engine = self.engine(routing)?;
        let (mut steps, mut steady) = (0, Vec::new());
        for width in Width::ALL {
            steady.push(self.steps(&mut engine, &mut steps, &[width])?);
        }
        let routed = engine.routed().to_string();
        let host = if routing == Routing::Host {
            &steady
        } else {
            host
        };
        let case = |width: Width| format!("{layers} layers, M 1, {width}");
        for (at, width) in Width::ALL.into_iter().enumerate() {
            if let Some(&host) = host.get(at) {
                rows.push(RoutingRow::new(
                    format!("step, routed {routed}"),
                    case(width),
                    "a graph of that width",
                    steady[at],
                    host,
                ));
            }
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
        Ok(steady)
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

/// Prints all rows, then the geometric mean, the lowest and the highest ratio of each comparison.
fn print(report: &RoutingReport<'_>, output: &Output) {
    let rows = |row: &RoutingRow| {
        vec![
            row.what.clone(),
            row.case.clone(),
            row.baseline.clone(),
            format!("{:.2}", row.times.median_us),
            format!("{:.2}", row.times.least_us),
            format!("{:.2}", row.times.most_us),
            format!("{:.2}", row.baseline_times.median_us),
            format!("{:.3}", row.ratio),
        ]
    };
    let header = [
        "what", "case", "baseline", "us", "least", "most", "its us", "ratio",
    ];
    let all = report.rows.iter().map(rows).collect();
    println!("{}", table(&header, 3, all));

    let mut ratios: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for row in report.rows {
        ratios.entry(&row.what).or_default().push(row.ratio);
    }
    let short = (ratios.iter()).map(|(what, ratios)| {
        let logs: f64 = ratios.iter().map(|ratio| ratio.ln()).sum();
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        vec![
            (*what).to_owned(),
            ratios.len().to_string(),
            format!("{:.3}", (logs / ratios.len() as f64).exp()),
            format!("{least:.3}"),
            format!("{most:.3}"),
        ]
    });
    let mut notes = Vec::new();
    if let Some(latch) = report.store_to_latch {
        notes.push(format!(
            "from a stored word to its execution by the latch: {:.2} us ({:.2} to {:.2})",
            latch.median_us, latch.least_us, latch.most_us
        ));
    }
    let share = report.dispatcher_share.map(|share| share * 100.0);
    notes.push(format!(
        "to observe, decide and store: {:.0} ns, {} of the shortest step",
        report.dispatcher_ns,
        share.map_or("an unknown share".to_owned(), |share| format!(
            "{share:.4} %"
        ))
    ));
    let header = ["what", "cases", "mean ratio", "least", "most"];
    output.print_last(&table(&header, 1, short.collect()), &notes);
}

/// Measures all cases, prints tables and writes the report after each case.
pub fn run(bench: &Bench, output: &mut Output) -> Result<()> {
    let archs = w4ax::cuda::build_info()?.archs;
    let dispatcher_ns = dispatcher_ns()?;
    let (mut rows, mut host) = (Vec::new(), Vec::new());
    let mut store_to_latch = None;
    let write = |output: &mut Output, rows: &[RoutingRow], store_to_latch| -> Result<()> {
        let report = report(bench, archs, dispatcher_ns, rows, store_to_latch);
        output.set(&report)
    };
    let step_us = bench.stack((Scheme::Grouped, Grouping::G128))?.bytes() as f64
        / bench.copy_gb_per_s()
        / 1e3;
    // Each routing runs the steps at each width, and pairs of widths.
    let steps = bench.expected(12.0 * step_us);
    for routing in [Routing::Host, Routing::Kernel, Routing::Graph] {
        if output.has_time(4 * steps, format!("steps, {routing:?}")) {
            let steady = bench.step_rows(routing, &host, &mut rows)?;
            if routing == Routing::Host {
                host = steady;
            }
            write(output, &rows, store_to_latch)?;
        }
    }
    if output.has_time(Duration::from_secs(2), "from the store to the latch") {
        store_to_latch = Some(bench.store_to_latch()?);
    }
    for (m, shape) in [(1, 1), (1, 0), (1, 2), (1, 3), (16, 1), (290, 1)] {
        let (n, k) = SHAPES[shape];
        if output.has_time(8 * bench.expected(step_us), format!("GEMM {n}x{k} M {m}")) {
            bench.routed_gemm(m, shape, &mut rows)?;
            write(output, &rows, store_to_latch)?;
        }
    }
    write(output, &rows, store_to_latch)?;
    print(
        &report(bench, archs, dispatcher_ns, &rows, store_to_latch),
        output,
    );
    Ok(())
}

fn report<'a>(
    bench: &'a Bench,
    archs: &'static str,
    dispatcher_ns: f64,
    rows: &'a [RoutingRow],
    store_to_latch: Option<Measurement>,
) -> RoutingReport<'a> {
    let shortest = (rows.iter())
        .filter(|row| row.what.starts_with("step"))
        .map(|row| row.times.median_us)
        .reduce(f64::min);
    RoutingReport {
        device: bench.gpu.name(),
        copy_gb_per_s: bench.copy_gb_per_s(),
        driver_cuda: driver_version().map(|v| v.to_string()),
        archs,
        layers: bench.layers,
        dispatcher_ns,
        dispatcher_share: shortest.map(|us| dispatcher_ns / 1e3 / us),
        store_to_latch,
        rows,
    }
}
