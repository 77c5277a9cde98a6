//! The small OpenVLA-OFT checkpoint.

use super::*;
use test_support::{oft_folder, vla_data};
use w4ax_vla::image::RgbImage;
use w4ax_vla::image::libero::LiberoClient;
use w4ax_vla::model::{Instruction, LoadOptions, Numerics, Observation, Vla};
use w4ax_vla::step::VlaRunner;

/// An input, with its reference values.
struct OftCase {
    images: Vec<PathBuf>,
    raw: Vec<PathBuf>,
    ids: Vec<u32>,
    state: Vec<f64>,
    reference: Value,
}

fn oft_cases() -> [OftCase; 2] {
    let folder = vla_data().join("oft-tiny");
    let reference = json(&folder.join("reference.json"));
    [0, 1].map(|at| {
        let case = reference["cases"][at].clone();
        let paths = |list: &Value| -> Vec<PathBuf> {
            let names = list.as_array().unwrap().iter();
            names
                .map(|name| folder.join(name.as_str().unwrap()))
                .collect()
        };
        let mut ids: Vec<u32> = serde_json::from_value(case["prompt_ids"].clone()).unwrap();
        ids.push(29871);
        OftCase {
            images: paths(&case["images"]),
            raw: paths(&case["raw_images"]),
            ids,
            state: serde_json::from_value(case["state"].clone()).unwrap(),
            reference: case,
        }
    })
}

fn join(list: &[impl ToString]) -> String {
    let list: Vec<String> = list.iter().map(ToString::to_string).collect();
    list.join(",")
}

impl OftCase {
    fn run(&self, model: &Path, images: &[PathBuf], more: &[&str]) -> Value {
        let (ids, state) = (join(&self.ids), join(&self.state));
        let mut arguments = vec!["--image"];
        arguments.extend(images.iter().map(|path| text(path)));
        arguments.extend(["--tokens", &ids, "--proprio", &state]);
        arguments.extend(more);
        step(model, &arguments)
    }
}

#[test]
fn plain_model_gives_the_chunks_of_the_reference() {
    let folder = oft_folder();
    for case in oft_cases() {
        let step = case.run(folder.path(), &case.images, &["--plain"]);
        let (ours, expected) = (rows(&step["action"]), rows(&case.reference["actions"]));
        assert_eq!((ours.len(), expected.len()), (8, 8));
        for (ours, expected) in ours.iter().zip(&expected) {
            assert_eq!((ours.len(), expected.len()), (7, 7));
            for (ours, expected) in ours.iter().zip(expected) {
                assert!((ours - expected).abs() < 5e-5, "{ours} {expected}");
            }
        }
        assert_eq!(step["tokens"], serde_json::json!([]));
        assert!(step["micros"]["head"].as_u64().is_some(), "{step}");
    }
}

#[test]
fn client_prepares_images_as_the_evaluation_of_libero_does() {
    let folder = oft_folder();
    let [case, _] = oft_cases();
    let step = case.run(folder.path(), &case.raw, &["--plain", "--client", "libero"]);
    let options = LoadOptions::default().with_numerics(Numerics::F32);
    let model = Vla::load(folder.path(), &options, &mut |_| ()).unwrap();
    let mut runner = VlaRunner::new(model, None, Default::default()).unwrap();
    let client = LiberoClient::oft();
    let open = |path: &PathBuf| client.prepare(&RgbImage::open(path).unwrap());
    let images = case.raw.iter().map(open).collect();
    let observation =
        Observation::new(images, Instruction::Tokens(case.ids.clone())).with_proprio(case.state);
    runner.request(w4ax::Width::Bf16).unwrap();
    let expected = runner.step(&observation).unwrap();
    assert_eq!(rows(&step["action"]).concat(), expected.actions);
}

#[test]
fn requires_the_state_and_all_images() {
    let folder = oft_folder();
    let [case, _] = oft_cases();
    let (ids, state) = (join(&case.ids), join(&case.state));
    let [first, second] = [text(&case.images[0]), text(&case.images[1])];
    let error = |arguments: &[&str]| {
        run(folder.path(), &[arguments, &["--tokens", &ids]].concat()).unwrap_err()
    };
    let missing = error(&["--image", first, second]);
    assert!(
        missing.contains("proprio") && missing.contains("8 numbers"),
        "{missing}"
    );
    let short = error(&["--image", first, second, "--proprio=-1,2,3"]);
    assert!(
        short.contains("3 numbers") && short.contains("8 numbers"),
        "{short}"
    );
    let images = error(&["--image", first, "--proprio", &state]);
    assert!(
        images.contains("number of images is 1: expected 2"),
        "{images}"
    );
    let platform = error(&[
        "--image",
        first,
        second,
        "--proprio",
        &state,
        "--platform",
        "aloha",
    ]);
    assert!(platform.contains("error: "), "{platform}");
}
