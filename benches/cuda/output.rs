//! The report of a part: rewritten after every case, within a deadline.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, Table};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::args::Args;
use crate::measure::Result;

/// Printed ahead of the short table, which is the last of the output.
pub const SHORT_TABLE: &str = "== summary";

/// The report of a part so far.
pub struct Output {
    path: Option<PathBuf>,
    begin: Instant,
    deadline: Option<Duration>,
    document: Map<String, Value>,
    not_measured: Vec<String>,
}

impl Output {
    /// Returns an empty report. The deadline counts from `begin`.
    pub fn new(args: &Args, begin: Instant) -> Result<Self> {
        let deadline = match args.deadline {
            None => None,
            Some(seconds) => Some(Duration::try_from_secs_f64(seconds).map_err(|_| {
                format!("invalid --deadline {seconds}: expected a number of seconds above 0")
            })?),
        };
        Ok(Self {
            path: args.json.clone(),
            begin,
            deadline,
            document: Map::new(),
            not_measured: Vec::new(),
        })
    }

    /// Returns whether a case can be expected to end in time. If not, the report lists it as not
    /// measured.
    pub fn has_time(&mut self, expected: Duration, case: impl Into<String>) -> bool {
        let Some(deadline) = self.deadline else {
            return true;
        };
        let in_time = self.begin.elapsed() + expected <= deadline;
        if !in_time {
            self.not_measured.push(case.into());
        }
        in_time
    }

    /// Sets the fields of `value` in the report and replaces the file.
    pub fn set(&mut self, value: &impl Serialize) -> Result<()> {
        if let Value::Object(fields) = serde_json::to_value(value)? {
            self.document.extend(fields);
        }
        let missing = serde_json::to_value(&self.not_measured)?;
        self.document.insert("not_measured".into(), missing);
        let seconds = self.begin.elapsed().as_secs_f64();
        self.document.insert("seconds".into(), seconds.into());
        if let Some(path) = &self.path {
            // A program that is stopped leaves the previous report.
            let mut staging = path.clone().into_os_string();
            staging.push(".part");
            let text = serde_json::to_string_pretty(&self.document)? + "\n";
            std::fs::write(&staging, text)?;
            std::fs::rename(&staging, path)?;
        }
        Ok(())
    }

    /// Prints the short table, and how many cases were not measured.
    pub fn print_last(&self, table: &Table, notes: &[String]) {
        println!("{SHORT_TABLE}\n{table}");
        for note in notes {
            println!("{note}");
        }
        if !self.not_measured.is_empty() {
            println!(
                "not measured, for lack of time: {} cases, the first: {}",
                self.not_measured.len(),
                self.not_measured[0]
            );
        }
    }
}

/// Returns a table of which the columns from `first_number` on are aligned to the right.
pub fn table(header: &[&str], first_number: usize, rows: Vec<Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(header);
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(first_number) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
