//! Checkpoints that `w4ax convert` packed.

use super::*;

#[test]
fn converted_checkpoint_gives_the_actions_of_the_plain_one() {
    let folder = tempfile::tempdir().unwrap();
    let packed = folder.path().join("packed");
    // Plain checkpoints are loaded with the scales that cover the extremes.
    let openvla = openvla_folder();
    let files = [text(&openvla), text(&packed)];
    let output = w4ax(&[&["convert", "--clipping", "absmax"], &files[..]].concat());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let [case, ..] = cases();
    for width in ["a2", "a8", "bf16"] {
        let run = |model: &Path| {
            let step = step(model, &[&case.bridge()[..], &["--width", width]].concat());
            (
                step["tokens"].clone(),
                step["action"].clone(),
                step["bytes"].clone(),
            )
        };
        assert_eq!(run(&packed), run(&openvla_folder()), "{width}");
    }
    let arguments = [&case.bridge()[..], &["--plain"]].concat();
    let error = run(&packed, &arguments).unwrap_err();
    assert!(error.contains("packed"), "{error}");
}
