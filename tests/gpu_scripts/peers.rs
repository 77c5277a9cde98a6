//! The peers' bench, without torch and with a fake one.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::{python3, read_json, script, text_of, write_program};

/// A torch whose tensors hold nothing. It has no INT4 kernel.
const FAKE_TORCH: &str = "\
class Tensor:
    def __truediv__(self, _):
        return self

    def copy_(self, _):
        pass


def tensor(*_, **__):
    return Tensor()


class Anything:
    pass


zeros = empty_like = randn = tensor
uint8 = bfloat16 = None
__version__ = 'fake'
nn, ops = Anything(), Anything()
nn.functional, ops.aten = Anything(), Anything()
nn.functional.linear = tensor
";

/// Runs the peers' bench on the CPU with a module in place of torch. Returns its output and its
/// report; `None` if the test is left out.
fn run(test: &str, torch: &str, options: &[&str]) -> Option<(Output, Value)> {
    let folder = tempfile::tempdir().unwrap();
    write_program(&folder.path().join("torch.py"), torch);
    let json = folder.path().join("peers.json");
    let output = python3(test)?
        .arg(script("gpu-peers"))
        .args(["--device", "cpu", "--repeats", "1", "--json"])
        .arg(&json)
        .args(options)
        .env("PYTHONPATH", folder.path())
        .output()
        .expect("python3 runs");
    assert!(!Path::new(&format!("{}.part", json.display())).exists());
    let report = read_json(&json);
    Some((output, report))
}

#[test]
fn peers_report_missing_torch() {
    // Hides an installed torch.
    let hidden = "raise ImportError('hidden')";
    let Some((output, report)) = run("peers_report_missing_torch", hidden, &[]) else {
        return;
    };
    assert!(!output.status.success());
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

#[test]
fn peers_print_a_short_table_last() {
    let test = "peers_print_a_short_table_last";
    let Some((output, report)) = run(test, FAKE_TORCH, &[]) else {
        return;
    };
    let text = text_of(&output);
    assert!(output.status.success(), "{text}");
    // Three numbers of tokens, and four shapes at each.
    assert_eq!(report["chain"].as_array().unwrap().len(), 3);
    assert_eq!(report["rows"].as_array().unwrap().len(), 12);
    assert_eq!(report["not_measured"], json!([]));
    assert_eq!(report["peers"][0]["absent"], Value::Null);
    let absent = report["peers"][1]["absent"].as_str().unwrap();
    assert!(absent.starts_with("AttributeError: "), "{absent}");
    let (_, last) = text.split_once("== summary\n").unwrap();
    assert!(last.contains("torch BF16   M   16 4 shapes"), "{last}");
    assert!(last.contains("torch BF16   M    8 32 layers"), "{last}");
}

#[test]
fn peers_list_what_the_deadline_left_out() {
    let test = "peers_list_what_the_deadline_left_out";
    let Some((output, report)) = run(test, FAKE_TORCH, &["--deadline", "0"]) else {
        return;
    };
    let text = text_of(&output);
    assert!(output.status.success(), "{text}");
    assert_eq!(report["rows"], json!([]));
    assert_eq!(report["not_measured"], json!(["torch BF16: weights"]));
    assert!(
        text.contains("not measured, for lack of time: 1 cases"),
        "{text}"
    );
}
