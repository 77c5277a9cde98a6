//! What a report says about parts that ran, failed, or were left out.

use serde_json::{Value, json};

use super::*;

#[test]
fn reports_passed_failed_and_left_out_parts() {
    let names = [
        "device::rejects_weight_of_another_device",
        "kernels::bad",
        "kernels::empty",
        "kernels::good",
        "smoke::one",
    ];
    let Some(kit) = Kit::new("reports_passed_failed_and_left_out_parts", &names) else {
        return;
    };
    kit.add_tests("test-capi", &["bits"]);
    kit.write("broken", "chain\n");
    kit.write("short", "prefill\n");
    let kit_before = entries(&kit.at("kit"));
    let done = kit.run(&[]);
    assert_eq!(done.code, Some(1), "{:#}", done.report);
    for name in [
        "smoke::one",
        "smoke::bandwidth",
        "kernels::good",
        "capi::bits",
    ] {
        assert_eq!(done.part(name)["result"], "ok", "{name}");
    }
    let bad = done.part("kernels::bad");
    assert_eq!(
        (&bad["result"], &bad["exit"]),
        (&json!("failed"), &json!(101))
    );
    assert_eq!(bad["log"], "a \"wrong\" bit");
    assert_eq!(done.part("kernels::empty")["why"], "no test ran");
    let two = done.part("device::rejects_weight_of_another_device");
    assert_eq!(
        (&two["result"], &two["why"]),
        (&json!("left out"), &json!("one device"))
    );
    // Benches that succeed are reported although one fails, and one measured some cases only.
    let benches = &done.report["benches"];
    let options = benches["decode"]["options"].as_str().unwrap();
    assert!(
        options.starts_with("decode --device 0 --json "),
        "{options}"
    );
    assert_eq!(benches["chain"], Value::Null);
    assert_eq!(done.part("bench::chain")["log"], "it broke: \"x\"");
    assert_eq!(
        done.part("bench::prefill")["why"],
        "deadline: 2 cases were not measured"
    );
    assert_eq!(
        done.part("bench::peers")["why"],
        "python3 has no torch: ModuleNotFoundError: No module named 'torch'"
    );
    let counts = ["passed", "failed", "left_out", "cut_off"].map(|of| &done.report[of]);
    assert_eq!(counts, [&json!(7), &json!(3), &json!(2), &json!(1)]);
    assert_eq!(
        done.report["not_run"],
        json!(["device::rejects_weight_of_another_device", "bench::peers"])
    );
    // Few files, all of them in `out`.
    assert_eq!(
        entries(&kit.at("out")),
        ["logs.tar.gz", "report.json", "summary.txt"]
    );
    assert_eq!(entries(&kit.at("kit")), kit_before);
    let logs = kit.logs();
    assert_eq!(logs.len(), 10, "{logs:?}");
    assert!(logs.contains(&"kernels-bad.log".to_owned()), "{logs:?}");
    let summary = fs::read_to_string(kit.at("out/summary.txt")).unwrap();
    assert!(summary.starts_with("NVIDIA Test \"1\"; "), "{summary}");
    for line in ["failed        0.", "bench::decode:\nthe table of decode\n"] {
        assert!(summary.contains(line), "{line}\n{summary}");
    }
    assert!(!summary.contains("a long table"), "{summary}");
}

#[test]
fn all_parts_passed_is_success() {
    let Some(kit) = Kit::new("all_parts_passed_is_success", &NAMES) else {
        return;
    };
    kit.add_tool("python3", TORCH);
    let done = kit.run(&[]);
    assert_eq!(done.code, Some(0), "{:#}", done.report);
    assert_eq!(done.report["state"], "finished");
    assert_eq!(done.report["not_run"], json!([]));
    assert_eq!(done.report["benches"]["peers"], json!({"rows": []}));
    let clocks = &done.report["clocks"];
    assert_eq!(clocks["before"]["driver_version"], "580.1");
    assert_eq!(clocks["after"]["clocks.sm"], "345 MHz");
    assert!(clocks["during"]["samples"].as_u64() > Some(0), "{clocks:#}");
    assert_eq!(clocks["during"]["power.draw"], json!([350.5, 350.5]));
}

#[test]
fn missing_tools_are_failures_unless_allowed() {
    let Some(kit) = Kit::new("missing_tools_are_failures_unless_allowed", &NAMES) else {
        return;
    };
    let options = [
        "--sanitizer",
        "--only",
        "^(sanitizer::memcheck|bench::peers)$",
    ];
    let done = kit.finish(kit.command(&options).env_remove("W4AX_ALLOW_MISSING_TOOLS"));
    assert_eq!(done.code, Some(1), "{:#}", done.report);
    assert_eq!(done.report["failed"], 2, "{:#}", done.report);
    let allowed = " (W4AX_ALLOW_MISSING_TOOLS=1 leaves this part out)";
    for (name, reason) in [
        ("sanitizer::memcheck", "compute-sanitizer is not in PATH"),
        ("bench::peers", "python3 has no torch: "),
    ] {
        let why = done.part(name)["why"].as_str().unwrap();
        assert!(why.starts_with(reason) && why.ends_with(allowed), "{why}");
    }
    let done = kit.run(&options);
    assert_eq!(done.code, Some(0), "{:#}", done.report);
    assert_eq!(done.part("sanitizer::memcheck")["result"], "left out");
}

#[test]
fn missing_device_leaves_everything_out() {
    let Some(kit) = Kit::new("missing_device_leaves_everything_out", &NAMES) else {
        return;
    };
    fs::remove_file(kit.at("kit/bin/device")).unwrap();
    let done = kit.run(&[]);
    assert_eq!(done.code, Some(1));
    assert_eq!(done.report["problem"], "no driver");
    assert_eq!(done.report["failed"], 1);
    let parts = done.report["parts"].as_array().unwrap();
    assert_eq!(parts.len(), NAMES.len() + 6);
    for part in parts {
        assert_eq!(part["why"], "no device", "{part}");
    }
    assert_eq!(kit.ran(), [""; 0]);
}

#[test]
fn program_without_tests_is_a_failure() {
    let Some(kit) = Kit::new("program_without_tests_is_a_failure", &NAMES) else {
        return;
    };
    kit.add_tool("python3", TORCH);
    kit.add_tool("../kit/bin/test-capi", "#!/usr/bin/env bash\nexit 1\n");
    let done = kit.run(&[]);
    assert_eq!(done.code, Some(1));
    assert_eq!(done.report["problem"], "test-capi --list prints no tests");
    assert_eq!(done.part("kernels::one")["result"], "ok");
}
