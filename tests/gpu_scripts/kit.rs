//! The script `run` of a kit, on stub programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::{read_json, script, text_of, write_program};

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
