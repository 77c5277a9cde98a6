//! The width that the dispatcher decides.

use super::*;
use w4ax::calibrate::Calibration;
use w4ax::dispatch::{Action, Dispatcher};
use w4ax_robot::paths::ROBOT;

/// The normalized action of a step's tokens.
fn action(step: &Value) -> Action {
    let tokens: [u32; 7] = serde_json::from_value(step["tokens"].clone()).unwrap();
    // 255 bin centers, the last id first.
    tokens.map(|token| f64::from(2 * (31999 - token).min(254) + 1) / 255.0 - 1.0)
}

fn calibration() -> String {
    format!("{ROBOT}/calibration.json")
}

fn dispatcher() -> Dispatcher {
    let calibration = Calibration::load(calibration()).unwrap();
    Dispatcher::new(&calibration.dispatch_config("Lift").unwrap()).unwrap()
}

#[test]
fn dispatcher_decides_from_the_preceding_actions() {
    let [case, ..] = cases();
    let path = calibration();
    let dynamic = ["--calibration", &path, "--task", "Lift"];
    let arguments = [&case.bridge()[..], &dynamic, &["--steps", "12"]].concat();
    let (out, steps) = run(&openvla_folder(), &arguments).unwrap();
    assert!(
        out.contains("no preceding action") && out.contains("step 11"),
        "{out}"
    );
    assert_eq!(steps.len(), 12);
    let mut dispatcher = dispatcher();
    let mut widths = Vec::new();
    for step in &steps {
        let width = dispatcher.decide().active.bits();
        assert_eq!(
            [&step["width_prefill"], &step["width_decode"]],
            [width, width]
        );
        dispatcher.observe(&action(step)).unwrap();
        widths.push(width);
    }
    assert_eq!(widths[0], 16);
    let lower = widths.iter().position(|&width| width != 16).unwrap();

    // The actions of the first steps as a history: the next step is the same.
    let folder = tempfile::tempdir().unwrap();
    let history = folder.path().join("actions.jsonl");
    for at in [1, lower, 11] {
        let lines = steps[..at]
            .iter()
            .map(|step| format!("{:?}\n", action(step)));
        std::fs::write(&history, lines.collect::<String>()).unwrap();
        let more = ["--history", text(&history)];
        let step = step(
            &openvla_folder(),
            &[&case.bridge()[..], &dynamic, &more].concat(),
        );
        for field in ["width_prefill", "width_decode", "tokens", "action"] {
            assert_eq!(step[field], steps[at][field], "{at}");
        }
    }
}

#[test]
fn invalid_histories_and_calibrations_are_rejected() {
    let [case, ..] = cases();
    let folder = tempfile::tempdir().unwrap();
    let (history, path) = (folder.path().join("actions.jsonl"), calibration());
    let error =
        |more: &[&str]| run(&openvla_folder(), &[&case.bridge()[..], more].concat()).unwrap_err();
    let dynamic = [
        "--calibration",
        &path,
        "--task",
        "Lift",
        "--history",
        text(&history),
    ];
    for (line, expected) in [
        ("[0,0,0]", "7"),
        ("[0,0,0,0,0,0,NaN]", ""),
        ("{}", "list of numbers"),
    ] {
        std::fs::write(&history, format!("[0,0,0,0,0,0,1]\n{line}\n")).unwrap();
        let error = error(&dynamic);
        let found = error.contains("actions.jsonl: line 2: ") && error.contains(expected);
        assert!(found, "{line}: {error}");
    }
    std::fs::remove_file(&history).unwrap();
    assert!(error(&dynamic).contains("actions.jsonl"));
    let unknown = error(&["--calibration", &path, "--task", "Jump"]);
    assert!(
        unknown.contains("`Jump`") && unknown.contains("Lift"),
        "{unknown}"
    );
    let none = error(&["--calibration", &path]);
    assert!(none.contains("--task") && none.contains("Lift, "), "{none}");
}

#[test]
fn decision_during_the_prefill_governs_the_decode_only() {
    let [case, ..] = cases();
    let at = |more: &[&str]| step(&openvla_folder(), &[&case.bridge()[..], more].concat());
    let during = at(&["--width", "a2", "--decide", "during", "--prefill", "a8"]);
    assert_eq!(
        (&during["width_prefill"], &during["width_decode"]),
        (&8.into(), &2.into())
    );
    // The first token comes from the prefill.
    let before = at(&["--width", "a8"]);
    assert_eq!(during["tokens"][0], before["tokens"][0]);
    // Without a width of its own, a prefill has that of the last step, and BF16 in the first.
    let (_, steps) = run(
        &openvla_folder(),
        &[
            &case.bridge()[..],
            &["--width", "a4", "--decide", "during", "--steps", "2"],
        ]
        .concat(),
    )
    .unwrap();
    let widths = steps
        .iter()
        .map(|s| [&s["width_prefill"], &s["width_decode"]]);
    let widths: Vec<[u64; 2]> = widths
        .map(|w| w.map(|bits| bits.as_u64().unwrap()))
        .collect();
    assert_eq!(widths, [[16, 4], [4, 4]]);
    let arguments = [&case.bridge()[..], &["--prefill", "a8"]].concat();
    let error = run(&openvla_folder(), &arguments).unwrap_err();
    assert!(error.contains("--decide during"), "{error}");
}
