//! `w4ax episode --backend cuda` on a short recording, in each routing, beside the CPU.

use std::path::{Path, PathBuf};
use std::process::Command;

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::Value;
use w4ax_robot::rollouts::RECORDED;

/// Steps of the recording: the beginning of its first episode.
const STEPS: usize = 8;

/// Writes the first [`STEPS`] steps of the recorded data to a file.
fn short_recording(folder: &Path) -> PathBuf {
    let bytes = std::fs::read(RECORDED).unwrap();
    let recorded = SafeTensors::deserialize(&bytes).unwrap();
    let cut = recorded.iter().map(|(name, tensor)| {
        let mut shape = tensor.shape().to_vec();
        let bytes = tensor.data().len() / shape[0] * STEPS;
        shape[0] = STEPS;
        let view = TensorView::new(tensor.dtype(), shape, &tensor.data()[..bytes]);
        (name.to_owned(), view.unwrap())
    });
    let path = folder.join("short.safetensors");
    std::fs::write(&path, safetensors::serialize(cut, None).unwrap()).unwrap();
    path
}

/// Runs the program to its end and returns its report.
fn episode(folder: &Path, recording: &Path, arguments: &[&str]) -> Value {
    let json = folder.join("episode.json");
    let output = Command::new(env!("CARGO_BIN_EXE_w4ax"))
        .args(["episode", "--costs", "bits", "--rollouts"])
        .arg(recording)
        .arg("--json")
        .arg(&json)
        .arg("--plot")
        .arg(folder.join("episode.svg"))
        .args(arguments)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap()
}

/// Compares all values of two reports. Tensor cores add BF16 products in an order of their own, so
/// numbers may differ by a hundredth of the CPU's.
fn assert_close(expected: &Value, got: &Value, path: &str) {
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) => {
            assert_eq!(expected.len(), got.len(), "{path}");
            for (name, value) in expected {
                assert_close(value, &got[name], &format!("{path}/{name}"));
            }
        }
        (Value::Number(expected), Value::Number(got)) => {
            let (expected, got) = (expected.as_f64().unwrap(), got.as_f64().unwrap());
            let apart = (expected - got).abs();
            assert!(
                apart <= 0.01 * expected.abs(),
                "{path}: {got} on the GPU, {expected} on the CPU"
            );
        }
        _ => assert_eq!(expected, got, "{path}"),
    }
}

#[test]
#[ignore = "needs a CUDA GPU or the software device"]
fn all_routings_report_what_the_cpu_reports() {
    let folder = tempfile::tempdir().unwrap();
    let recording = short_recording(folder.path());
    let expected = episode(folder.path(), &recording, &["--rule", "dyq"]);
    assert_eq!(expected["steps"], STEPS);
    for routing in ["kernel", "graph", "host"] {
        let cuda = ["--rule", "dyq", "--backend", "cuda", "--routing", routing];
        let got = episode(folder.path(), &recording, &cuda);
        assert_close(&expected, &got, routing);
    }
}
