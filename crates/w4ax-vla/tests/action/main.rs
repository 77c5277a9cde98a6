//! Tokens, units of data sets, states and the gripper.

mod bins;
mod libero;
mod normalization;

use serde_json::Value;
use std::path::PathBuf;

fn folder(model: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(model)
}

/// The cases of a model's reference values.
fn cases(model: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder(model).join("reference.json")).unwrap();
    let reference: Value = serde_json::from_str(&text).unwrap();
    reference["cases"].as_array().unwrap().clone()
}

fn numbers(values: &Value) -> Vec<f64> {
    let values = values.as_array().unwrap().iter();
    values.map(|value| value.as_f64().unwrap()).collect()
}

/// The numbers of a matrix, row by row.
fn rows(values: &Value) -> Vec<f64> {
    values
        .as_array()
        .unwrap()
        .iter()
        .flat_map(numbers)
        .collect()
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}
