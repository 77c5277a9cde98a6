//! Tests the scripts around the GPU programs: the kit's `run`, the peers' bench and the report. The
//! programs of the kit are stubs, and the figures are made up.

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

fn read_json(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}\n{text}", path.display()))
}

/// Returns stdout and stderr of a program.
fn text_of(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// Writes an executable script.
fn write_program(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A kit of stub programs, and a folder of stub tools that comes first in PATH.
struct Kit(tempfile::TempDir);

const DEVICE: &str = r#"{"name":"NVIDIA Test \"1\"","nvcc":"13.0","devices":1}"#;
const BENCH: &str = r#"#!/usr/bin/env bash
case "$*" in
    *--describe*) cat "$(dirname "$0")/device" 2>/dev/null || { echo "no driver" >&2; exit 1; } ;;
    *--chain*) echo "the chain broke: \"x\"" >&2; exit 1 ;;
    *) while [ "$1" != --json ]; do kind+=$1; shift; done; echo "{\"options\": \"$kind\"}" >"$2" ;;
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
/// A stub of Python with torch. In place of the peers' bench, it waits for a sample of the clocks.
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
            write_program(&kit.at(path), text);
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

    /// Runs the kit with missing tools allowed. Returns whether it succeeded, and its report.
    fn run(&self, options: &[&str]) -> (bool, Value) {
        self.run_with(options, "1")
    }

    fn run_with(&self, options: &[&str], allow_missing_tools: &str) -> (bool, Value) {
        let path = std::env::var_os("PATH").unwrap();
        let path = std::env::split_paths(&path)
            .filter(|folder| !folder.join("compute-sanitizer").is_file());
        let path = std::iter::once(self.at("path")).chain(path);
        let path = std::env::join_paths(path).unwrap();
        let output = Command::new(self.at("kit/run"))
            .args(options)
            .env("PATH", path)
            .env("W4AX_ALLOW_MISSING_TOOLS", allow_missing_tools)
            .output()
            .unwrap();
        println!("{}", text_of(&output));
        (
            output.status.success(),
            read_json(&self.at("kit/report.json")),
        )
    }
}

#[test]
fn run_reports_passed_failed_and_left_out_tests() {
    let (ok, report) = Kit::new(true, NO_TORCH).run(&["--no-sanitizer", "--device", "0"]);
    assert!(!ok, "a test of the kit fails");
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
    // Successful measurements are reported although others fail.
    assert_eq!(report["bench"]["options"], "--device0");
    assert_eq!(report["routing"]["options"], "--routing--device0");
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
fn missing_tools_are_failures_unless_allowed() {
    let options = ["--no-tests", "--no-bench"];
    // Without torch and without compute-sanitizer.
    let kit = Kit::new(true, NO_TORCH);
    let (ok, report) = kit.run_with(&options, "0");
    assert!(!ok, "{report:#}");
    assert_eq!(report["failed"], 2, "{report:#}");
    let allowed = "(W4AX_ALLOW_MISSING_TOOLS=1 leaves this part out)";
    for (part, reason) in [
        ("sanitizer_problem", "compute-sanitizer is not in PATH"),
        ("peers_problem", "python3 has no torch"),
    ] {
        let problem = report[part].as_str().unwrap();
        assert!(
            problem.starts_with(reason) && problem.ends_with(allowed),
            "{problem}"
        );
    }
    let (ok, report) = kit.run(&options);
    assert!(ok, "{report:#}");
    assert_eq!(report["failed"], 0, "{report:#}");
    assert_eq!(
        report["sanitizer_problem"],
        "left out: compute-sanitizer is not in PATH"
    );
}

/// The kit runs some GPU tests under compute-sanitizer, by parts of their names.
#[test]
fn sanitized_tests_exist() {
    let run = fs::read_to_string(script("gpu-kit-run")).unwrap();
    let (_, list) = run.split_once("sanitized_tests=(").unwrap();
    let (list, _) = list.split_once(')').unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda");
    let sources: String = fs::read_dir(folder)
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    for name in list.split_whitespace() {
        let tests = sources.lines().filter(|line| {
            let line = line.trim_start();
            line.starts_with("fn ") && line.contains(name)
        });
        assert_ne!(tests.count(), 0, "no GPU test has `{name}` in its name");
    }
}

#[test]
fn run_measures_peers_with_torch() {
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
fn run_without_device_leaves_everything_out() {
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
fn peers_report_missing_torch() {
    let folder = tempfile::tempdir().unwrap();
    // Hides an installed torch.
    write_program(
        &folder.path().join("torch.py"),
        "raise ImportError('hidden')",
    );
    let json = folder.path().join("peers.json");
    let Some(mut python) = python3("peers_report_missing_torch") else {
        return;
    };
    let output = python
        .arg(script("gpu-peers"))
        .args(["--device", "cpu", "--json"])
        .arg(&json)
        .env("PYTHONPATH", folder.path())
        .output()
        .expect("python3 runs");
    assert!(!output.status.success());
    let report = read_json(&json);
    for peer in 0..2 {
        assert_eq!(
            report["peers"][peer]["absent"],
            "torch is missing: ImportError: hidden"
        );
    }
    assert!(
        text_of(&output).contains("torch int4: absent: torch is missing"),
        "{}",
        text_of(&output)
    );
}

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
    json!({
        "kit": {"commit": "abc"}, "date": "2026-01-02T03:04:05Z",
        "passed": 3, "failed": 0, "left_out": 1,
        "clocks": {"before": {"clocks.sm": "345 MHz"}},
        "bench": {
            "device": {
                "name": "NVIDIA Test 80GB", "driver_module": "NVRM 580.1",
                "kernels": [{"name": "decode_a4", "mma": "s8"}],
                "dense_tops": {"s8": 1000.0, "bf16": 500.0},
            },
            "copy_gb_per_s": 2000.0,
            "rows": [
                gemm(1, 4096, "a4", "decode_a4", scale),
                gemm(1024, 4096, "bf16", "prefill_bf16", 100.0 * scale),
            ],
        },
        "chain": {"rows": [{
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
    })
}

/// Returns a command of Python 3; `None` if it is missing and the test is left out.
fn python3(test: &str) -> Option<Command> {
    match Command::new("python3").arg("--version").output() {
        Ok(_) => Some(Command::new("python3")),
        Err(error) => {
            test_support::leave_out(test, &format!("python3 could not be started: {error}"));
            None
        }
    }
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
        "3 passed, 0 failed, 1 left out",
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

#[test]
fn report_without_peers_has_reason() {
    let mut without = report(1.0);
    without["peers"] = Value::Null;
    without["peers_problem"] = json!("left out: python3 is not in PATH");
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
    unmeasured["bench"] = Value::Null;
    unmeasured["bench_problem"] = json!("left out: no device");
    let mut predicted = report(1.0);
    predicted["bench"]["rows"][0]["measured"] = Value::Null;
    let mut other = report(1.0);
    other["bench"]["device"]["name"] = json!("Another");
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
