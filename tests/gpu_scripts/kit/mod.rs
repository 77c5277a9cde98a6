//! The command `run` of a kit, on fake programs.

mod cut_off;
mod deadline;
mod results;
mod selection;
mod size;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::{python3, read_json, script, text_of, write_program};

const DEVICE: &str = r#"{"name":"NVIDIA Test \"1\"","nvcc":"13.0","devices":1}"#;
/// Each program appends what it runs to the file `ran`. A test or bench whose name is in the file
/// `slow` writes its process id to `pid` and waits; a bench writes its report before.
const BENCH: &str = r#"#!/usr/bin/env bash
kit=$(dirname "$(dirname "$0")")
if [ "$1" = --describe ]; then
    cat "$kit/bin/device" 2>/dev/null || { echo "no driver"; exit 1; }
    exit
fi
part=$1
echo "bench $part" >>"$kit/../ran"
options=$*
while [ "$1" != --json ]; do shift; done
if grep -qx "$part" "$kit/../broken" 2>/dev/null; then echo "it broke: \"x\""; exit 1; fi
echo "{\"options\": \"$options\"}" >"$2"
if grep -qx "$part" "$kit/../slow" 2>/dev/null; then echo $$ >"$kit/../pid"; exec sleep 300; fi
if grep -qx "$part" "$kit/../short" 2>/dev/null; then echo '{"not_measured": ["a", "b"]}' >"$2"; fi
echo "a long table"
echo "== summary"
echo "the table of $part"
"#;
const TEST: &str = r#"#!/usr/bin/env bash
kit=$(dirname "$(dirname "$0")")
case "$*" in
    *--list*) sed 's/$/: test/' "$0.names"; exit ;;
esac
echo "$2" >>"$kit/../ran"
if grep -qx "$2" "$kit/../slow" 2>/dev/null; then
    echo "begun"
    sleep 300 &
    echo $! >"$kit/../pid"
    wait
fi
case "$2" in
    *bad*) echo "a \"wrong\" bit"; exit 101 ;;
    *empty*) echo "test result: ok. 0 passed; 0 failed" ;;
    *) echo "test result: ok. 1 passed; 0 failed" ;;
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
/// A fake Python with torch, in place of the peers' bench.
const TORCH: &str = r#"#!/usr/bin/env bash
[ "$1" = -c ] && exit
while [ "$1" != --json ]; do shift; done
echo '{"rows": []}' >"$2"
"#;
/// A fake compute-sanitizer. It follows the tests' program.
const SANITIZER: &str = r#"#!/usr/bin/env bash
echo "test result: ok. 3 passed; 0 failed"
"#;
/// Names of tests, in the order of the alphabet as test programs list them.
const NAMES: [&str; 8] = [
    "bf16_results::one",
    "device::rejects_one",
    "failing::one",
    "graphs::one",
    "kernels::every_kernel_matches_reference",
    "kernels::one",
    "routing::one",
    "smoke::one",
];

/// A kit of fake programs, a folder of fake tools that comes first in PATH, and a folder `out`.
struct Kit {
    folder: tempfile::TempDir,
    python: PathBuf,
}

/// How a run ended.
struct Done {
    code: Option<i32>,
    report: Value,
}

impl Kit {
    /// Returns a kit with a device, without torch and without sanitizer; `None` if Python is
    /// missing and `test` is left out.
    fn new(test: &str, names: &[&str]) -> Option<Self> {
        let output = python3(test)?
            .args(["-c", "import sys; print(sys.executable)"])
            .output()
            .unwrap();
        let kit = Self {
            folder: tempfile::tempdir().unwrap(),
            python: String::from_utf8(output.stdout).unwrap().trim().into(),
        };
        for (path, text) in [
            ("kit/bin/bench", BENCH),
            ("kit/bin/test", TEST),
            ("path/nvidia-smi", SMI),
            ("path/python3", NO_TORCH),
        ] {
            write_program(&kit.at(path), text);
        }
        kit.write("kit/bin/test.names", &(names.join("\n") + "\n"));
        kit.write("kit/bin/device", DEVICE);
        kit.write("kit/kit.json", r#"{"commit": "abc"}"#);
        fs::copy(script("gpu-kit-run"), kit.at("kit/run")).unwrap();
        fs::copy(script("gpu-peers"), kit.at("kit/gpu-peers")).unwrap();
        fs::create_dir(kit.at("kit/gpu_kit")).unwrap();
        for entry in fs::read_dir(script("gpu_kit")).unwrap() {
            let entry = entry.unwrap();
            if entry.path().extension().is_some_and(|ext| ext == "py") {
                fs::copy(entry.path(), kit.at("kit/gpu_kit").join(entry.file_name())).unwrap();
            }
        }
        Some(kit)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.at(path), text).unwrap();
    }

    /// Adds a second program of tests.
    fn add_tests(&self, name: &str, names: &[&str]) {
        write_program(&self.at(&format!("kit/bin/{name}")), TEST);
        self.write(&format!("kit/bin/{name}.names"), &(names.join("\n") + "\n"));
    }

    /// Adds a fake tool.
    fn add_tool(&self, name: &str, text: &str) {
        write_program(&self.at(&format!("path/{name}")), text);
    }

    /// Writes the report of an earlier run of another kit, in which parts took some seconds.
    fn write_earlier(&self, seconds: &[(&str, f64)]) -> PathBuf {
        let parts: Vec<Value> = (seconds.iter())
            .map(|(name, seconds)| json!({"name": name, "result": "ok", "seconds": seconds}))
            .collect();
        self.write("earlier.json", &json!({"parts": parts}).to_string());
        self.at("earlier.json")
    }

    /// Returns the command `run` with missing tools allowed and the report in `out`.
    fn command(&self, options: &[&str]) -> Command {
        let path = std::env::var_os("PATH").unwrap();
        let path = std::env::split_paths(&path)
            .filter(|folder| !folder.join("compute-sanitizer").is_file());
        let path = std::iter::once(self.at("path")).chain(path);
        let mut command = Command::new(&self.python);
        command
            .arg(self.at("kit/run"))
            .args(options)
            .arg("--out")
            .arg(self.at("out"))
            .env("PATH", std::env::join_paths(path).unwrap())
            .env("TMPDIR", self.folder.path())
            .env("W4AX_ALLOW_MISSING_TOOLS", "1");
        command
    }

    fn run(&self, options: &[&str]) -> Done {
        self.finish(&mut self.command(options))
    }

    fn finish(&self, command: &mut Command) -> Done {
        let output = command.output().unwrap();
        println!("{}", text_of(&output));
        Done {
            code: output.status.code(),
            report: self.report(),
        }
    }

    fn start(&self, options: &[&str]) -> Child {
        (self.command(options))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn report(&self) -> Value {
        read_json(&self.at("out/report.json"))
    }

    /// Returns what the programs ran, in order.
    fn ran(&self) -> Vec<String> {
        let text = fs::read_to_string(self.at("ran")).unwrap_or_default();
        text.lines().map(String::from).collect()
    }

    /// Returns the parts that `--list` prints, with their kinds.
    fn list(&self, options: &[&str]) -> Vec<(String, String)> {
        let output = self.command(options).arg("--list").output().unwrap();
        assert!(output.status.success(), "{}", text_of(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        let parts = text.lines().map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            (fields[0].to_owned(), fields[3].to_owned())
        });
        parts.collect()
    }

    /// Returns the names of the logs in the archive. Fails if the archive is damaged.
    fn logs(&self) -> Vec<String> {
        let list = "import sys, tarfile\n\
            with tarfile.open(sys.argv[1]) as archive:\n    \
                print(*archive.getnames(), sep='\\n')";
        let output = Command::new(&self.python)
            .args(["-c", list])
            .arg(self.at("out/logs.tar.gz"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text_of(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().map(String::from).collect()
    }
}

impl Done {
    /// Returns the entry of a part.
    fn part(&self, name: &str) -> &Value {
        part(&self.report, name)
    }
}

/// Returns the entry of a part in a report.
fn part<'a>(report: &'a Value, name: &str) -> &'a Value {
    (report["parts"].as_array().unwrap().iter())
        .find(|part| part["name"] == name)
        .unwrap_or_else(|| panic!("no part {name}: {report:#}"))
}

/// Waits until `ready` returns true; fails after a minute.
fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if ready() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("waited a minute until {what}");
}

/// Returns whether a process runs. A zombie does not.
fn is_running(id: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    status.contains("State:") && !status.contains("State:\tZ")
}

/// Returns the names of the entries of a folder, in order.
fn entries(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = (fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
