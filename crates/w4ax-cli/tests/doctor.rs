//! `w4ax doctor`: its checks, and a planted fault.

use std::process::{Command, Output};

use half::bf16;
use serde_json::Value;
use w4ax::Scheme;
use w4ax::cpu::Isa;
use w4ax_cli::doctor::report::{Check, CheckedPath};
use w4ax_cli::doctor::{CheckId, examine};

fn doctor(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_w4ax"))
        .arg("doctor")
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn checks_every_width_scheme_grouping_and_symmetry_of_every_instruction_set() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("doctor.json");
    let output = doctor(&["--json", json.to_str().unwrap()]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{printed}");
    let report: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    assert_eq!(
        (&report["passed"], &report["failed"]),
        (&true.into(), &0.into())
    );
    let paths = report["paths"].as_array().unwrap();
    for isa in Isa::ALL {
        let name = format!("cpu {}", isa.name());
        assert!(printed.contains(&name), "{name} is not in: {printed}");
        let path = paths.iter().find(|path| path["name"] == *name).unwrap();
        let checks = path["checks"].as_array().unwrap();
        assert_eq!(path["not_available"].is_null(), isa.is_available());
        // 4 widths, 4 groupings, 3 of them two-level too, with and without zero points.
        let two_level = checks.iter().filter(|check| check["scheme"] == "two-level");
        let counts = (checks.len(), two_level.count());
        let expected = match isa.is_available() {
            true => (56, 24),
            false => (0, 0),
        };
        assert_eq!(counts, expected, "{name}");
        for check in checks {
            assert_eq!(
                (&check["gemms"], &check["difference"]),
                (&6.into(), &Value::Null)
            );
        }
        if !isa.is_available() {
            assert!(printed.contains(&format!("{name}: not available: ")));
        }
    }
    assert!(
        paths
            .iter()
            .any(|path| path["name"].as_str().unwrap().starts_with("cuda")),
        "GPUs are listed, available or not"
    );
    for name in [
        "w4ax",
        "cpu",
        "instruction sets",
        "cuda driver",
        "cuda kernels",
    ] {
        assert!(printed.contains(name), "{name} is not in: {printed}");
    }
}

#[test]
fn planted_fault_is_found() {
    let found = |planted: &str| {
        let fault = |id: &CheckId, y: &mut [bf16]| {
            if id.to_string() == planted {
                y[0] = bf16::from_bits(y[0].to_bits() ^ 1);
            }
        };
        let report = examine(&fault).unwrap();
        assert_eq!(report.passed, report.failed == 0);
        let failures = report.paths.iter().flat_map(|path| path.failures());
        failures.cloned().collect::<Vec<_>>()
    };
    let failures = found("cpu scalar/4/g64/asym");
    assert_eq!(failures.len(), 1);
    let check = &failures[0];
    assert_eq!(
        (check.width, check.grouping.as_str(), check.symmetric),
        (4, "g64", false)
    );
    let difference = check.difference.as_deref().unwrap();
    assert!(difference.contains("y[0, 0] is"), "{difference}");
    let failures = found("cpu scalar/8/two-level g128/sym");
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].name(), "8/two-level g128/sym");
    assert_eq!(
        (failures[0].scheme.as_str(), failures[0].grouping.as_str()),
        ("two-level", "g128")
    );
    assert!(found("no such check").is_empty());

    // The exit code is 1, and the output names the check.
    let output = doctor(&["--plant-fault", "cpu scalar/16/channel/sym"]);
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(
        printed.contains("cpu scalar/16/channel/sym: [M, N, K] = [1, 33, 136]"),
        "{printed}"
    );
    assert!(
        printed.contains("1 failed") && printed.contains("FAIL"),
        "{printed}"
    );
}

/// A path that ran GEMMs of one scheme alone reports the other.
#[test]
fn scheme_without_kernels_is_reported() {
    let check = |scheme: &str, gemms| Check {
        width: 8,
        scheme: scheme.into(),
        grouping: "g64".into(),
        symmetric: true,
        gemms,
        difference: None,
    };
    let without = |checks: Vec<Check>| {
        let path = CheckedPath {
            name: "cuda:0 decode fused".into(),
            not_available: None,
            checks,
        };
        path.schemes_without_kernels().collect::<Vec<_>>()
    };
    let (grouped, two_level) = (check("grouped", 6), check("two-level", 6));
    assert_eq!(without(vec![grouped.clone(), two_level]), []);
    let none = check("two-level", 0);
    assert_eq!(without(vec![grouped, none.clone()]), [Scheme::TwoLevel]);
    assert_eq!(without(vec![none]), [], "a path that ran nothing");
}
