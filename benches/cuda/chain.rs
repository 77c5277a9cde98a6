//! The linear layers of Llama-2-7B one after the other in one graph: what a decode's GEMMs take together, each launch after the
//! end of the one before it, and with programmatic dependent launch.

use std::cell::RefCell;
use std::path::Path;

use comfy_table::{CellAlignment, Table};
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use serde::Serialize;
use w4ax::Width;
use w4ax::cuda::{CudaStep, GemmOptions, Problem, WidthSource};

use gpu_model::decoder::{Sizes, Stack};
use gpu_model::device;
use gpu_model::report::Measured;

use crate::measure::Bench;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const TOKENS: [usize; 3] = [1, 8, 16];

#[derive(Serialize)]
struct Row {
    m: usize,
    width: String,
    grouping: String,
    layers: usize,
    pdl: bool,
    /// What crosses the memory bus, as the model counts it.
    bytes: f64,
    measured: Measured,
    gb_per_s: f64,
    /// Of the copy bandwidth.
    share: f64,
}

#[derive(Serialize)]
struct Report {
    device: String,
    copy_gb_per_s: f64,
    rows: Vec<Row>,
}

impl Bench {
    fn chain(&self, sizes: Sizes, width: Width, stack: &RefCell<Stack>) -> Result<Row> {
        let stream = &self.stream;
        stack.borrow_mut().load(&3, stream)?;
        let x = stream.clone_dtod(stack.borrow_mut().prefilled())?;
        stream.synchronize()?;
        stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
        let launched = stack
            .borrow_mut()
            .prefill(WidthSource::Fixed(width), stream);
        // The capture ends in any case; the launches' error says more than its own.
        let graph = stream.end_capture(CUgraphInstantiate_flags(0));
        launched?;
        let graph = graph?.ok_or("nothing was captured")?;
        graph.upload()?;
        // Each from the same activations: at 2 bits they grow from GEMM to GEMM.
        let restart = || stream.memcpy_dtod(&x, stack.borrow_mut().prefilled());
        let times = self.times_after(&restart, &|| graph.launch())?;
        let mut bytes = 0.0;
        for (n, k) in sizes.shapes() {
            let case = Problem {
                m: sizes.prefill,
                n,
                k,
                width,
                latched: false,
                grouping: sizes.grouping,
                packed: false,
                options: GemmOptions {
                    pdl: sizes.pdl,
                    ..Default::default()
                },
            };
            bytes += device::call_bytes(&case, &case.plan()?)? * sizes.layers as f64;
        }
        let measured = Measured::of(&times, 1);
        let gb_per_s = bytes / measured.median_us / 1e3;
        Ok(Row {
            m: sizes.prefill,
            width: width.to_string(),
            grouping: sizes.grouping.to_string(),
            layers: sizes.layers,
            pdl: sizes.pdl,
            bytes,
            share: gb_per_s / self.copy_gb_per_s(),
            gb_per_s,
            measured,
        })
    }
}

fn print(report: &Report) {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header([
        "layers", "M", "width", "launches", "us", "least", "most", "GB/s", "of copy",
    ]);
    for row in &report.rows {
        table.add_row([
            row.layers.to_string(),
            row.m.to_string(),
            row.width.clone(),
            if row.pdl { "overlap" } else { "wait" }.to_owned(),
            format!("{:.1}", row.measured.median_us),
            format!("{:.1}", row.measured.least_us),
            format!("{:.1}", row.measured.most_us),
            format!("{:.0}", row.gb_per_s),
            format!("{:.0} %", row.share * 100.0),
        ]);
    }
    for column in [0, 1, 4, 5, 6, 7, 8] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    println!("{table}");
}

/// Measures all, prints it, and writes it as JSON.
pub fn run(device: usize, repeats: usize, layers: usize, json: Option<&Path>) -> Result<()> {
    let bench = Bench::new(device, repeats)?;
    let mut rows = Vec::new();
    for m in TOKENS {
        for pdl in [false, true] {
            // Its prefill is one pass of M tokens through the layers, which is what a batch's decode is.
            let sizes = Sizes {
                layers,
                prefill: m,
                decode: 0,
                pdl,
                ..Sizes::LLAMA_2_7B
            };
            let stack = RefCell::new(Stack::new(&bench.gpu, &bench.stream, sizes)?);
            for width in Width::ALL {
                rows.push(bench.chain(sizes, width, &stack)?);
            }
        }
    }
    let report = Report {
        device: bench.name().to_owned(),
        copy_gb_per_s: bench.copy_gb_per_s(),
        rows,
    };
    print(&report);
    if let Some(path) = json {
        std::fs::write(path, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    Ok(())
}
