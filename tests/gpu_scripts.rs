//! What surrounds the GPU's programs: the kit's `run`, the peers' script and the report, with programs and figures made here.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("scripts")
        .join(name)
}

fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}\n{text}", path.display()))
}

fn said(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

fn program(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A kit whose programs are made here, and a folder that stands first in PATH.
struct Kit(tempfile::TempDir);

const DEVICE: &str = r#"{"name":"NVIDIA Test \"1\"","nvcc":"13.0","devices":1}"#;
const BENCH: &str = r#"#!/usr/bin/env bash
case "$*" in
    *--describe*) cat "$(dirname "$0")/device" 2>/dev/null || { echo "no driver" >&2; exit 1; } ;;
    *--chain*) echo "the chain broke: \"x\"" >&2; exit 1 ;;
    *) while [ "$1" != --json ]; do kind+=$1; shift; done; echo "{\"asked\": \"$kind\"}" >"$2" ;;
esac
"#;
const TEST: &str = r#"#!/usr/bin/env bash
case "$*" in
    *--list*) echo "kernels::good: test"; echo "kernels::bad: test"; echo "on_two_devices: test" ;;
    *good*) echo "test result: ok. 1 passed; 0 failed" ;;
    *) echo "a \"wrong\" bit"; exit 101 ;;
esac
"#;
const SMI: &str = r#"#!/usr/bin/env bash
case "$*" in
    *-lms*) while true; do echo "1980 MHz, 2619 MHz, 350.5 W, 45"; sleep 0.05; done ;;
    *) echo "580.1, 345 MHz, 2619 MHz, 1980 MHz, 2619 MHz, 700.00 W, 33, Enabled" ;;
esac
"#;
const NO_TORCH: &str =
    "#!/usr/bin/env bash\necho \"ModuleNotFoundError: No module named 'torch'\" >&2\nexit 1\n";
/// Stands for Python: has torch, and instead of the peers' script waits for a sample of the clocks.
const PEERS: &str = r#"#!/usr/bin/env bash
[ "$1" = -c ] && exit
while [ "$1" != --json ]; do shift; done
until [ -s logs/clocks.csv ]; do sleep 0.01; done
echo '{"rows": []}' >"$2"
"#;

impl Kit {
    fn new(device: bool, python: &str) -> Self {
        let kit = Self(tempfile::tempdir().unwrap());
        for (path, text) in [
            ("kit/bin/bench", BENCH),
            ("kit/bin/test", TEST),
            ("path/nvidia-smi", SMI),
            ("path/python3", python),
        ] {
            program(&kit.at(path), text);
        }
        fs::copy(script("gpu-kit-run"), kit.at("kit/run")).unwrap();
        fs::copy(script("gpu-peers"), kit.at("kit/gpu-peers")).unwrap();
        if device {
            fs::write(kit.at("kit/bin/device"), DEVICE).unwrap();
        }
        kit
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn run(&self, options: &[&str]) -> (bool, Value) {
        let path = format!(
            "{}:{}",
            self.at("path").display(),
            std::env::var("PATH").unwrap()
        );
        let output = Command::new(self.at("kit/run"))
            .args(options)
            .env("PATH", path)
            .output()
            .unwrap();
        println!("{}", said(&output));
        (output.status.success(), read(&self.at("kit/report.json")))
    }
}

#[test]
fn a_run_reports_what_passed_failed_and_was_left_out() {
    let (ok, report) = Kit::new(true, NO_TORCH).run(&["--no-sanitizer", "--device", "0"]);
    assert!(!ok, "a test failed");
    assert_eq!(
        (&report["passed"], &report["failed"], &report["left_out"]),
        (&json!(1), &json!(2), &json!(1)),
        "{report:#}"
    );
    let test = |at: usize| &report["tests"][at];
    assert_eq!(test(0)["result"], "ok");
    assert_eq!(test(1)["result"], "failed");
    assert!(test(1)["log"].as_str().unwrap().contains("a \"wrong\" bit"));
    assert_eq!(test(2)["why"], "one device");
    // What could be measured is there beside what could not.
    assert_eq!(report["bench"]["asked"], "--device0");
    assert_eq!(report["routing"]["asked"], "--routing--device0");
    assert_eq!(report["chain"], Value::Null);
    assert_eq!(
        report["bench_problem"], "chain: the chain broke: \"x\"\n",
        "{report:#}"
    );
    assert_eq!(report["peers"], Value::Null);
    assert_eq!(
        report["peers_problem"],
        "left out: python3 has no torch: ModuleNotFoundError: No module named 'torch'"
    );
    let clocks = &report["clocks"];
    assert_eq!(clocks["before"]["driver_version"], "580.1");
    assert_eq!(clocks["after"]["clocks.sm"], "345 MHz");
}

#[test]
fn the_peers_run_where_torch_is() {
    let (_, report) = Kit::new(true, PEERS).run(&["--no-tests", "--no-sanitizer"]);
    assert_eq!(report["peers"], json!({"rows": []}), "{report:#}");
    assert_eq!(report["peers_problem"], Value::Null);
    assert_eq!(report["tests"][0]["why"], "--no-tests");
    let during = &report["clocks"]["during"];
    assert!(during["samples"].as_u64() > Some(0), "{report:#}");
    assert_eq!(during["clocks.sm"], json!([1980, 1980]));
    assert_eq!(during["power.draw"], json!([350.5, 350.5]));
}

#[test]
fn a_run_without_a_device_leaves_all_out_and_says_so() {
    let (ok, report) = Kit::new(false, PEERS).run(&[]);
    assert!(!ok);
    assert_eq!(report["problem"], "no driver");
    assert_eq!(report["left_out"], 3);
    assert_eq!(report["tests"][0]["why"], "no device");
    for problem in ["sanitizer_problem", "bench_problem", "peers_problem"] {
        assert_eq!(report[problem], "left out: no device", "{problem}");
    }
    assert_eq!(report["clocks"]["during"], Value::Null);
}

#[test]
fn peers_without_torch_are_absent_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    // No torch, wherever this runs.
    program(
        &folder.path().join("torch.py"),
        "raise ImportError('hidden')",
    );
    let json = folder.path().join("peers.json");
    let output = Command::new("python3")
        .arg(script("gpu-peers"))
        .args(["--device", "cpu", "--json"])
        .arg(&json)
        .env("PYTHONPATH", folder.path())
        .output()
        .expect("python3 is there");
    assert!(!output.status.success());
    let report = read(&json);
    for peer in 0..2 {
        assert_eq!(
            report["peers"][peer]["absent"],
            "no torch: ImportError: hidden"
        );
    }
    assert!(
        said(&output).contains("torch int4: absent: no torch"),
        "{}",
        said(&output)
    );
}

/// What the bench writes of a GEMM: `us` by call, moving a megabyte.
fn gemm(m: u32, n: u32, width: &str, kernel: &str, us: f64) -> Value {
    json!({
        "m": m, "n": n, "k": 4096, "width": width, "grouping": "g128", "x": "bf16", "kernel": kernel, "launches": 1,
        "chip": "NVIDIA Test 80GB", "bytes": 1e6, "predicted": null,
        "measured": {"median_us": us, "least_us": us * 0.9, "most_us": us * 1.1, "replays": 20, "calls_a_replay": 16},
    })
}

/// What a run on a device leaves: times are `scale` times as long as in another one.
fn report(scale: f64) -> Value {
    json!({
        "kit": {"commit": "abc"}, "date": "2026-01-02T03:04:05Z", "passed": 3, "failed": 0, "left_out": 1,
        "clocks": {"before": {"clocks.sm": "345 MHz"}},
        "bench": {
            "device": {
                "name": "NVIDIA Test 80GB", "driver_module": "NVRM 580.1", "kernels": [{"name": "decode_a4", "mma": "s8"}],
                "dense_tops": {"s8": 1000.0, "bf16": 500.0},
            },
            "copy_gb_per_s": 2000.0,
            "rows": [gemm(1, 4096, "a4", "decode_a4", scale), gemm(1024, 4096, "bf16", "prefill_bf16", 100.0 * scale)],
        },
        "chain": {"rows": [{
            "m": 1, "width": "a4", "grouping": "g128", "layers": 32, "pdl": true, "bytes": 1e9,
            "measured": {"median_us": 1000.0, "least_us": 1000.0, "most_us": 1000.0},
        }]},
        "peers": {
            "device": "NVIDIA Test 80GB", "torch": "2.9", "copy_gb_per_s": 1900.0,
            "peers": [{"peer": "cuBLAS BF16", "absent": null}, {"peer": "torch int4", "absent": "no such op"}],
            "rows": [{"peer": "cuBLAS BF16", "m": 1, "n": 4096, "k": 4096, "us": 4.0, "least_us": 3.9, "most_us": 4.1}],
            "chain": [{"peer": "cuBLAS BF16", "m": 1, "layers": 32, "us": 2500.0, "least_us": 2500.0, "most_us": 2500.0}],
        },
    })
}

/// Runs the report's script over reports; its output, and the folder that it filled.
fn summarize(reports: &[Value]) -> (Output, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("python3");
    command.arg(script("gpu-report")).current_dir(folder.path());
    for (at, report) in reports.iter().enumerate() {
        let name = format!("report{at}.json");
        fs::write(folder.path().join(&name), report.to_string()).unwrap();
        command.arg(name);
    }
    command.args(["--results", ".", "--docs", "."]);
    (command.output().expect("python3 is there"), folder)
}

fn near(value: &Value, expected: f64) {
    let value = value.as_f64().unwrap_or(f64::NAN);
    assert!(
        (value - expected).abs() <= 1e-9 * expected.abs(),
        "{value}, not {expected}"
    );
}

#[test]
fn a_report_joins_kernels_and_peers() {
    let (output, folder) = summarize(&[report(1.0)]);
    assert!(output.status.success(), "{}", said(&output));
    let made = read(&folder.path().join("nvidia-test-80gb.json"));
    let rows = made["rows"].as_array().unwrap();
    // Two GEMMs, each beside two peers.
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
        near(&row[name], expected);
    }
    // A peer without a figure is a row with an empty ratio, and its reason stands in the facts.
    assert_eq!(
        (&rows[1]["peer"], &rows[1]["ratio"]),
        (&json!("torch int4"), &Value::Null)
    );
    assert_eq!(made["absent"], json!({"torch int4": "no such op"}));
    near(&made["chain"][0]["ratio"], 2.5);
    near(&made["chain"][0]["share_of_copy"], 0.5);

    let text = fs::read_to_string(folder.path().join("nvidia-test-80gb.md")).unwrap();
    for part in [
        "# w4ax on NVIDIA Test 80GB",
        "- driver: NVRM 580.1",
        "345 MHz",
        "3 passed, 0 failed, 1 left out",
        "**torch int4 is absent, or not measured to the end: no such op**",
        "![Roofline](gpu-nvidia-test-80gb.svg)",
        "| 4096 x 4096 | a4 | g128 | bf16 | decode_a4 | s8 | 1.00 | 20 % | 1000 | 50 % | 33.6 | 4.00 | 4.00 | - | - |",
        "| 32 | 1 | a4 | g128 | dependent | 1000 | 0 % | 1000 | 50 % | 2500 | 2.50 | - | - |",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let svg = fs::read_to_string(folder.path().join("gpu-nvidia-test-80gb.svg")).unwrap();
    // Two of ours, one of cuBLAS.
    assert_eq!(svg.matches("<circle").count(), 2, "{svg}");
    assert_eq!(svg.matches("<title>cuBLAS BF16").count(), 1, "{svg}");
    assert!(svg.contains(">s8: 1000<"), "{svg}");
}

#[test]
fn several_runs_are_one_figure_with_their_spread() {
    let (output, folder) = summarize(&[report(1.0), report(3.0), report(2.0)]);
    assert!(output.status.success(), "{}", said(&output));
    let made = read(&folder.path().join("nvidia-test-80gb.json"));
    near(&made["rows"][0]["us"], 2.0);
    near(&made["rows"][0]["spread"], (3.3 - 0.9) / 2.0);
    assert_eq!(made["runs"], 3);
}

#[test]
fn a_report_without_peers_says_why() {
    let mut without = report(1.0);
    without["peers"] = Value::Null;
    without["peers_problem"] = json!("left out: python3 is not in PATH");
    let (output, folder) = summarize(&[without]);
    assert!(output.status.success(), "{}", said(&output));
    let text = fs::read_to_string(folder.path().join("nvidia-test-80gb.md")).unwrap();
    for peer in ["cuBLAS BF16", "torch int4"] {
        let line = format!(
            "**{peer} is absent, or not measured to the end: left out: python3 is not in PATH**"
        );
        assert!(text.contains(&line), "{text}");
    }
}

#[test]
fn a_report_that_cannot_be_joined_is_named() {
    let mut unmeasured = report(1.0);
    unmeasured["bench"] = Value::Null;
    unmeasured["bench_problem"] = json!("left out: no device");
    let mut predicted = report(1.0);
    predicted["bench"]["rows"][0]["measured"] = Value::Null;
    let mut other = report(1.0);
    other["bench"]["device"]["name"] = json!("Another");
    for (reports, problem) in [
        (vec![unmeasured], "left out: no device"),
        (vec![predicted], "nothing was measured"),
        (vec![report(1.0), other.clone()], "several devices"),
        (
            vec![other],
            "the peers ran on NVIDIA Test 80GB, our kernels on Another",
        ),
    ] {
        let (output, folder) = summarize(&reports);
        assert!(!output.status.success());
        let said = said(&output);
        assert!(
            said.contains(problem) && !said.contains("Traceback"),
            "{problem}: {said}"
        );
        let made = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(made, reports.len(), "nothing is left beside the reports");
    }
}
