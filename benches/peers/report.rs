//! What was measured: rows for `target/peers.json`, and a table.

use comfy_table::{CellAlignment, Table};
use serde::{Deserialize, Serialize};

use crate::limits::Limits;

/// Ours against one peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub peer: String,
    pub width: String,
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub threads: usize,
    pub ours_ms: f64,
    pub peer_ms: f64,
    /// The peer's time over ours, the median of rounds in which both ran.
    pub ratio: f64,
    /// Of our weight, scales included.
    pub weight_bytes: usize,
}

impl Row {
    /// GB/s of our weight and scales, read once.
    pub fn gb_per_s(&self) -> f64 {
        self.weight_bytes as f64 / self.ours_ms / 1e6
    }

    /// Products a second, in 1e9.
    pub fn gmacs(&self) -> f64 {
        (self.m * self.n * self.k) as f64 / self.ours_ms / 1e6
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    pub isa: String,
    /// By count of threads, for each shape's bytes.
    pub limits: Vec<(usize, Limits)>,
    pub rows: Vec<Row>,
}

impl Report {
    pub fn new() -> Self {
        Self {
            isa: w4ax::cpu::Isa::best().name().into(),
            limits: Vec::new(),
            rows: Vec::new(),
        }
    }

    pub fn with(mut self, other: Self) -> Self {
        self.limits.extend(other.limits);
        self.rows.extend(other.rows);
        self
    }

    fn limits(&self, row: &Row) -> Option<&Limits> {
        self.limits
            .iter()
            .find(|(threads, limits)| (*threads, limits.bytes) == (row.threads, row.weight_bytes))
            .map(|(_, limits)| limits)
    }

    /// For each case the peer that is fastest, and how far from the machine's limits ours is.
    pub fn print(&self) {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header([
            "N x K",
            "threads",
            "M",
            "width",
            "ms",
            "best peer",
            "its ms",
            "ratio",
            "GB/s",
            "of read",
            "GMAC/s",
            "of dpbusd",
        ]);
        let case = |row: &Row| (row.n, row.k, row.threads, row.m, row.width.clone());
        for rows in self.rows.chunk_by(|a, b| case(a) == case(b)) {
            let Some(best) = rows.iter().min_by(|a, b| a.peer_ms.total_cmp(&b.peer_ms)) else {
                continue;
            };
            let share = |value: f64, limit: fn(&Limits) -> Option<f64>| {
                self.limits(best)
                    .and_then(limit)
                    .map_or("-".to_owned(), |limit| {
                        format!("{:.0} %", 100.0 * value / limit)
                    })
            };
            table.add_row([
                format!("{} x {}", best.n, best.k),
                best.threads.to_string(),
                best.m.to_string(),
                best.width.clone(),
                format!("{:.3}", best.ours_ms),
                best.peer.clone(),
                format!("{:.3}", best.peer_ms),
                format!("{:.2}", best.ratio),
                format!("{:.1}", best.gb_per_s()),
                share(best.gb_per_s(), |l| Some(l.read_gb_per_s)),
                format!("{:.0}", best.gmacs()),
                share(best.gmacs(), |l| l.dpbusd_gmacs),
            ]);
        }
        for column in [1, 2, 4, 6, 7, 8, 9, 10, 11] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        println!("{table}");
        for (threads, limits) in &self.limits {
            println!("{threads} threads: {limits}");
        }
    }
}
