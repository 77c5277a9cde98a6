//! Which parts run, and in which order.

use std::collections::BTreeSet;

use super::*;

/// Returns the names of the GPU tests of the crate, by module, and those that need two devices.
fn gpu_tests() -> (Vec<String>, Vec<String>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cuda");
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for file in entries(&folder) {
        let text = fs::read_to_string(folder.join(&file)).unwrap();
        let module = file.trim_end_matches(".rs");
        let mut needs = None;
        for line in text.lines().map(str::trim) {
            let ignored = line.split_once("ignore = \"needs ");
            if let Some((_, reason)) = ignored {
                needs = Some(reason);
            } else if let (Some(reason), Some(name)) = (needs, line.strip_prefix("fn ")) {
                let name = format!("{module}::{}", name.split('(').next().unwrap());
                let tests = if reason.starts_with("two") {
                    &mut two
                } else {
                    &mut one
                };
                tests.push(name);
                needs = None;
            }
        }
    }
    (one, two)
}

/// Returns what a Python expression on the module `gpu_kit.parts` prints.
fn evaluate(kit: &Kit, expression: &str) -> String {
    let code = format!("from gpu_kit import parts\nprint({expression})");
    let output = Command::new(&kit.python)
        .args(["-B", "-c", &code])
        .env("PYTHONPATH", kit.at("kit"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text_of(&output));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn names(parts: &[(String, String)]) -> Vec<&str> {
    parts.iter().map(|(_, name)| name.as_str()).collect()
}

#[test]
fn runs_by_worth() {
    let Some(kit) = Kit::new("runs_by_worth", &NAMES) else {
        return;
    };
    kit.add_tests("test-capi", &["bits"]);
    kit.add_tool("python3", TORCH);
    kit.add_tool("compute-sanitizer", SANITIZER);
    let done = kit.run(&["--sanitizer"]);
    assert_eq!(done.code, Some(0), "{:#}", done.report);
    let order = [
        "smoke::one",
        "bench limits",
        "kernels::every_kernel_matches_reference",
        "bf16_results::one",
        "kernels::one",
        "graphs::one",
        "routing::one",
        "bits",
        "device::rejects_one",
        "failing::one",
        "bench decode",
        "bench chain",
        "bench prefill",
        "bench routing",
    ];
    assert_eq!(kit.ran(), order);
    let parts = kit.list(&["--sanitizer"]);
    let kinds: Vec<&str> = parts.iter().map(|(kind, _)| kind.as_str()).collect();
    let counts = ["smoke", "test", "sanitizer", "bench"]
        .map(|kind| kinds.iter().filter(|of| **of == kind).count());
    assert_eq!(counts, [2, 8, 6, 5]);
    assert!(kinds.is_sorted_by_key(|kind| {
        ["smoke", "test", "sanitizer", "bench"]
            .iter()
            .position(|of| of == kind)
    }));
    // Sanitizers run if they are requested only.
    let parts = kit.list(&[]);
    assert!(parts.iter().all(|(kind, _)| kind != "sanitizer"));
    assert_eq!(parts.len(), 15);
}

#[test]
fn only_selects_by_name_after_the_smoke_tests() {
    let Some(kit) = Kit::new("only_selects_by_name_after_the_smoke_tests", &NAMES) else {
        return;
    };
    let done = kit.run(&["--only", "^graphs|decode$"]);
    assert_eq!(done.code, Some(0), "{:#}", done.report);
    let order = ["smoke::one", "bench limits", "graphs::one", "bench decode"];
    assert_eq!(kit.ran(), order);
    assert_eq!(done.report["parts"].as_array().unwrap().len(), 4);
    assert_eq!(done.report["options"]["only"], "^graphs|decode$");
    let parts = kit.list(&["--only", "^graphs", "--no-smoke"]);
    assert_eq!(names(&parts), ["graphs::one"]);
}

#[test]
fn shards_are_disjoint_and_complete() {
    let Some(kit) = Kit::new("shards_are_disjoint_and_complete", &NAMES) else {
        return;
    };
    let all = kit.list(&["--no-smoke"]);
    // All tests but that of the smoke tests, and five benches.
    assert_eq!(all.len(), NAMES.len() - 1 + 5);
    // Durations differ from slot to slot, and must not move a part to another shard.
    let earlier = kit.write_earlier(&[("kernels::one", 500.0), ("bench::chain", 500.0)]);
    let mut seen = BTreeSet::new();
    for shard in ["1/3", "2/3", "3/3"] {
        let mut options = vec!["--shard", shard];
        if shard == "2/3" {
            options.extend(["--after", earlier.to_str().unwrap()]);
        }
        let parts = kit.list(&options);
        assert_eq!(names(&parts)[..2], ["smoke::one", "smoke::bandwidth"]);
        let others = &parts[2..];
        assert!(others.len() >= all.len() / 3, "{others:?}");
        for part in others {
            assert!(seen.insert(part.clone()), "{part:?} is in two shards");
        }
    }
    assert_eq!(seen, all.into_iter().collect::<BTreeSet<_>>());
}

#[test]
fn rejects_invalid_options() {
    let Some(kit) = Kit::new("rejects_invalid_options", &NAMES) else {
        return;
    };
    for (options, message) in [
        (
            ["--shard", "0/2"],
            "invalid shard 0/2: expected i/n with 1 <= i <= n",
        ),
        (["--shard", "3/2"], "invalid shard 3/2"),
        (["--only", "("], "invalid --only ("),
        (["--deadline", "-1"], "invalid --deadline -1"),
        (["--deadline", "nan"], "invalid --deadline nan"),
        (["--after", "absent.json"], "invalid --after absent.json"),
    ] {
        let output = kit.command(&options).output().unwrap();
        let text = text_of(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(message), "{message}: {text}");
    }
    assert!(!kit.at("out").exists());
}

#[test]
fn later_run_leaves_out_what_passed() {
    let mut all = NAMES.to_vec();
    all.push("kernels::bad");
    let Some(kit) = Kit::new("later_run_leaves_out_what_passed", &all) else {
        return;
    };
    kit.write("short", "prefill\n");
    let only = ["--only", "kernels|bench::(decode|prefill)"];
    kit.run(&only);
    fs::rename(kit.at("out/report.json"), kit.at("first.json")).unwrap();
    fs::remove_file(kit.at("ran")).unwrap();
    let first = kit.at("first.json");
    let options = [&only[..], &["--after", first.to_str().unwrap()]].concat();
    let done = kit.run(&options);
    // Smoke tests, what failed, and what was measured in part, run once more.
    let order = [
        "smoke::one",
        "bench limits",
        "kernels::bad",
        "bench prefill",
    ];
    assert_eq!(kit.ran(), order);
    assert_eq!(
        done.part("kernels::one")["why"],
        "passed in an earlier run of this kit"
    );
    // What another kit passed runs, with the durations of that run.
    kit.write("kit/kit.json", r#"{"commit": "def"}"#);
    fs::remove_file(kit.at("ran")).unwrap();
    let done = kit.run(&options);
    assert_eq!(kit.ran().len(), 7);
    assert!(done.part("kernels::one")["expected"].as_f64() < Some(5.0));
}

/// The names that the kit knows are those of the tests in `tests/cuda`.
#[test]
fn knows_the_gpu_tests() {
    let (one, two) = gpu_tests();
    assert!(one.len() > 40 && two.len() == 1, "{one:?} {two:?}");
    let all: Vec<&str> = one.iter().chain(&two).map(String::as_str).collect();
    let Some(kit) = Kit::new("knows_the_gpu_tests", &all) else {
        return;
    };
    let parts = kit.list(&["--only", "^(?!bench::)"]);
    let listed = names(&parts);
    assert_eq!(listed.len(), all.len() + 1);
    assert_eq!(listed[0], "smoke::each_family_matches_reference");
    let first_test = listed.iter().position(|name| !name.starts_with("smoke::"));
    let every_kernel = "kernels::every_kernel_matches_reference";
    assert_eq!(first_test.map(|at| listed[at]), Some(every_kernel));
    // Failing calls are last.
    let fails = |name: &str| name.contains("::rejects_") || name.starts_with("failing::");
    let first_failing = listed.iter().position(|name| fails(name)).unwrap();
    assert!(listed[first_failing..].iter().all(|name| fails(name)));
    // Every other test has a rank, and a duration, of its own.
    for name in &listed[..first_failing] {
        let rank = evaluate(&kit, &format!("parts.worth('{name}') < len(parts.WORTH)"));
        assert_eq!(rank, "True", "{name} has no rank");
    }
    let matches = |name: &str| evaluate(&kit, &format!("bool(parts.TWO_DEVICES.search('{name}'))"));
    assert_eq!(matches(&two[0]), "True");
    for name in one.iter().filter(|name| name.starts_with("device::")) {
        assert_eq!(matches(name), "False", "{name}");
    }
    // Parts of the names of the tests that run under compute-sanitizer.
    let sanitized = evaluate(&kit, "*parts.SANITIZED_TESTS");
    assert!(sanitized.split(' ').count() > 2);
    for name in sanitized.split(' ') {
        assert!(
            all.iter().any(|test| test.contains(name)),
            "no GPU test has `{name}` in its name"
        );
    }
}
