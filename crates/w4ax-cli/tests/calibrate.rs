//! `w4ax calibrate`: the built program on the recorded data.

use std::path::Path;

use w4ax::Width;
use w4ax::calibrate::Calibration;
use w4ax::dispatch::{StepCosts, Tolerance};
use w4ax_robot::paths;

/// Runs the program. Returns the file that it wrote and what it printed, or the error.
fn calibrate(folder: &Path, arguments: &[&str]) -> Result<(Vec<u8>, String), String> {
    let out = folder.join("c.json");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_w4ax"))
        .arg("calibrate")
        .args(arguments)
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    match output.status.success() {
        true => Ok((
            std::fs::read(out).unwrap(),
            String::from_utf8(output.stdout).unwrap(),
        )),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

fn parsed(file: &[u8]) -> Calibration {
    Calibration::from_json(file, "c.json").unwrap()
}

/// What the repository ships is what the command writes from the shipped recordings, to the byte,
/// with each instruction set.
#[test]
fn shipped_calibration_is_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = std::fs::read(format!("{}/calibration.json", paths::ROBOT)).unwrap();
    let (written, printed) = calibrate(folder.path(), &[]).unwrap();
    assert!(
        shipped == written,
        "calibration.json is not what calibrate writes"
    );
    // The table of the costs of this machine is printed, but not written.
    assert!(printed.contains("measured here"), "{printed}");
    let calibration = parsed(&written);
    assert_eq!(calibration.costs, None);
    assert_eq!(calibration.thresholds.theta_24, 0.47500000000000003);
    let rule = calibration.consistency.unwrap();
    assert_eq!((rule.low, rule.high), (Some(Width::A2), Some(Width::A4)));
    let floors = [Width::A4, Width::A2, Width::A2, Width::A2, Width::A2];
    assert_eq!(rule.floors.unwrap(), floors);
    assert!(rule.quantiles.is_some());
}

/// The errors with block 0 at a wider width are the known ones, in the arithmetic of this
/// crate.
#[test]
fn block_0_at_a_wider_width_has_a_third_of_the_error_at_a2() {
    let folder = tempfile::tempdir().unwrap();
    let (_, printed) = calibrate(folder.path(), &[]).unwrap();
    let row = |width: &str| {
        let mut lines = printed
            .lines()
            .skip_while(|line| !line.contains("block 0 at"));
        let cells: Vec<String> = (lines.find(|line| line.contains(width)).unwrap())
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        [&cells[2], &cells[4]].map(|cell| cell.parse::<f64>().unwrap())
    };
    let [alone, with_floor] = row("│ a2 ");
    assert!(
        (with_floor / alone - 0.108 / 0.303).abs() < 0.05,
        "{alone} {with_floor}"
    );
    let [alone, with_floor] = row("│ a4 ");
    assert!(
        (with_floor / alone - 0.0405 / 0.0454).abs() < 0.05,
        "{alone} {with_floor}"
    );
}

#[test]
fn options_change_only_their_part() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| parsed(&calibrate(folder.path(), arguments).unwrap().0);
    let plain = run(&["--no-consistency"]);
    assert_eq!(plain.consistency, None);

    let full = run(&["--no-consistency", "--sensitivity-from", "reference"]);
    assert_eq!(full.tasks, plain.tasks);
    assert_ne!(full.thresholds, plain.thresholds);

    // A8 exceeds the bound in no bin below .5, and in some above.
    let derived = run(&["--no-consistency", "--theta-fp", "auto"]).thresholds;
    assert!((0.5..1.0).contains(&derived.theta_fp), "{derived:?}");
    let fixed = run(&["--no-consistency", "--theta-fp", "0.7"]).thresholds;
    assert_eq!(fixed.theta_fp, 0.7);

    let rule = run(&["--floors", "1=a8,head=a4", "--gate", "1"])
        .consistency
        .unwrap();
    let floors = [Width::A2, Width::A8, Width::A2, Width::A2, Width::A4];
    assert_eq!(rule.floors.unwrap(), floors);
    assert_eq!(rule.gate, 1.0);
    let costs = folder.path().join("costs.json");
    std::fs::write(&costs, r#"{"a2": 1, "a4": 1, "a8": 1.2, "bf16": 2}"#).unwrap();
    let costs = costs.to_str().unwrap();
    // A2 saves nothing: the rule trades A4 and A8, with block 0 at A8.
    let written = run(&["--costs", costs, "--write-costs"]);
    assert_eq!(written.costs, Some(StepCosts::load(costs).unwrap()));
    let rule = written.consistency.unwrap();
    assert_eq!((rule.low, rule.high), (Some(Width::A4), Some(Width::A8)));
    assert_eq!(rule.floors.unwrap()[0], Width::A8);
    // On other tools' recordings nothing is measured.
    for (arguments, named) in [
        (&["--floors", "4=a4"][..], "4=a4"),
        (&["--gate", "0"], "gate"),
        (&["--floors", "x"], "`x`"),
        (&["--theta-fp", "x"], "--theta-fp"),
        (&["--costs", "nowhere"], "nowhere"),
        (&["--theta-fp", "auto", "--d-acc", "0.0001"], "theta_fp"),
    ] {
        let error = calibrate(folder.path(), arguments).unwrap_err();
        assert!(error.contains(named), "{arguments:?}: {error}");
    }
}

#[test]
fn greedy_floors_keep_the_layers_that_matter_most() {
    let folder = tempfile::tempdir().unwrap();
    let (file, printed) = calibrate(folder.path(), &["--floors", "auto"]).unwrap();
    let floors = parsed(&file).consistency.unwrap().floors.unwrap();
    assert_eq!(floors[0], Width::A4, "{floors:?}");
    let order = printed.split("Layers in the order").nth(1).unwrap();
    assert_eq!(
        order.matches(" floor ").count(),
        floors.iter().filter(|f| **f > Width::A2).count()
    );
}

#[test]
fn budget_chooses_parameters_and_prints_what_they_must_beat() {
    let folder = tempfile::tempdir().unwrap();
    let d_acc =
        |calibration: &Calibration| match calibration.consistency.as_ref().unwrap().tolerance {
            Tolerance::Motion { d_acc, .. } => d_acc,
            Tolerance::Constant(tau) => panic!("tau {tau}"),
        };
    let plain = parsed(&calibrate(folder.path(), &[]).unwrap().0);
    let consistency = ["--rule", "consistency", "--budget"];
    let run = |budget: &str| {
        let arguments = [&consistency[..], &[budget]].concat();
        let (file, printed) = calibrate(folder.path(), &arguments).unwrap();
        let row = printed
            .lines()
            .find(|line| line.contains("chosen"))
            .unwrap();
        (parsed(&file), row.to_owned())
    };
    let (calibration, row) = run("cost=3");
    assert_eq!(
        calibration.thresholds, plain.thresholds,
        "of the other rule"
    );
    let chosen = d_acc(&calibration);
    assert!((0.04..0.15).contains(&chosen), "{chosen}");
    assert!(row.contains(&format!("{chosen:.4}")), "{row}");
    let (tight, _) = run("cost=2.9");
    assert!(d_acc(&tight) > chosen, "{} {chosen}", d_acc(&tight));
    // A cheaper rule has a larger error.
    let (accurate, _) = run("error=0.056");
    assert!(d_acc(&accurate) < chosen, "{} {chosen}", d_acc(&accurate));

    let (file, printed) = calibrate(folder.path(), &["--budget", "error=.1"]).unwrap();
    let calibration = parsed(&file);
    assert_ne!(calibration.thresholds, plain.thresholds);
    assert_eq!(calibration.consistency, plain.consistency);
    for part in [
        "95 % intervals",
        "random at that cost",
        "best fixed within it",
        "% twice",
    ] {
        assert!(printed.contains(part), "{part}");
    }
    let kept = ["--budget", "error=.1", "--theta-fp", "0.5"];
    let kept = parsed(&calibrate(folder.path(), &kept).unwrap().0);
    assert_eq!(kept.thresholds.theta_fp, 0.5);

    for (arguments, named) in [
        (["--budget", "error=0.001"], "the least error is 0."),
        (["--budget", "cost=1"], "the least cost is 2."),
        (["--budget", "share=1"], "the largest share is 0."),
        (["--budget", "speed=1"], "`speed=1`"),
    ] {
        let error = calibrate(folder.path(), &arguments).unwrap_err();
        assert!(error.contains(named), "{arguments:?}: {error}");
    }
    let equal = folder.path().join("costs.json");
    std::fs::write(&equal, r#"{"a2": 1, "a4": 1, "a8": 1, "bf16": 1}"#).unwrap();
    let equal = ["--costs", equal.to_str().unwrap()];
    let arguments = [&consistency[..], &["cost=3"], &equal].concat();
    let error = calibrate(folder.path(), &arguments).unwrap_err();
    assert!(error.contains("static bf16"), "{error}");
}

/// Calibrations from the recorded tokens and from the policy load, with nearly the same motion.
#[test]
fn calibrates_from_tokens_and_from_the_policy() {
    let folder = tempfile::tempdir().unwrap();
    let run =
        |arguments: &[&str]| calibrate(folder.path(), arguments).map(|(file, _)| parsed(&file));
    let tokens = run(&[]).unwrap();
    let recorded =
        Calibration::load(format!("{}/calibration_expected.json", paths::ROBOT)).unwrap();
    assert_eq!(tokens.thresholds, recorded.thresholds);
    let policy = run(&["--from", "policy"]).unwrap();
    for (ours, recorded) in policy.tasks.iter().zip(&recorded.tasks) {
        assert_eq!(ours.name, recorded.name);
        let (ours, recorded) = (ours.motion, recorded.motion);
        assert!(
            (ours.mu_max / recorded.mu_max - 1.0).abs() < 0.05,
            "{ours:?} {recorded:?}"
        );
        assert!(
            (ours.nu_max / recorded.nu_max - 1.0).abs() < 0.3,
            "{ours:?} {recorded:?}"
        );
    }
    // The deeper policy's calibration equals the stored one. Motion may differ a little, because
    // the system computes the exponentials.
    let deep = paths::DEEP;
    let policy = format!("{deep}/deep_policy.safetensors");
    let ours = run(&["--validation", "--policy", &policy]).unwrap();
    let kept = Calibration::load(format!("{deep}/calibration.json")).unwrap();
    assert_eq!(ours.thresholds, kept.thresholds);
    assert_ne!(ours.thresholds, tokens.thresholds);
    for (ours, kept) in ours.tasks.iter().zip(&kept.tasks) {
        assert_eq!(ours.name, kept.name);
        for (ours, kept) in [
            (ours.motion.mu_max, kept.motion.mu_max),
            (ours.motion.nu_max, kept.motion.nu_max),
        ] {
            assert!((ours / kept - 1.0).abs() < 0.01, "{ours} {kept}");
        }
    }
    let both = run(&["--validation", "--rollouts", "some"]).unwrap_err();
    assert!(both.contains("--rollouts"), "{both}");
    assert!(run(&["--d-acc", "0"]).unwrap_err().contains("d_acc"));
    assert!(
        run(&["--rollouts", "nowhere"])
            .unwrap_err()
            .contains("nowhere")
    );
    assert!(
        run(&["--from", "policy", "--policy", "nowhere"])
            .unwrap_err()
            .contains("nowhere")
    );
}
