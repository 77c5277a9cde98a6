//! What a step reports.

use serde::Serialize;
use serde_json::{Map, Value, json};
use w4ax::skip::Verdict;
use w4ax_robot::table::table;
use w4ax_vla::model::Vla;
use w4ax_vla::step::VlaStep;

use super::names;
use super::width::describe;

/// Bytes of each part of a model.
pub type Memory = Vec<(String, u64)>;

/// Returns the bytes of each part of a model.
pub fn memory(model: &Vla) -> Memory {
    let parts = model.bytes().into_iter();
    parts
        .map(|(part, bytes)| (part.to_string(), bytes))
        .collect()
}

/// A step as JSON.
#[derive(Serialize)]
struct StepJson<'a> {
    /// In the units of the data set: an action, or a list of actions if the model outputs chunks.
    action: Value,
    /// The tokens of the action; empty with an action head.
    tokens: &'a [u32],
    /// Bits.
    width_prefill: u32,
    /// Bits.
    width_decode: u32,
    /// By part, in microseconds.
    micros: Map<String, Value>,
    /// By part of the model.
    bytes: Map<String, Value>,
}

/// Returns a step as a line of JSON.
pub fn to_json(step: &VlaStep, memory: &Memory) -> String {
    let rows: Vec<&[f64]> = step.actions.chunks(step.dims).collect();
    let times = step.times.iter();
    let json = StepJson {
        action: match rows.as_slice() {
            [row] => json!(row),
            rows => json!(rows),
        },
        tokens: &step.tokens,
        width_prefill: step.report.prefill.bits(),
        width_decode: step.report.decode.width.bits(),
        micros: times
            .map(|(part, time)| (part.to_string(), json!(time.as_micros() as u64)))
            .collect(),
        bytes: (memory.iter())
            .map(|(part, bytes)| (part.clone(), json!(bytes)))
            .collect(),
    };
    // Plain data whose map keys are strings: serializing cannot fail.
    serde_json::to_string(&json).expect("a step is plain data") + "\n"
}

/// Prints the actions of a step, its width, and its times.
pub fn print(step: &VlaStep, unquantized: bool) {
    let names = names::names(step.dims);
    let header: Vec<&str> = names.iter().map(String::as_str).collect();
    let rows = step.actions.chunks(step.dims);
    let rows = rows.map(|row| row.iter().map(|x| format!("{x:.5}")).collect::<Vec<_>>());
    println!("{}", table(&header, rows));
    if !step.tokens.is_empty() {
        let tokens: Vec<String> = step.tokens.iter().map(u32::to_string).collect();
        println!("tokens: {}", tokens.join(" "));
    }
    let report = &step.report;
    if unquantized {
        println!("width: unquantized");
    } else {
        let why = match &report.decision {
            Some(decision) => describe(decision),
            None => "fixed".into(),
        };
        println!(
            "width: prefill {}, decode {} ({why}; the latch found it {})",
            report.prefill, report.decode.width, report.decode.outcome
        );
    }
    if let Some(skip) = &step.skip {
        let again = match skip.verdict {
            Verdict::RanAgain => ", those of a second pass included",
            _ => "",
        };
        let layers = skip.fates.len();
        println!("layers: {} ran of {layers}{again}", skip.layers_run);
    }
    let times = step.times.iter();
    let rows = times.map(|(part, time)| {
        let millis = format!("{:.1}", 1e3 * time.as_secs_f64());
        vec![part.to_string(), millis]
    });
    println!("{}", table(&["part", "ms"], rows));
}

/// Returns the table of a model's memory.
pub fn memory_table(memory: &Memory) -> impl std::fmt::Display {
    let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
    let sum = memory.iter().map(|(_, bytes)| bytes).sum();
    let rows = memory.iter().map(|(part, bytes)| (part.as_str(), *bytes));
    let rows = rows.chain([("all", sum)]);
    table(
        &["memory", "MB"],
        rows.map(|(part, bytes)| vec![part.to_owned(), megabytes(bytes)]),
    )
}
