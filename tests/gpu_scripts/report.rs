//! The tables and the plot of a kit's report.

use std::fs;
use std::process::Output;

use serde_json::{Value, json};

use crate::{python3, read_json, script, text_of};

/// Returns the bench's row of a GEMM that takes `us` per call and moves a megabyte.
fn gemm(m: u32, n: u32, width: &str, kernel: &str, us: f64) -> Value {
    json!({
        "m": m, "n": n, "k": 4096, "width": width, "grouping": "g128", "x": "bf16",
        "kernel": kernel, "launches": 1, "chip": "NVIDIA Test 80GB", "bytes": 1e6,
        "predicted": null,
        "measured": {
            "median_us": us, "least_us": us * 0.9, "most_us": us * 1.1, "replays": 20,
            "calls_a_replay": 16,
        },
    })
}

/// Returns the report of a run on a device, with all times multiplied by `scale`.
fn report(scale: f64) -> Value {
    let limits = json!({
        "copy_gb_per_s": 2000.0, "l2_copy_gb_per_s": 5500.0, "l2_gb_per_s": 4100.0,
        "l2_bytes_a_clock_and_sm": 17.25, "launch_us": 2.2, "dependent_launch_us": 1.1,
    });
    let bench = |row: Value| {
        json!({
            "device": {
                "name": "NVIDIA Test 80GB", "driver_module": "NVRM 580.1",
                "kernels": [{"name": "decode_a4", "mma": "s8"}],
                "dense_tops": {"s8": 1000.0, "bf16": 500.0},
            },
            "copy_gb_per_s": 2000.0,
            "rows": [row],
        })
    };
    let mut decode = bench(gemm(1, 4096, "a4", "decode_a4", scale));
    decode["limits"] = limits;
    decode["rescale"] = json!([{
        "m": 1, "n": 4096, "k": 4096, "width": "4 bits", "x": "bf16",
        "g128_us": 2.1, "two_level_us": 2.05, "per_channel_us": 2.0, "ratio": 1.05,
    }]);
    let test = |name: &str, result: &str| json!({"name": name, "kind": "test", "result": result});
    json!({
        "kit": {"commit": "abc"}, "date": "2026-01-02T03:04:05Z",
        "parts": [test("a", "ok"), test("b", "ok"), test("c", "left out"), test("d", "timeout")],
        "clocks": {"before": {"clocks.sm": "345 MHz"}},
        "benches": {
            "decode": decode,
            "prefill": bench(gemm(1024, 4096, "bf16", "prefill_bf16", 100.0 * scale)),
            "chain": {"copy_gb_per_s": 2000.0, "rows": [{
                "m": 1, "width": "a4", "grouping": "g128", "layers": 32, "pdl": true, "bytes": 1e9,
                "measured": {"median_us": 1000.0, "least_us": 1000.0, "most_us": 1000.0},
            }]},
            "peers": {
                "device": "NVIDIA Test 80GB", "torch": "2.9", "copy_gb_per_s": 1900.0,
                "peers": [
                    {"peer": "cuBLAS BF16", "absent": null},
                    {"peer": "torch int4", "absent": "no such op"},
                ],
                "rows": [{
                    "peer": "cuBLAS BF16", "m": 1, "n": 4096, "k": 4096,
                    "us": 4.0, "least_us": 3.9, "most_us": 4.1,
                }],
                "chain": [{
                    "peer": "cuBLAS BF16", "m": 1, "layers": 32,
                    "us": 2500.0, "least_us": 2500.0, "most_us": 2500.0,
                }],
            },
        },
    })
}

/// Runs gpu-report over reports. Returns its output and the folder of its results; `None` if the
/// test is left out.
fn summarize(test: &str, reports: &[Value]) -> Option<(Output, tempfile::TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = python3(test)?;
    command.arg(script("gpu-report")).current_dir(folder.path());
    for (at, report) in reports.iter().enumerate() {
        let name = format!("report{at}.json");
        fs::write(folder.path().join(&name), report.to_string()).unwrap();
        command.arg(name);
    }
    command.args(["--results", ".", "--docs", "."]);
    Some((command.output().expect("python3 runs"), folder))
}

fn assert_near(value: &Value, expected: f64) {
    let value = value.as_f64().unwrap_or(f64::NAN);
    assert!(
        (value - expected).abs() <= 1e-9 * expected.abs(),
        "{value}: expected {expected}"
    );
}

#[test]
fn report_joins_kernels_and_peers() {
    let reports = [report(1.0)];
    let Some((output, folder)) = summarize("report_joins_kernels_and_peers", &reports) else {
        return;
    };
    assert!(output.status.success(), "{}", text_of(&output));
    let made = read_json(&folder.path().join("gpu-nvidia-test-80gb.json"));
    let rows = made["rows"].as_array().unwrap();
    // Two GEMMs with two peers each.
    assert_eq!(rows.len(), 4, "{made:#}");
    let row = &rows[0];
    assert_eq!(
        (&row["kernel"], &row["width"], &row["mma"], &row["peer"]),
        (
            &json!("decode_a4"),
            &json!("a4"),
            &json!("s8"),
            &json!("cuBLAS BF16")
        )
    );
    for (name, expected) in [
        ("us", 1.0),
        ("spread", 0.2),
        ("gbps", 1000.0),
        ("share_of_copy", 0.5),
        ("tops", 2.0 * 4096.0 * 4096.0 / 1e6),
        ("peer_us", 4.0),
        ("ratio", 4.0),
    ] {
        assert_near(&row[name], expected);
    }
    // A peer without a figure has a row with an empty ratio. The reason is reported once.
    assert_eq!(
        (&rows[1]["peer"], &rows[1]["ratio"]),
        (&json!("torch int4"), &Value::Null)
    );
    assert_eq!(made["absent"], json!({"torch int4": "no such op"}));
    assert_near(&made["chain"][0]["ratio"], 2.5);
    assert_near(&made["chain"][0]["share_of_copy"], 0.5);

    let text = fs::read_to_string(folder.path().join("gpu-nvidia-test-80gb.md")).unwrap();
    for part in [
        "# w4ax on NVIDIA Test 80GB",
        "- driver: NVRM 580.1",
        "345 MHz",
        "2 passed, 1 failed, 1 did not run",
        "- L2: copies 5500, weights of a GEMM 4100 GB/s (17.2 bytes a clock and SM); smallest GEMM in \
         a graph: 2.20 us, 1.10 us with dependent launch",
        "| 1 | 4096 x 4096 | 4 bits | bf16 | 2.10 | 2.05 | 2.00 | 1.050 |",
        "**torch int4 was not measured, or not completely: no such op**",
        "![Roofline](gpu-nvidia-test-80gb.svg)",
        "| 4096 x 4096 | a4 | g128 | bf16 | decode_a4 | s8 | 1.00 | 20 % | 1000 | 50 % | 33.6 | \
         4.00 | 4.00 | - | - |",
        "| 32 | 1 | a4 | g128 | dependent | 1000 | 0 % | 1000 | 50 % | 2500 | 2.50 | - | - |",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let svg = fs::read_to_string(folder.path().join("gpu-nvidia-test-80gb.svg")).unwrap();
    // Two figures of w4ax, one of cuBLAS.
    assert_eq!(svg.matches("<circle").count(), 2, "{svg}");
    assert_eq!(svg.matches("<title>cuBLAS BF16").count(), 1, "{svg}");
    assert!(svg.contains(">s8: 1000<"), "{svg}");
}

#[test]
fn report_of_several_runs_has_median_and_spread() {
    let reports = [report(1.0), report(3.0), report(2.0)];
    let test = "report_of_several_runs_has_median_and_spread";
    let Some((output, folder)) = summarize(test, &reports) else {
        return;
    };
    assert!(output.status.success(), "{}", text_of(&output));
    let made = read_json(&folder.path().join("gpu-nvidia-test-80gb.json"));
    assert_near(&made["rows"][0]["us"], 2.0);
    assert_near(&made["rows"][0]["spread"], (3.3 - 0.9) / 2.0);
    assert_eq!(made["runs"], 3);
}

/// A slot measures some benches, and another slot the others.
#[test]
fn report_joins_slots() {
    let (mut first, mut second) = (report(1.0), report(1.0));
    for bench in ["prefill", "peers"] {
        first["benches"].as_object_mut().unwrap().remove(bench);
    }
    for bench in ["decode", "chain"] {
        second["benches"].as_object_mut().unwrap().remove(bench);
    }
    second["parts"] = json!([{"name": "c", "kind": "test", "result": "ok"}]);
    second["benches"]["prefill"]["copy_gb_per_s"] = json!(1000.0);
    let Some((output, folder)) = summarize("report_joins_slots", &[first, second]) else {
        return;
    };
    assert!(output.status.success(), "{}", text_of(&output));
    let made = read_json(&folder.path().join("gpu-nvidia-test-80gb.json"));
    assert_eq!(made["rows"].as_array().unwrap().len(), 4, "{made:#}");
    // A share of the copy bandwidth is that of its own run.
    assert_near(&made["rows"][0]["share_of_copy"], 0.5);
    assert_near(&made["rows"][2]["share_of_copy"], 0.01);
    let tests = json!({"passed": 3, "failed": 1, "not_run": 0});
    assert_eq!(made["tests"], tests);
}

#[test]
fn report_without_peers_has_reason() {
    let mut without = report(1.0);
    without["benches"]["peers"] = Value::Null;
    without["parts"] = json!([{
        "name": "bench::peers", "kind": "bench", "result": "left out",
        "why": "python3 is not in PATH",
    }]);
    let Some((output, folder)) = summarize("report_without_peers_has_reason", &[without]) else {
        return;
    };
    assert!(output.status.success(), "{}", text_of(&output));
    let text = fs::read_to_string(folder.path().join("gpu-nvidia-test-80gb.md")).unwrap();
    for peer in ["cuBLAS BF16", "torch int4"] {
        let line = format!(
            "**{peer} was not measured, or not completely: left out: python3 is not in PATH**"
        );
        assert!(text.contains(&line), "{text}");
    }
}

#[test]
fn rejects_reports_without_measurements_or_of_different_devices() {
    let mut unmeasured = report(1.0);
    unmeasured["benches"] = json!({});
    unmeasured["parts"] = json!([{
        "name": "bench::decode", "kind": "bench", "result": "left out", "why": "no device",
    }]);
    let mut predicted = report(1.0);
    predicted["benches"]["decode"]["rows"][0]["measured"] = Value::Null;
    let mut other = report(1.0);
    for bench in ["decode", "prefill"] {
        other["benches"][bench]["device"]["name"] = json!("Another");
    }
    for (reports, problem) in [
        (vec![unmeasured], "left out: no device"),
        (vec![predicted], "predictions only"),
        (
            vec![report(1.0), other.clone()],
            "reports of several devices",
        ),
        (
            vec![other],
            "the peers ran on NVIDIA Test 80GB: expected Another",
        ),
    ] {
        let test = "rejects_reports_without_measurements_or_of_different_devices";
        let Some((output, folder)) = summarize(test, &reports) else {
            return;
        };
        assert!(!output.status.success());
        let text = text_of(&output);
        assert!(
            text.contains(problem) && !text.contains("Traceback"),
            "{problem}: {text}"
        );
        let made = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(made, reports.len(), "no output is written");
    }
}
