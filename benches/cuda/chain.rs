//! The linear layers of Llama-2-7B in one graph: the time of all GEMMs of a decode.
//!
//! Measured twice: each launch after the end of the previous one, and with programmatic dependent
//! launch.

use std::cell::RefCell;
use std::path::Path;

use comfy_table::{CellAlignment, Table};
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use serde::Serialize;
use w4ax::cuda::{CudaStep, GemmOptions, Problem};
use w4ax::{Width, WidthSource};

use gpu_model::decoder::{Sizes, Stack};
use gpu_model::report::Measurement;
use gpu_model::traffic::call_bytes;

use crate::measure::Bench;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const TOKENS: [usize; 3] = [1, 8, 16];

#[derive(Serialize)]
struct ChainRow {
    m: usize,
    width: String,
    grouping: String,
    layers: usize,
    pdl: bool,
    /// Bytes that must move, as the model counts them.
    bytes: f64,
    measured: Measurement,
    gb_per_s: f64,
    /// Share of the copy bandwidth.
    share: f64,
}

#[derive(Serialize)]
struct ChainReport {
    device: String,
    copy_gb_per_s: f64,
    rows: Vec<ChainRow>,
}

impl Bench {
    fn chain(&self, sizes: Sizes, width: Width, stack: &RefCell<Stack>) -> Result<ChainRow> {
        let stream = &self.stream;
        stack.borrow_mut().load(&3, stream)?;
        let x = stream.clone_dtod(stack.borrow_mut().prefilled())?;
        stream.synchronize()?;
        stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
        let launched = stack
            .borrow_mut()
            .prefill(WidthSource::Fixed(width), stream);
        // The capture must end in any case. An error of the launches is reported first because it
        // names the cause.
        let graph = stream.end_capture(CUgraphInstantiate_flags(0));
        launched?;
        let graph = graph?.ok_or("the capture is empty")?;
        graph.upload()?;
        // Every replay starts from the same activations: at 2 bits they grow from GEMM to GEMM.
        let restart = || stream.memcpy_dtod(&x, stack.borrow_mut().prefilled());
        let times = self.times_after(&restart, &|| graph.launch())?;
        let mut bytes = 0.0;
        for (n, k) in sizes.shapes() {
            let case = Problem::new((sizes.prefill, n, k), width, sizes.grouping)
                .with_options(GemmOptions::default().with_pdl(sizes.pdl));
            bytes += call_bytes(&case, &case.plan()?)? * sizes.layers as f64;
        }
        let measured = Measurement::new(times, 1);
        let gb_per_s = bytes / measured.median_us / 1e3;
        Ok(ChainRow {
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

fn print(report: &ChainReport) {
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

/// Measures all chains, prints a table and writes the report as JSON.
pub fn run(device: usize, repeats: usize, layers: usize, json: Option<&Path>) -> Result<()> {
    let bench = Bench::new(device, repeats)?;
    let mut rows = Vec::new();
    for m in TOKENS {
        for pdl in [false, true] {
            // A prefill of M tokens is one pass through the layers, as a decode of a batch of M is.
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
    let report = ChainReport {
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
