//! `w4ax calibrate`: the built program on the recorded data.

use w4ax::calibrate::Calibration;
use w4ax_robot::paths;

/// Calibrations from the recorded tokens and from the policy load, with nearly the same motion.
#[test]
fn calibrates_from_tokens_and_from_the_policy() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let out = folder.path().join("c.json");
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_w4ax"))
            .arg("calibrate")
            .args(arguments)
            .arg("--out")
            .arg(&out)
            .output()
            .unwrap();
        match output.status.success() {
            true => Ok(Calibration::load(out).unwrap()),
            false => Err(String::from_utf8(output.stderr).unwrap()),
        }
    };
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
