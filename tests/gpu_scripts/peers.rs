//! The peers' bench, without torch.

use crate::{python3, read_json, script, text_of, write_program};

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
