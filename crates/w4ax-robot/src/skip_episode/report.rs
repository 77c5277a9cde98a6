//! The rows, as a table and as JSON.

use comfy_table::Table;
use serde::Serialize;

use super::run::Step;
use crate::table::table;

/// What `--json` writes.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// A method at a width.
    pub rows: Vec<Row>,
}

/// A method at a width, over all steps.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub method: String,
    /// `bf16` (unquantized), `w4a16`, `w4a8`, `w4ax`.
    pub width: String,
    /// The share of layers that were picked to be static; none where they were not picked.
    pub static_ratio: Option<f64>,
    /// A controller's probability above this skips; none without controllers.
    pub threshold: Option<f32>,
    /// Mean L2 distance to the full, unquantized policy's actions.
    pub action_error: f64,
    /// Layers that ran, of those of a full pass; re-runs counted.
    pub layers_share: f64,
    /// Steps that ran again.
    pub reruns: usize,
    /// Numbers that were trained beside the policy, and are used.
    pub trainable_parameters: usize,
    /// How long the file's training took; none where nothing was trained, or the file does not say. Controllers without their adapters
    /// have it whole: they were trained beside them.
    pub training_seconds: Option<f64>,
    /// Mean time of a step, the shortest of its repetitions.
    pub micros: f64,
    /// The full policy's time at this width over this one.
    pub speedup: f64,
}

/// What the steps of a run come to.
pub struct Total {
    /// Mean.
    pub error: f64,
    /// Of `n` layers a step.
    pub layers_share: f64,
    /// Steps that ran again.
    pub reruns: usize,
    /// Mean.
    pub micros: f64,
}

impl Total {
    /// Of the steps of a stack of `n` layers.
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
    /// The rows of a width.
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

    /// Indented, with a newline at the end.
    pub fn to_json(&self) -> String {
        // No map keys but strings, no writer: serializing cannot fail.
        let json = serde_json::to_string_pretty(self);
        json.expect("a report is plain data") + "\n"
    }
}
