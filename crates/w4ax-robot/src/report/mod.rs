//! The tables and figures of DyQ-VLA (arXiv 2603.07904) at the scale of this repository.
//!
//! | module | content |
//! | --- | --- |
//! | [`methods`] | methods side by side: error, [`success`], time, bytes and cost |
//! | [`ladder`], [`latency`] | the parts of the system, one after the other, on a [`workload`] |
//! | [`overheads`] | time and memory of each part of a decision |
//! | [`effects`] | success and terminal deviation against the error of one perturbed step |
//! | [`course`] | s_t, M and J over normalized time |
//! | [`sweep`] | theta_fp from 0 to 1 |
//!
//! The recorded observations do not react to the actions, so the error of a recorded step depends
//! on its width only. [`fixed`] computes all widths once, and the rules choose among them.

pub mod bars;
pub mod course;
mod course_plot;
pub mod effects;
mod effects_plot;
pub mod fixed;
pub mod interval;
pub mod ladder;
pub mod latency;
pub mod methods;
pub mod overheads;
pub mod success;
pub mod sweep;
mod sweep_plot;
pub mod workload;

use serde::Serialize;

/// Returns indented JSON with a newline at its end.
pub fn to_json(report: &impl Serialize) -> String {
    // Plain data whose map keys are strings: serializing cannot fail.
    serde_json::to_string_pretty(report).expect("a report is plain data") + "\n"
}

/// One number for each width.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ByWidth {
    /// At A2.
    pub a2: f64,
    /// At A4.
    pub a4: f64,
    /// At A8.
    pub a8: f64,
    /// At BF16 (W4A16).
    pub bf16: f64,
}

impl From<[f64; 4]> for ByWidth {
    fn from([a2, a4, a8, bf16]: [f64; 4]) -> Self {
        Self { a2, a4, a8, bf16 }
    }
}

impl ByWidth {
    /// Returns the numbers by [`Width::index`](w4ax::Width::index).
    pub const fn values(&self) -> [f64; 4] {
        [self.a2, self.a4, self.a8, self.bf16]
    }
}
