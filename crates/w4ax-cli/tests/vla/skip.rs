//! Steps that skip layers.

use super::*;
use test_support::random_skip_file;

#[test]
fn skips_the_layers_that_the_controllers_choose() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("skip.safetensors");
    // Layers 0 and 3 always run. The controllers of layers 1 and 2 skip, or run all.
    let layers = |bias: f32| {
        random_skip_file(4, 64, &[0, 3], bias).save(&file).unwrap();
        let [case, ..] = cases();
        let more = [
            "--skip",
            text(&file),
            "--verify",
            "off",
            "--guide",
            "0.2,0.02,0.5",
        ];
        let arguments = [&case.bridge()[..], &["--width", "a8"], &more].concat();
        run(&openvla_folder(), &arguments).unwrap()
    };
    let (out, all) = layers(-9.0);
    assert!(out.contains("layers: 4 ran of 4"), "{out}");
    let (out, skipped) = layers(9.0);
    assert!(out.contains("layers: 2 ran of 4"), "{out}");
    assert_ne!(all[0]["tokens"], skipped[0]["tokens"]);

    random_skip_file(5, 64, &[0, 3], 0.0).save(&file).unwrap();
    let [case, ..] = cases();
    let arguments = [&case.bridge()[..], &["--skip", text(&file)]].concat();
    let error = run(&openvla_folder(), &arguments).unwrap_err();
    assert!(
        error.contains("skip.safetensors") && error.contains('5'),
        "{error}"
    );
}
