//! Predicted and measured times of calls, as a table and as JSON.

use comfy_table::{CellAlignment, Table};
use w4ax::cuda::{BuildInfo, Problem};
use w4ax::{Grouping, Scheme};

use crate::error::Result;
use crate::predict::Prediction;
use crate::traffic::{call_bytes, width};

const MODEL: &str = "PREDICTED from bytes and machine code, not measured; \
    for what is counted and assumed see crates/gpu-model/src/predict.rs";

/// Returns the name of a kind of weights in a report: `g128`, `two-level g128`.
pub fn kind_of_weights(scheme: Scheme, grouping: Grouping) -> String {
    match scheme {
        Scheme::TwoLevel => format!("two-level {grouping}"),
        _ => grouping.to_string(),
    }
}

/// The measured time of a call. Times are in microseconds per call.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Measurement {
    /// Median of the replays.
    pub median_us: f64,
    /// Shortest replay.
    pub least_us: f64,
    /// Longest replay.
    pub most_us: f64,
    /// Difference of the longest and the shortest replay, divided by the median.
    pub spread: f64,
    /// Timed replays.
    pub replays: usize,
    /// Calls of a replay.
    pub calls_a_replay: usize,
}

impl Measurement {
    /// Returns the statistics of the times of replays of `calls` calls each.
    ///
    /// # Panics
    /// If there are no times.
    pub fn new(mut replays_us: Vec<f64>, calls: usize) -> Self {
        replays_us.sort_by(f64::total_cmp);
        let (least, most) = (replays_us[0], replays_us[replays_us.len() - 1]);
        let median = replays_us[replays_us.len() / 2];
        let us = |time: f64| time / calls as f64;
        Self {
            median_us: us(median),
            least_us: us(least),
            most_us: us(most),
            spread: (most - least) / median,
            replays: replays_us.len(),
            calls_a_replay: calls,
        }
    }
}

/// Times of GEMMs on one or several devices.
#[derive(Debug, serde::Serialize)]
pub struct GemmReport {
    /// Properties of the device of the measurements.
    pub device: Option<serde_json::Value>,
    /// Bandwidth of a device-to-device copy on it, bytes read and written.
    pub copy_gb_per_s: Option<f64>,
    built_for: &'static str,
    model: &'static str,
    rows: Vec<GemmRow>,
}

#[derive(Debug, serde::Serialize)]
struct GemmRow {
    chip: String,
    m: usize,
    n: usize,
    k: usize,
    width: String,
    grouping: String,
    /// What a call starts with: `bf16`, or `packed` for quantized activations.
    x: &'static str,
    kernel: &'static str,
    launches: u32,
    /// Bytes that must move, as the model counts them.
    bytes: f64,
    /// `None` if the machine code could not be read.
    predicted: Option<Prediction>,
    measured: Option<Measurement>,
    gb_per_s: f64,
    /// Share of the copy bandwidth, where that was measured.
    share: Option<f64>,
    tops: f64,
}

impl GemmReport {
    /// Returns a report without rows.
    pub fn new(info: BuildInfo) -> Self {
        Self {
            device: None,
            copy_gb_per_s: None,
            built_for: info.archs,
            model: MODEL,
            rows: Vec::new(),
        }
    }

    /// Adds a call with its predicted or measured time.
    ///
    /// # Errors
    /// If no kernel supports the call.
    pub fn push(
        &mut self,
        device: &str,
        case: &Problem,
        predicted: Option<Prediction>,
        measured: Option<Measurement>,
    ) -> Result<()> {
        let plan = case.plan()?;
        let bytes = call_bytes(case, &plan)?;
        let predicted_us = predicted.as_ref().map_or(f64::NAN, |p| p.us);
        let us = measured.as_ref().map_or(predicted_us, |m| m.median_us);
        let gb_per_s = bytes / us / 1e3;
        self.rows.push(GemmRow {
            chip: device.to_owned(),
            m: case.m(),
            n: case.n(),
            k: case.k(),
            width: width(case).to_string(),
            grouping: kind_of_weights(case.scheme(), case.grouping()),
            x: if case.quantized() { "packed" } else { "bf16" },
            kernel: plan.kernel,
            launches: plan.launches,
            bytes,
            gb_per_s,
            share: self.copy_gb_per_s.map(|copy| gb_per_s / copy),
            tops: 2.0 * (case.m() * case.n() * case.k()) as f64 / us / 1e6,
            predicted,
            measured,
        });
        Ok(())
    }

    /// Prints the rows as a table.
    pub fn print(&self) {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header([
            "device",
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
        table.add_rows(self.rows.iter().map(GemmRow::cells));
        for column in [1, 2, 4, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        println!(
            "{table}\n\n{}\n\
             loop: instructions of a warp in an iteration of the main loop / matrix \
             multiplications among them",
            self.model
        );
    }
}

impl GemmRow {
    fn cells(&self) -> [String; 20] {
        let dash = || "-".to_owned();
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        let measured = |f: fn(&Measurement) -> f64| {
            (self.measured.as_ref()).map_or_else(dash, |m| format!("{:.2}", f(m)))
        };
        let predicted =
            |f: &dyn Fn(&Prediction) -> String| self.predicted.as_ref().map_or_else(dash, f);
        let quantizes_first = self.launches > 1;
        [
            self.chip.clone(),
            self.n.to_string(),
            self.k.to_string(),
            self.grouping.clone(),
            self.m.to_string(),
            self.width.clone(),
            self.x.to_owned(),
            format!(
                "{}{}",
                if quantizes_first { "pack + " } else { "" },
                self.kernel
            ),
            predicted(&|p| format!("{:.2}", p.us)),
            predicted(&|p| p.bound.to_owned()),
            predicted(&|p| percent(p.share)),
            predicted(&|p| format!("{:.2}", p.waves)),
            predicted(&|p| p.blocks_per_sm.to_string()),
            predicted(&|p| format!("{:.0}/{:.0}", p.loop_instructions, p.loop_mma)),
            measured(|m| m.median_us),
            measured(|m| m.least_us),
            measured(|m| m.most_us),
            format!("{:.0}", self.gb_per_s),
            self.share.map_or_else(dash, percent),
            format!("{:.1}", self.tops),
        ]
    }
}
