//! Errors of `w4ax vla run`.

use super::*;

/// The first input with `arguments` in place of some of its options.
fn rejects(arguments: &[&str], expected: &[&str]) {
    let error = run(&openvla_folder(), arguments).unwrap_err();
    for expected in expected {
        assert!(error.contains(expected), "`{expected}` is not in: {error}");
    }
}

#[test]
fn unknown_data_set_lists_those_of_the_checkpoint() {
    let [case, ..] = cases();
    let known = ["bridge_tiny", "fractal_tiny", "nomask_tiny"];
    let more = ["--unnorm-key", "bridge_orig"];
    let expected = [&["`bridge_orig`"], &known[..]].concat();
    rejects(&[&case.arguments()[..], &more].concat(), &expected);
    // There are several, and none is chosen.
    rejects(&case.arguments(), &known);
}

#[test]
fn image_that_cannot_be_decoded_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("camera.png");
    std::fs::write(&image, "no image").unwrap();
    let more = ["--tokens", "1,2", "--unnorm-key", "bridge_tiny"];
    rejects(
        &[&["--image", text(&image)], &more[..]].concat(),
        &["camera.png"],
    );
    let nowhere = folder.path().join("nowhere.png");
    rejects(
        &[&["--image", text(&nowhere)], &more[..]].concat(),
        &["nowhere.png"],
    );
}

#[test]
fn prompt_beyond_the_context_is_rejected() {
    let [case, ..] = cases();
    let ids = vec!["1"; 2048].join(",");
    let prompt = ["--image", text(&case.image), "--tokens", &ids];
    let more = ["--unnorm-key", "bridge_tiny"];
    // 256 patches and 6 decoded tokens more.
    rejects(&[&prompt[..], &more].concat(), &["2310 tokens", "2048"]);
    rejects(
        &[
            "--image",
            text(&case.image),
            "--tokens",
            "1,99999",
            "--unnorm-key",
            "bridge_tiny",
        ],
        &["99999"],
    );
}

#[test]
fn instruction_without_tokenizer_is_rejected() {
    let [case, ..] = cases();
    rejects(
        &[
            "--image",
            text(&case.image),
            "--instruction",
            "go",
            "--unnorm-key",
            "bridge_tiny",
        ],
        &["tokenizer.json"],
    );
}

#[test]
fn missing_model_is_named() {
    let [case, ..] = cases();
    let error = run(Path::new("no-such-folder"), &case.bridge()).unwrap_err();
    assert!(error.contains("no-such-folder"), "{error}");
}

#[test]
fn unknown_width_lists_those_there_are() {
    let [case, ..] = cases();
    rejects(
        &[&case.bridge()[..], &["--width", "a3"]].concat(),
        &["a3", "dynamic", "a2", "a4", "a8", "bf16"],
    );
    rejects(
        &[&case.bridge()[..], &["--width", "dynamic"]].concat(),
        &["--calibration"],
    );
}

#[test]
fn contradictory_options_are_rejected() {
    let [case, ..] = cases();
    for more in [
        &["--plain", "--width", "a4"][..],
        &["--plain", "--unquantized"],
        &["--unquantized", "--width", "a4"],
        &["--instruction", "go"],
        &["--history", "actions.jsonl"],
        &["--task", "Lift"],
    ] {
        let arguments = [&case.bridge()[..], more].concat();
        let paths = ["vla", "run", "--model", text(&openvla_folder())].map(String::from);
        let all: Vec<&str> = paths.iter().map(String::as_str).chain(arguments).collect();
        let output = w4ax(&all);
        assert_eq!(output.status.code(), Some(2), "{more:?}");
    }
}

#[test]
#[cfg(not(feature = "vla-cuda"))]
fn missing_cuda_feature_is_named() {
    let [case, ..] = cases();
    rejects(
        &[&case.bridge()[..], &["--device", "cuda"]].concat(),
        &["--features vla-cuda"],
    );
}
