//! Runs that are cut off by a signal.

use std::os::unix::process::ExitStatusExt;

use serde_json::{Value, json};

use super::*;

fn send(signal: &str, child: &Child) {
    let sent = Command::new("kill")
        .args([signal, &child.id().to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// Checks that the files of a run that was cut off are valid and agree with each other.
fn check_files(kit: &Kit, parts: usize) -> Value {
    let report = kit.report();
    let entries = entries(&kit.at("out"));
    let few = ["logs.tar.gz", "report.json", "summary.txt"];
    // `.part` is a file that was being replaced.
    let others: Vec<_> = (entries.iter())
        .filter(|name| !few.contains(&name.as_str()) && *name != ".part")
        .collect();
    assert!(others.is_empty(), "{others:?}");
    let logs = kit.logs();
    let found = report["parts"].as_array().unwrap();
    if report["state"] == "starting" {
        assert!(found.is_empty(), "{report:#}");
        return report;
    }
    assert_eq!(found.len(), parts, "{report:#}");
    let not_run: Vec<&Value> = report["not_run"].as_array().unwrap().iter().collect();
    for part in found {
        let ended = part["result"] == "ok";
        let known = ended || part["result"] == "pending" || part["result"] == "running";
        let left_out = part["name"] == "bench::peers" || part["why"].is_string();
        assert!(known || left_out, "{part}");
        // The report says of each part whether it ran.
        assert_ne!(ended, not_run.contains(&&part["name"]), "{part}");
        let log = part["name"].as_str().unwrap().replace("::", "-") + ".log";
        assert!(!ended || logs.contains(&log), "{log} {logs:?}");
    }
    report
}

#[test]
fn sigterm_ends_a_run_with_a_report() {
    let Some(kit) = Kit::new("sigterm_ends_a_run_with_a_report", &NAMES) else {
        return;
    };
    kit.write("slow", "graphs::one\n");
    let mut child = kit.start(&[]);
    wait_until("the slow test runs", || kit.at("pid").exists());
    send("-TERM", &child);
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
    let report = kit.report();
    assert_eq!(report["state"], "terminated");
    assert_eq!(part(&report, "kernels::one")["result"], "ok");
    let slow = part(&report, "graphs::one");
    assert_eq!(
        (&slow["result"], &slow["why"], &slow["log"]),
        (
            &json!("stopped"),
            &json!("the run received SIGTERM"),
            &json!("begun")
        )
    );
    let later = part(&report, "bench::decode");
    assert_eq!(later["why"], "the run received SIGTERM");
    assert_eq!(
        entries(&kit.at("out")),
        ["logs.tar.gz", "report.json", "summary.txt"]
    );
    let pid = fs::read_to_string(kit.at("pid")).unwrap();
    wait_until("the program's child ends", || !is_running(pid.trim()));
    // Nothing is left in the folder for temporary files.
    let left = entries(kit.folder.path());
    assert!(
        !left.iter().any(|name| name.starts_with("w4ax-kit-")),
        "{left:?}"
    );
}

#[test]
fn sigkill_leaves_a_report_of_what_did_not_run() {
    let Some(kit) = Kit::new("sigkill_leaves_a_report_of_what_did_not_run", &NAMES) else {
        return;
    };
    kit.write("slow", "decode\n");
    let mut child = kit.start(&[]);
    wait_until("the slow bench runs", || kit.at("pid").exists());
    // What the bench has measured so far, and its log, are in the report while it runs.
    wait_until("the report has its figures", || {
        kit.report()["benches"]["decode"].is_object()
    });
    send("-KILL", &child);
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    let report = check_files(&kit, NAMES.len() + 6);
    assert_eq!(report["state"], "running");
    assert_eq!(part(&report, "bench::decode")["result"], "running");
    assert_eq!(part(&report, "bench::chain")["result"], "pending");
    assert_eq!(report["passed"], NAMES.len() + 1);
    assert_eq!(
        report["not_run"],
        json!([
            "bench::decode",
            "bench::chain",
            "bench::prefill",
            "bench::routing",
            "bench::peers"
        ])
    );
    let pid = fs::read_to_string(kit.at("pid")).unwrap();
    wait_until("the bench ends with the run", || !is_running(pid.trim()));
}

/// Kills runs at many moments, from their first report on.
#[test]
fn sigkill_at_any_time_leaves_valid_files() {
    let Some(kit) = Kit::new("sigkill_at_any_time_leaves_valid_files", &NAMES) else {
        return;
    };
    let mut states = Vec::new();
    for moment in 0..24 {
        let _ = fs::remove_dir_all(kit.at("out"));
        let mut child = kit.start(&[]);
        wait_until("there is a report", || kit.at("out/report.json").exists());
        std::thread::sleep(Duration::from_millis(29 * moment));
        // The run may have ended already.
        let _ = child.kill();
        child.wait().unwrap();
        let report = check_files(&kit, NAMES.len() + 6);
        states.push((report["state"].clone(), report["passed"].clone()));
    }
    println!("{states:?}");
    states.dedup();
    assert!(
        states.len() >= 3,
        "all runs were killed at one moment: {states:?}"
    );
}

#[test]
fn sigterm_at_any_time_ends_a_run() {
    let Some(kit) = Kit::new("sigterm_at_any_time_ends_a_run", &NAMES) else {
        return;
    };
    // One of the last parts waits, so that no run ends before its signal on a fast machine.
    kit.write("slow", "routing\n");
    for moment in 0..8 {
        let _ = fs::remove_dir_all(kit.at("out"));
        let mut child = kit.start(&[]);
        wait_until("there is a report", || kit.at("out/report.json").exists());
        std::thread::sleep(Duration::from_millis(61 * moment));
        send("-TERM", &child);
        assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
        let report = kit.report();
        assert_eq!(report["state"], "terminated");
        assert_eq!(report["problem"], Value::Null);
        assert_eq!(report["failed"], 0, "{report:#}");
        for part in report["parts"].as_array().unwrap() {
            let ended = part["result"] == "ok";
            let known = ["stopped", "left out"]
                .iter()
                .any(|of| part["result"] == *of);
            assert!(ended || known, "{part}");
        }
    }
}

/// The files of a run are valid at every moment at which they are read, so that they are valid at
/// every moment at which the run is cut off.
#[test]
fn files_are_valid_at_every_moment() {
    let Some(kit) = Kit::new("files_are_valid_at_every_moment", &NAMES) else {
        return;
    };
    let mut child = kit.start(&[]);
    let report = kit.at("out/report.json");
    wait_until("there is a report", || report.exists());
    let (mut reads, mut states) = (0, Vec::new());
    while child.try_wait().unwrap().is_none() {
        let found = kit.report();
        reads += 1;
        states.push((found["state"].clone(), found["passed"].clone()));
        // The archive is at least as new as the report. It has a gzip member for each log, and one
        // for its end.
        let archive = fs::read(kit.at("out/logs.tar.gz")).unwrap();
        let header = [0x1f, 0x8b, 8, 0];
        let members = archive.windows(4).filter(|bytes| *bytes == header);
        let passed = found["passed"].as_u64().unwrap() as usize;
        assert!(archive.starts_with(&header) && members.count() > passed);
    }
    states.dedup();
    assert!(reads > 50 && states.len() > 5, "{reads} reads: {states:?}");
}
