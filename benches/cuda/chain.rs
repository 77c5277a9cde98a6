//! The linear layers of Llama-2-7B in one graph: the time of all GEMMs of a decode.
//!
//! Measured twice: each launch after the end of the previous one, and with programmatic dependent
//! launch. The difference, divided by the launches, is the gap that dependent launch hides.

use std::cell::RefCell;
use std::sync::Arc;

use gpu_model::decoder::{Sizes, Stack};
use gpu_model::report::{Measurement, kind_of_weights};
use gpu_model::traffic::call_bytes;
use serde::Serialize;
use w4ax::cuda::{CudaStep, GemmOptions, Problem};
use w4ax::{Scheme, Width, WidthSource};

use crate::limits::Limits;
use crate::measure::{Bench, Result};
use crate::output::{Output, table};

const TOKENS: [usize; 3] = [1, 8, 16];
/// GEMMs of a layer.
const LAUNCHES: usize = 4;

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
struct ChainReport<'a> {
    device: &'a str,
    copy_gb_per_s: f64,
    limits: Limits,
    stack_layers: usize,
    rows: &'a [ChainRow],
}

impl Bench {
    fn chain(&self, sizes: Sizes, width: Width, stack: &RefCell<Stack>) -> Result<ChainRow> {
        let stream = &self.stream;
        stack.borrow_mut().load(&3, stream)?;
        let x = stream.clone_dtod(stack.borrow_mut().prefilled())?;
        // Every replay starts from the same activations: at 2 bits they grow from GEMM to GEMM.
        let restart = || stream.memcpy_dtod(&x, stack.borrow_mut().prefilled());
        let measured = self.replay_after(1, &restart, || {
            let mut stack = stack.borrow_mut();
            Ok(stack.prefill(WidthSource::Fixed(width), stream)?)
        })?;
        let mut bytes = 0.0;
        for (n, k) in sizes.shapes() {
            let case = Problem::new((sizes.prefill, n, k), width, sizes.grouping)
                .with_scheme(sizes.scheme)
                .with_options(GemmOptions::default().with_pdl(sizes.pdl));
            bytes += call_bytes(&case, &case.plan()?)? * sizes.layers as f64;
        }
        let gb_per_s = bytes / measured.median_us / 1e3;
        Ok(ChainRow {
            m: sizes.prefill,
            width: width.to_string(),
            grouping: kind_of_weights(sizes.scheme, sizes.grouping),
            layers: sizes.layers,
            pdl: sizes.pdl,
            bytes,
            share: gb_per_s / self.copy_gb_per_s(),
            gb_per_s,
            measured,
        })
    }
}

/// Returns a row per scheme, number of tokens and width, with and without dependent launch.
fn short_rows(rows: &[ChainRow]) -> Vec<Vec<String>> {
    let mut shown = Vec::new();
    for serial in rows.iter().filter(|row| !row.pdl) {
        let same = |row: &&ChainRow| {
            (row.m, &row.width, &row.grouping) == (serial.m, &serial.width, &serial.grouping)
        };
        let dependent = rows.iter().filter(|row| row.pdl).find(same);
        let Some(dependent) = dependent else { continue };
        let (serial_us, us) = (serial.measured.median_us, dependent.measured.median_us);
        shown.push(vec![
            serial.grouping.clone(),
            serial.m.to_string(),
            serial.width.clone(),
            format!("{serial_us:.1}"),
            format!("{us:.1}"),
            format!(
                "{:.2}",
                (serial_us - us) / (serial.layers * LAUNCHES) as f64
            ),
            format!("{:.0}", dependent.gb_per_s),
            format!("{:.0} %", dependent.share * 100.0),
            format!("{:.1} %", dependent.measured.spread * 100.0),
        ]);
    }
    shown
}

/// Measures all chains, those of grouped weights first, prints a table and writes the report after
/// each chain.
pub fn run(bench: &Bench, output: &mut Output) -> Result<()> {
    let limits = bench.limits()?;
    let mut rows = Vec::new();
    let schemes = [Scheme::Grouped, Scheme::TwoLevel];
    for (scheme, m) in (schemes.into_iter()).flat_map(|scheme| TOKENS.map(|m| (scheme, m))) {
        let weights = bench.stack((scheme, Sizes::LLAMA_2_7B.grouping))?;
        // A prefill of M tokens is one pass through the layers, as a decode of a batch of M is.
        let sizes = |pdl| Sizes {
            layers: bench.layers,
            prefill: m,
            decode: 0,
            scheme,
            pdl,
            ..Sizes::LLAMA_2_7B
        };
        let stack = |pdl| -> Result<RefCell<Stack>> {
            let (gpu, stream) = (&bench.gpu, &bench.stream);
            let stack = Stack::with_layers(gpu, stream, sizes(pdl), Arc::clone(&weights))?;
            Ok(RefCell::new(stack))
        };
        let stacks = [(false, stack(false)?), (true, stack(true)?)];
        for width in Width::ALL {
            for (pdl, stack) in &stacks {
                let what = format!("M {m} {width} {scheme} dependent {pdl}");
                let us = weights.bytes() as f64 / bench.copy_gb_per_s() / 1e3;
                if !output.has_time(bench.expected(us), what) {
                    continue;
                }
                rows.push(bench.chain(sizes(*pdl), width, stack)?);
                output.set(&ChainReport {
                    device: bench.gpu.name(),
                    copy_gb_per_s: bench.copy_gb_per_s(),
                    limits,
                    stack_layers: weights.len(),
                    rows: &rows,
                })?;
            }
        }
    }
    output.set(&serde_json::json!({}))?;
    let header = [
        "weights",
        "M",
        "width",
        "us",
        "dependent us",
        "gap us a launch",
        "GB/s",
        "of copy",
        "spread",
    ];
    output.print_last(&table(&header, 3, short_rows(&rows)), &limits.notes());
    Ok(())
}
