//! Runs with a deadline.

use serde_json::json;

use super::*;

/// Durations of the parts that run in these tests.
const SHORT: [(&str, f64); 6] = [
    ("smoke::one", 0.1),
    ("smoke::bandwidth", 0.1),
    ("kernels::one", 0.1),
    ("graphs::one", 0.1),
    ("routing::one", 0.1),
    ("bench::decode", 1.0),
];

#[test]
fn nothing_begins_that_cannot_end_in_time() {
    let Some(kit) = Kit::new("nothing_begins_that_cannot_end_in_time", &NAMES) else {
        return;
    };
    let earlier = kit.write_earlier(&SHORT);
    // The deadline is beyond the time that the short parts take on a busy machine, and below the
    // estimate of the test of every kernel.
    let options = ["--deadline", "50", "--after", earlier.to_str().unwrap()];
    let done = kit.run(&options);
    let every = done.part("kernels::every_kernel_matches_reference");
    assert_eq!(every["result"], "left out");
    let why = every["why"].as_str().unwrap();
    assert!(why.starts_with("deadline: 60 s expected, "), "{why}");
    // Later parts that fit run.
    for (name, _) in SHORT {
        assert_eq!(done.part(name)["result"], "ok", "{name}");
    }
    assert_eq!(done.code, Some(3), "{:#}", done.report);
    assert_eq!(done.report["state"], "cut off at the deadline");
    assert_eq!(done.report["options"]["deadline"], 50.0);
    let not_run = done.report["not_run"].as_array().unwrap();
    assert!(not_run.contains(&json!("kernels::every_kernel_matches_reference")));
    assert!(
        !kit.ran()
            .contains(&"kernels::every_kernel_matches_reference".to_owned())
    );
}

#[test]
fn running_part_is_stopped_at_the_deadline() {
    let Some(kit) = Kit::new("running_part_is_stopped_at_the_deadline", &NAMES) else {
        return;
    };
    let earlier = kit.write_earlier(&SHORT);
    kit.write("slow", "graphs::one\n");
    let options = [
        "--only",
        "graphs|routing",
        "--deadline",
        "8",
        "--after",
        earlier.to_str().unwrap(),
    ];
    let done = kit.run(&options);
    assert_eq!(done.code, Some(3), "{:#}", done.report);
    let slow = done.part("graphs::one");
    assert_eq!(slow["result"], "stopped", "{slow}");
    assert!(slow["why"].as_str().unwrap().starts_with("deadline: "));
    // Stopped by the deadline of 8 s, and not by the limit of a part, which is 120 s.
    assert!(slow["seconds"].as_f64() < Some(60.0), "{slow}");
    // The log up to then is kept.
    assert_eq!(slow["log"], "begun");
    assert!(kit.logs().contains(&"graphs-one.log".to_owned()));
    for name in ["routing::one", "bench::routing"] {
        let why = done.part(name)["why"].as_str().unwrap();
        assert!(why.starts_with("deadline: "), "{why}");
    }
    assert_eq!(
        done.report["not_run"],
        json!(["graphs::one", "routing::one", "bench::routing"])
    );
    // What the program started has ended too.
    let pid = fs::read_to_string(kit.at("pid")).unwrap();
    wait_until("the program's child ends", || !is_running(pid.trim()));
}

#[test]
fn benches_get_deadlines_of_their_own() {
    let Some(kit) = Kit::new("benches_get_deadlines_of_their_own", &NAMES) else {
        return;
    };
    let earlier = kit.write_earlier(&[("smoke::bandwidth", 1.0), ("smoke::one", 1.0)]);
    let earlier = earlier.to_str().unwrap();
    let done = kit.run(&["--only", "bench", "--deadline", "300", "--after", earlier]);
    let deadline = |name: &str| -> f64 {
        let options = done.report["benches"][name]["options"].as_str().unwrap();
        let (_, seconds) = options.split_once("--deadline ").unwrap();
        seconds.parse().unwrap()
    };
    // Less than 297 s are left to benches of 100, 45, 150, 45 s and the peers' 150 s, which have no
    // torch here.
    let first = deadline("decode");
    assert!((50.0..90.0).contains(&first), "{first}");
    // The last one gets all that is left.
    let last = deadline("routing");
    assert!((200.0..297.0).contains(&last), "{last}");
    // Without a deadline a bench has none.
    let done = kit.run(&["--only", "bench"]);
    assert!(!done.report["benches"].to_string().contains("--deadline"));
}

#[test]
fn stopped_bench_keeps_what_it_measured() {
    let Some(kit) = Kit::new("stopped_bench_keeps_what_it_measured", &NAMES) else {
        return;
    };
    let mut short = SHORT.to_vec();
    short.push(("bench::prefill", 100.0));
    let earlier = kit.write_earlier(&short);
    kit.write("slow", "decode\n");
    let options = [
        "--only",
        "bench::(decode|prefill)",
        "--deadline",
        "22",
        "--after",
        earlier.to_str().unwrap(),
    ];
    let done = kit.run(&options);
    let decode = done.part("bench::decode");
    assert_eq!(decode["result"], "stopped", "{decode}");
    assert!(decode["why"].as_str().unwrap().starts_with("deadline: "));
    assert!(done.report["benches"]["decode"]["options"].is_string());
}
