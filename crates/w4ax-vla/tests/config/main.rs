//! The configuration files of a checkpoint.

mod model;
mod processor;
mod statistics;

use serde_json::Value;
use std::path::PathBuf;

fn folder(model: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(model)
}

/// The content of a JSON file of the small checkpoint.
fn json(file: &str) -> Value {
    let text = std::fs::read_to_string(folder("openvla-tiny").join(file)).unwrap();
    serde_json::from_str(&text).unwrap()
}
