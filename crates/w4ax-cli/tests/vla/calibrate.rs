//! `w4ax calibrate --actions FILE --model DIR`: the model computes the actions that steps lack.

use super::*;
use serde_json::json;

const SERIES: [&str; 5] = ["reference", "a2", "a4", "a8", "bf16"];

fn calibrate(steps: &Path, folder: &Path, more: &[&str]) -> Result<Vec<u8>, String> {
    let out = folder.join("calibration.json");
    let _ = std::fs::remove_file(&out);
    let arguments = ["calibrate", "--actions", text(steps), "--out", text(&out)];
    let output = w4ax(&[&arguments[..], more].concat());
    match output.status.success() {
        true => Ok(std::fs::read(out).unwrap()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Steps of two episodes without actions. The first episode moves evenly after its first step.
fn write_steps(folder: &Path) -> PathBuf {
    let cases = cases();
    let mut text = String::new();
    for (episode, inputs) in [(0, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..]), (1, &[2, 1])] {
        for (step, &input) in inputs.iter().enumerate() {
            let case: &Case = &cases[input];
            let image = folder.join(format!("{episode}-{step}.png"));
            std::fs::copy(&case.image, &image).unwrap();
            let line = json!({
                "task": "spoon", "episode": episode, "step": step, "time": 0.5,
                "images": [image.file_name().unwrap().to_str().unwrap()],
                "tokens": case.reference["input_ids"]
            });
            text += &format!("{line}\n");
        }
    }
    let path = folder.join("steps.jsonl");
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn model_computes_the_missing_actions() {
    let folder = tempfile::tempdir().unwrap();
    let steps = write_steps(folder.path());
    let record = folder.path().join("recorded.jsonl");
    let model = openvla_folder();
    let with_model = ["--model", text(&model), "--unnorm-key", "bridge_tiny"];
    let recording = [&with_model[..], &["--record", text(&record)]].concat();
    let calibration = calibrate(&steps, folder.path(), &recording).unwrap();

    // The recorded steps are complete, and calibrate without the model.
    assert_eq!(calibrate(&record, folder.path(), &[]).unwrap(), calibration);
    let (given, recorded) = (lines(&steps), lines(&record));
    assert_eq!(given.len(), recorded.len());
    for (given, recorded) in given.iter().zip(&recorded) {
        for (field, value) in given.as_object().unwrap() {
            assert_eq!(&recorded[field], value, "{field}");
        }
    }
    // In another folder, the paths of the images are absolute.
    let other = tempfile::tempdir().unwrap();
    let moved = other.path().join("recorded.jsonl");
    let elsewhere = [&with_model[..], &["--record", text(&moved)]].concat();
    calibrate(&record, folder.path(), &elsewhere).unwrap();
    for (moved, recorded) in lines(&moved).iter().zip(&recorded) {
        let image = Path::new(moved["images"][0].as_str().unwrap());
        assert!(image.is_absolute() && image.is_file(), "{image:?}");
        assert_eq!(moved["actions"], recorded["actions"]);
    }
    // They are the actions of `w4ax vla run`.
    let [_, case, _] = cases();
    for series in SERIES {
        let option = match series {
            "reference" => &["--unquantized"][..],
            width => &["--width", width],
        };
        let (_, run) = run(&model, &[&case.bridge()[..], option].concat()).unwrap();
        let tokens: Vec<u32> = serde_json::from_value(run[0]["tokens"].clone()).unwrap();
        let centers = tokens
            .iter()
            .map(|token| f64::from(2 * (31999 - token).min(254) + 1));
        let expected: Vec<f64> = centers.map(|x| x / 255.0 - 1.0).collect();
        let ours: Vec<f64> =
            serde_json::from_value(recorded[0]["actions"][series].clone()).unwrap();
        assert_eq!(ours.len(), 7);
        for (ours, expected) in ours.iter().zip(&expected) {
            assert!(
                (ours - expected).abs() < 1e-12,
                "{series}: {ours} {expected}"
            );
        }
    }

    // Only what is missing is computed: the rest stays, even if the model would output otherwise.
    let mut partial = recorded.clone();
    partial[2]["actions"].as_object_mut().unwrap().remove("a2");
    partial[3]["actions"]["a2"] = json!([0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    let text: String = partial.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(&steps, text).unwrap();
    calibrate(&steps, folder.path(), &recording).unwrap();
    let again = lines(&record);
    assert_eq!(again[2], recorded[2]);
    assert_eq!(again[3], partial[3]);
}

#[test]
fn steps_without_input_are_rejected_with_their_line() {
    let folder = tempfile::tempdir().unwrap();
    let model = openvla_folder();
    let with_model = ["--model", text(&model), "--unnorm-key", "bridge_tiny"];
    for (field, value, expected) in [
        ("tokens", Value::Null, "line 2: no `instruction`"),
        ("images", json!([]), "line 2: number of images is 0"),
        ("images", json!(["nowhere.png"]), "nowhere.png"),
    ] {
        let steps = write_steps(folder.path());
        let mut lines = lines(&steps);
        lines[1][field] = value;
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(&steps, text).unwrap();
        let error = calibrate(&steps, folder.path(), &with_model).unwrap_err();
        assert!(
            error.contains("steps.jsonl: line 2: ") && error.contains(expected),
            "{error}"
        );
    }
    let steps = write_steps(folder.path());
    let error = calibrate(&steps, folder.path(), &["--model", "no-such-folder"]).unwrap_err();
    assert!(error.contains("no-such-folder"), "{error}");
    let error = calibrate(&steps, folder.path(), &["--model", text(&model)]).unwrap_err();
    assert!(error.contains("bridge_tiny, fractal_tiny"), "{error}");
    let error = calibrate(&steps, folder.path(), &[]).unwrap_err();
    assert!(error.contains("line 1: no actions `reference`"), "{error}");
}
