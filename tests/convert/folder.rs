//! The conversion of a model's folder to a folder, and models that are quantized in part.

use super::*;
use std::fs;
use w4ax::checkpoint::ModelKind;

const OPENVLA: &str = r#"{"model_type": "openvla", "architectures": ["OpenVLA"]}"#;

/// The folder of a model with these files.
fn model(config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut file = plain_checkpoint(33, 100, 3);
    file.copy(
        "layers.0.up.weight",
        "language_model.model.layers.0.up.weight",
    );
    file.copy(
        "layers.0.up.weight",
        "language_model.model.layers_norm.weight",
    );
    write_checkpoint(folder.path(), &file);
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("config.json", config);
    for name in [
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "dataset_statistics.json",
        "action_head--7_checkpoint.pt",
        "README.md",
        "modeling_prismatic.py",
        "config.json.back.1",
    ] {
        write(name, name);
    }
    fs::create_dir(folder.path().join("lora_adapter")).unwrap();
    folder
}

/// Returns the names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<String> = (entries.map(name))
        .map(|name| name.into_string().unwrap())
        .collect();
    names.sort();
    names
}

const COPIED: [&str; 6] = [
    "action_head--7_checkpoint.pt",
    "config.json",
    "dataset_statistics.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
];

#[test]
fn writes_the_packed_file_and_the_files_beside_it() {
    let _alone = ALONE.lock();
    let input = model("{}");
    let out = tempfile::tempdir().unwrap();
    let output = out.path().join("model");
    let checkpoint = Checkpoint::open(input.path()).unwrap();
    let convert = Convert::new(QUANTIZE).keep(["router"]);
    let run = || {
        convert.run_to_folder(&checkpoint, &output, |step| {
            assert!(step.done <= step.total);
        })
    };
    let summary = run().unwrap();
    assert_eq!(summary.files, COPIED);
    assert_eq!(names(out.path()), ["model"]);
    let mut expected: Vec<&str> = COPIED.into_iter().chain(["model.safetensors"]).collect();
    expected.sort_unstable();
    assert_eq!(names(&output), expected);
    for name in COPIED {
        let text = |folder: &Path| fs::read(folder.join(name)).unwrap();
        assert_eq!(text(&output), text(input.path()));
    }
    // The packed file is that of a conversion to a file.
    let file = out.path().join("file.safetensors");
    assert_eq!(
        convert.run(&checkpoint, &file, |_| ()).unwrap(),
        summary.weights
    );
    assert!(tensors_of(&output.join("model.safetensors")) == tensors_of(&file));
    // An earlier conversion is replaced, with all of its files.
    fs::write(output.join("added_tokens.json"), "old").unwrap();
    run().unwrap();
    assert_eq!(names(&output), expected);
    fs::remove_file(&file).unwrap();
    assert_eq!(names(out.path()), ["model"]);
    // An empty folder is filled.
    let output = out.path().join("empty");
    fs::create_dir(&output).unwrap();
    convert.run_to_folder(&checkpoint, &output, |_| ()).unwrap();
    assert_eq!(names(&output), expected);
}

/// A folder with other files, a file, and the folder of the checkpoint are never replaced.
#[test]
fn never_replaces_other_files() {
    let _alone = ALONE.lock();
    let input = model("{}");
    let out = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::open(input.path()).unwrap();
    let convert = Convert::new(QUANTIZE);
    let rejects = |output: &Path, expected: &str| {
        let before = output.is_dir().then(|| names(output));
        let error = convert
            .run_to_folder(&checkpoint, output, |_| panic!("nothing is done"))
            .unwrap_err();
        assert!(
            matches!(&error, Error::Config { field: "output", reason }
                if reason.contains(expected)),
            "{error}"
        );
        assert_eq!(output.is_dir().then(|| names(output)), before);
    };
    let output = out.path().join("model");
    convert.run_to_folder(&checkpoint, &output, |_| ()).unwrap();
    fs::write(output.join("notes.txt"), "mine").unwrap();
    rejects(&output, "notes.txt");
    fs::remove_file(output.join("notes.txt")).unwrap();
    fs::create_dir(output.join("tokenizer_backup")).unwrap();
    rejects(&output, "tokenizer_backup");
    fs::remove_dir(output.join("tokenizer_backup")).unwrap();
    // `model.safetensors` is a plain checkpoint, or does not exist.
    fs::copy(
        input.path().join("model.safetensors"),
        output.join("model.safetensors"),
    )
    .unwrap();
    rejects(&output, "without a packed model.safetensors");
    fs::remove_file(output.join("model.safetensors")).unwrap();
    rejects(&output, "without a packed model.safetensors");
    let file = out.path().join("file.bin");
    fs::write(&file, "mine").unwrap();
    rejects(&file, "not a folder");
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    rejects(input.path(), "expected a new folder");
    assert_eq!(names(out.path()), ["file.bin", "model"]);
}

/// A conversion that fails leaves an earlier one, and no temporary folder.
#[test]
fn failed_conversion_to_a_folder_leaves_the_earlier_one() {
    let _alone = ALONE.lock();
    let input = model("{}");
    let out = tempfile::tempdir().unwrap();
    let output = out.path().join("model");
    let convert = Convert::new(QUANTIZE);
    let run = || {
        let checkpoint = Checkpoint::open(input.path()).unwrap();
        convert.run_to_folder(&checkpoint, &output, |_| ())
    };
    let mut file = plain_checkpoint(20, 40, 3);
    file.fill("layers.0.up.weight", bf16::NAN);
    write_checkpoint(input.path(), &file);
    run().unwrap_err();
    assert!(names(out.path()).is_empty());
    write_checkpoint(input.path(), &plain_checkpoint(20, 40, 3));
    run().unwrap();
    let packed = fs::read(output.join("model.safetensors")).unwrap();
    write_checkpoint(input.path(), &file);
    run().unwrap_err();
    assert_eq!(names(out.path()), ["model"]);
    assert!(packed == fs::read(output.join("model.safetensors")).unwrap());
    let nowhere = out.path().join("nowhere/model");
    let checkpoint = Checkpoint::open(input.path()).unwrap();
    let error = convert.run_to_folder(&checkpoint, &nowhere, |_| ());
    assert!(matches!(error, Err(Error::Io { file, .. }) if file.contains("nowhere")));
}

/// The kind is read from `config.json`, by either field.
#[test]
fn recognizes_the_kind_of_a_model() {
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().unwrap();
    assert!(ModelKind::from_folder(folder.path()).unwrap().is_none());
    for (config, expected) in [
        (OPENVLA, true),
        (r#"{"architectures": ["OpenVLAForActionPrediction"]}"#, true),
        (r#"{"model_type": "llama", "architectures": ["X"]}"#, false),
        (r#"{"model_type": 7, "architectures": "openvla"}"#, false),
        ("[]", false),
    ] {
        fs::write(folder.path().join("config.json"), config).unwrap();
        let kind = ModelKind::from_folder(folder.path()).unwrap();
        assert_eq!(kind.map(ModelKind::name), expected.then_some("openvla"));
    }
    fs::write(folder.path().join("config.json"), "{").unwrap();
    let error = ModelKind::from_folder(folder.path()).unwrap_err();
    assert!(error.to_string().contains("config.json"), "{error}");
}

#[test]
fn quantizes_only_the_layers_of_a_known_model() {
    let _alone = ALONE.lock();
    let input = model(OPENVLA);
    let checkpoint = Checkpoint::open(input.path()).unwrap();
    let kind = checkpoint.kind().unwrap();
    assert_eq!(
        kind.to_string(),
        "openvla: quantizes language_model.model.layers, keeps the rest plain"
    );
    let convert = Convert::new(QUANTIZE);
    let modules = |convert: &Convert| convert.modules(&checkpoint);
    let layer = "language_model.model.layers.0.up".to_owned();
    assert_eq!(modules(&convert).unwrap(), std::slice::from_ref(&layer));
    let more = convert.clone().also(["layers.1", "router"]);
    let expected = ["language_model.model.layers.0.up", "layers.1.up", "router"];
    assert_eq!(modules(&more).unwrap(), expected);
    let less = more.clone().keep(["router"]);
    let error = modules(&less).unwrap_err();
    assert!(error.to_string().contains("`router`"), "{error}");
    // An entry that changes nothing: unknown, no matrix, quantized anyway, always plain.
    for entry in ["nowhere", "norm", "language_model.model.layers", "lm_head"] {
        let error = modules(&convert.clone().also([entry])).unwrap_err();
        assert!(
            matches!(&error, Error::Config { field: "also", reason } if reason.contains(entry)),
            "{error}"
        );
    }
    // A model without those layers is not copied unquantized.
    let empty = tempfile::tempdir().unwrap();
    write_checkpoint(empty.path(), &plain_checkpoint(20, 40, 1));
    fs::write(empty.path().join("config.json"), OPENVLA).unwrap();
    let checkpoint = Checkpoint::open(empty.path()).unwrap();
    let output = empty.path().join("out.safetensors");
    let error = convert.run(&checkpoint, &output, |_| ()).unwrap_err();
    assert!(
        error.to_string().contains("no matrix to quantize"),
        "{error}"
    );
    assert!(!output.exists());
    // A model of no known kind is quantized as a whole.
    fs::remove_file(empty.path().join("config.json")).unwrap();
    let checkpoint = Checkpoint::open(empty.path()).unwrap();
    assert!(convert.modules(&checkpoint).unwrap().len() > 1);
    let error = (convert.also(["router"]).modules(&checkpoint)).unwrap_err();
    assert!(matches!(error, Error::Config { field: "also", .. }));
}
