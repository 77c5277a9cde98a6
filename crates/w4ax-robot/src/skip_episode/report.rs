//! The rows of `w4ax skip-episode`, as a table and as JSON.

use comfy_table::Table;
use serde::Serialize;

use super::run::Step;
use crate::table::table;

/// The file of `--json`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// One per method and width.
    pub rows: Vec<Row>,
}

/// The result of a method at a width over all steps.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The name of the method.
    pub method: String,
    /// `bf16` (unquantized), `w4a16`, `w4a8`, `w4ax`.
    pub width: String,
    /// The share of static layers in the training; `None` if no layer is static.
    pub static_ratio: Option<f64>,
    /// A controller skips if its probability is above this; `None` without controllers.
    pub threshold: Option<f32>,
    /// Mean L2 distance to the actions of the full, unquantized policy.
    pub action_error: f64,
    /// Layers that ran, re-runs included, as a share of a full pass.
    pub layers_share: f64,
    /// Steps that ran again.
    pub reruns: usize,
    /// Parameters of the networks that the method uses.
    pub trainable_parameters: usize,
    /// Duration of the training; `None` if nothing was trained, or the file does not have it.
    /// Controllers without their adapters have the whole duration: they were trained together.
    pub training_seconds: Option<f64>,
    /// Mean time of a step in microseconds, the shortest of its repetitions.
    pub micros: f64,
    /// The full policy's time at this width divided by this time.
    pub speedup: f64,
}

/// The totals of a run.
pub struct Total {
    /// Mean action error.
    pub error: f64,
    /// Mean share of layers that ran.
    pub layers_share: f64,
    /// Steps that ran again.
    pub reruns: usize,
    /// Mean time in microseconds.
    pub micros: f64,
}

impl Total {
    /// Averages the steps of a stack of `n` layers.
    pub fn of(steps: &[Step], n: usize) -> Self {
        let mean = |of: &dyn Fn(&Step) -> f64| {
            steps.iter().map(of).sum::<f64>() / steps.len().max(1) as f64
        };
        Self {
            error: mean(&|step| step.error),
            layers_share: mean(&|step| step.layers_run as f64 / n as f64),
            reruns: steps.iter().filter(|step| step.reran).count(),
            micros: mean(&|step| step.time.as_secs_f64() * 1e6),
        }
    }
}

impl Report {
    /// Returns the table of a width.
    pub fn table(&self, width: &str) -> Table {
        let rows = self.rows.iter().filter(|row| row.width == width);
        let row = |row: &Row| {
            vec![
                row.method.clone(),
                row.threshold.map_or("-".into(), |p| format!("{p:.2}")),
                format!("{:.4}", row.action_error),
                format!("{:.1} %", 100.0 * row.layers_share),
                row.reruns.to_string(),
                match row.trainable_parameters {
                    0 => "-".into(),
                    parameters => format!("{:.2} M", parameters as f64 / 1e6),
                },
                row.training_seconds
                    .map_or("-".into(), |s| format!("{s:.0} s")),
                format!("{:.0}", row.micros),
                format!("{:.2}", row.speedup),
            ]
        };
        let header = [
            width, "p >", "error", "layers", "re-runs", "trained", "in", "us", "speed-up",
        ];
        table(&header, rows.map(row))
    }

    /// Returns indented JSON with a newline at its end.
    pub fn to_json(&self) -> String {
        // Plain data whose map keys are strings: serializing cannot fail.
        let json = serde_json::to_string_pretty(self);
        json.expect("a report is plain data") + "\n"
    }
}
