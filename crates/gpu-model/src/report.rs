//! Rows, as a table and as JSON.

use crate::device::call_bytes;
use crate::predict::Prediction;
use comfy_table::{CellAlignment, Table};
use w4ax::Result;
use w4ax::cuda::{BuildInfo, Problem};

/// A case's time.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Measured {
    pub median_us: f64,
    pub least_us: f64,
    pub most_us: f64,
    /// From the least to the most, over the median.
    pub spread: f64,
    pub replays: usize,
    pub calls_a_replay: usize,
}

impl Measured {
    /// Of replays' times in ascending order.
    pub fn of(times: &[f64], calls: usize) -> Self {
        let (least, most) = (times[0], times[times.len() - 1]);
        let median = times[times.len() / 2];
        let us = |time: f64| time / calls as f64;
        Self {
            median_us: us(median),
            least_us: us(least),
            most_us: us(most),
            spread: (most - least) / median,
            replays: times.len(),
            calls_a_replay: calls,
        }
    }
}

#[derive(serde::Serialize)]
pub struct Report {
    pub device: Option<serde_json::Value>,
    /// Of a device-to-device copy in this run.
    pub copy_gb_per_s: Option<f64>,
    built_for: &'static str,
    model: &'static str,
    rows: Vec<Row>,
}

#[derive(serde::Serialize)]
struct Row {
    chip: String,
    m: usize,
    n: usize,
    k: usize,
    width: String,
    grouping: String,
    /// What a call starts with: `bf16`, or `packed`.
    x: &'static str,
    kernel: &'static str,
    launches: u32,
    /// What crosses the memory bus, as the model counts it.
    bytes: f64,
    /// `None` where the machine code could not be read.
    predicted: Option<Prediction>,
    measured: Option<Measured>,
    gb_per_s: f64,
    /// Of the copy bandwidth, where it was measured.
    share: Option<f64>,
    tops: f64,
}

impl Report {
    pub fn new(info: BuildInfo) -> Self {
        Self {
            device: None,
            copy_gb_per_s: None,
            built_for: info.archs,
            model: "PREDICTED from bytes and machine code, not measured; what it counts and assumes: benches/cuda/static_model.rs",
            rows: Vec::new(),
        }
    }

    pub fn push(
        &mut self,
        chip: &str,
        case: &Problem,
        predicted: Option<Prediction>,
        measured: Option<Measured>,
    ) -> Result<()> {
        let plan = case.plan()?;
        let bytes = call_bytes(case, &plan)?;
        let predicted_us = predicted.as_ref().map_or(f64::NAN, |p| p.us);
        let us = measured.as_ref().map_or(predicted_us, |m| m.median_us);
        let gb_per_s = bytes / us / 1e3;
        self.rows.push(Row {
            chip: chip.to_owned(),
            m: case.m,
            n: case.n,
            k: case.k,
            width: case.width.to_string(),
            grouping: case.grouping.to_string(),
            x: if case.packed { "packed" } else { "bf16" },
            kernel: plan.kernel,
            launches: plan.launches,
            bytes,
            gb_per_s,
            share: self.copy_gb_per_s.map(|copy| gb_per_s / copy),
            tops: 2.0 * (case.m * case.n * case.k) as f64 / us / 1e6,
            predicted,
            measured,
        });
        Ok(())
    }

    pub fn print(&self) {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header([
            "chip",
            "N",
            "K",
            "groups",
            "M",
            "width",
            "x",
            "kernel",
            "predicted us",
            "bound",
            "of limit",
            "waves",
            "blocks/SM",
            "loop",
            "us",
            "least",
            "most",
            "GB/s",
            "of copy",
            "TOP/s",
        ]);
        let dash = || "-".to_owned();
        for row in &self.rows {
            let us = |f: fn(&Measured) -> f64| {
                row.measured
                    .as_ref()
                    .map_or_else(dash, |m| format!("{:.2}", f(m)))
            };
            let predicted =
                |f: fn(&Prediction) -> String| row.predicted.as_ref().map_or_else(dash, f);
            table.add_row([
                row.chip.clone(),
                row.n.to_string(),
                row.k.to_string(),
                row.grouping.clone(),
                row.m.to_string(),
                row.width.clone(),
                row.x.to_owned(),
                format!(
                    "{}{}",
                    if row.launches > 1 { "pack + " } else { "" },
                    row.kernel
                ),
                predicted(|p| format!("{:.2}", p.us)),
                predicted(|p| p.bound.to_owned()),
                predicted(|p| format!("{:.0} %", p.share * 100.0)),
                predicted(|p| format!("{:.2}", p.waves)),
                predicted(|p| p.blocks_per_sm.to_string()),
                predicted(|p| format!("{:.0}/{:.0}", p.loop_instructions, p.loop_mma)),
                us(|m| m.median_us),
                us(|m| m.least_us),
                us(|m| m.most_us),
                format!("{:.0}", row.gb_per_s),
                row.share
                    .map_or_else(dash, |share| format!("{:.0} %", share * 100.0)),
                format!("{:.1}", row.tops),
            ]);
        }
        for column in [1, 2, 4, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        println!(
            "{table}\n\n{}\nloop: instructions of a warp in an iteration of the main loop / multiplications among them",
            self.model
        );
    }
}
