//! Incomplete and inconsistent folders: the error names the file or the tensor.

use std::fs;
use std::path::Path;

use half::bf16;
use test_support::{oft_folder, openvla_copy, openvla_folder};
use w4ax::{Grouping, Quantize};
use w4ax_vla::VlaError;
use w4ax_vla::checkpoint::{StoredWeight, VlaFolder, WeightSource, pack};

const SHARDS: [&str; 2] = [
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
];
const INDEX: &str = "model.safetensors.index.json";

fn open_error(folder: &Path) -> VlaError {
    VlaFolder::open(folder).expect_err("the folder is broken")
}

fn remove_model(folder: &Path) {
    for name in SHARDS.into_iter().chain([INDEX]) {
        fs::remove_file(folder.join(name)).unwrap();
    }
}

#[test]
fn rejects_a_missing_shard_by_name() {
    let copy = openvla_copy();
    fs::remove_file(copy.path().join(SHARDS[1])).unwrap();
    let error = open_error(copy.path()).to_string();
    assert!(
        error.contains(INDEX) && error.contains(SHARDS[1]),
        "{error}"
    );
    // The index is missing too: an incomplete download.
    fs::remove_file(copy.path().join(INDEX)).unwrap();
    fs::copy(copy.path().join(SHARDS[0]), copy.path().join(SHARDS[1])).unwrap();
    let error = open_error(copy.path()).to_string();
    assert!(error.contains("found 2 safetensors files"), "{error}");
}

#[test]
fn rejects_an_index_that_names_a_missing_file_or_tensor() {
    let copy = openvla_copy();
    let index = copy.path().join(INDEX);
    let text = fs::read_to_string(&index).unwrap();
    let changed = text.replacen(SHARDS[0], "model-9.safetensors", 1);
    fs::write(&index, changed).unwrap();
    let error = open_error(copy.path()).to_string();
    assert!(error.contains("model-9.safetensors"), "{error}");
    let changed = text.replacen("q_proj", "qq_proj", 1);
    fs::write(&index, changed).unwrap();
    let error = open_error(copy.path()).to_string();
    assert!(error.contains("qq_proj"), "{error}");
}

#[test]
fn rejects_a_truncated_file_by_name() {
    let copy = openvla_copy();
    let shard = copy.path().join(SHARDS[1]);
    let bytes = fs::read(&shard).unwrap();
    for length in [bytes.len() - 1, bytes.len() / 2, 100, 7, 0] {
        fs::write(&shard, &bytes[..length]).unwrap();
        let error = open_error(copy.path()).to_string();
        assert!(error.contains(SHARDS[1]), "{length}: {error}");
    }
}

/// A run of training whose merge is to be done later.
#[test]
fn names_the_script_that_merges_an_adapter() {
    let copy = oft_folder();
    remove_model(copy.path());
    let error = open_error(copy.path());
    assert!(matches!(error, VlaError::Files { found: 0, .. }), "{error}");
    fs::create_dir(copy.path().join("lora_adapter")).unwrap();
    let error = open_error(copy.path());
    assert!(matches!(error, VlaError::Unmerged { .. }));
    let text = error.to_string();
    assert!(text.contains("merge_lora_weights_and_save"), "{text}");
}

#[test]
fn rejects_a_folder_that_does_not_exist() {
    let copy = openvla_copy();
    let error = open_error(&copy.path().join("nowhere"));
    assert!(matches!(&error, VlaError::Io { file, .. } if file.ends_with("nowhere")));
}

#[test]
fn rejects_two_files_of_a_component() {
    let copy = oft_folder();
    let file = |step: &str| {
        let name = format!("action_head--{step}_checkpoint.pt");
        copy.path().join(name)
    };
    fs::copy(file("150000"), file("latest")).unwrap();
    let error = open_error(copy.path());
    assert!(
        matches!(&error, VlaError::Files { found: 2, what, .. } if what.contains("action_head")),
        "{error}"
    );
}

#[test]
fn names_tensors_that_are_missing_or_of_another_shape() {
    let folder = VlaFolder::open(openvla_folder()).unwrap();
    let name = "projector.fc1.weight";
    let shape = folder.shape(name).unwrap();
    let error = folder.tensor(name, &[7, 9]).unwrap_err();
    assert!(
        matches!(&error, VlaError::TensorShape { name: n, expected, got, .. }
            if n == name && expected == &[7, 9] && got == &shape),
        "{error}"
    );
    let error = folder.weight("projector.fc1", 7, 9).unwrap_err();
    assert!(matches!(error, VlaError::TensorShape { .. }), "{error}");
    assert_eq!(folder.shape("projector.fc9.weight"), None);
    let error = folder.weight("projector.fc9", 7, 9).unwrap_err();
    assert!(
        matches!(&error, VlaError::MissingTensor { name, .. } if name == "projector.fc9.weight"),
        "{error}"
    );
}

/// A weight that cannot be quantized is named.
#[test]
fn names_the_module_that_cannot_be_quantized() {
    let values = vec![bf16::NAN; 8];
    let plain = candle_core::Tensor::from_vec(values, (2, 4), &candle_core::Device::Cpu).unwrap();
    let quantize = Quantize::new(Grouping::G32);
    let error = pack("layer.7", StoredWeight::Plain(plain), &quantize).unwrap_err();
    assert!(error.to_string().contains("`layer.7`"), "{error}");
}
