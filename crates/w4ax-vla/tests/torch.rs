//! The components of OpenVLA-OFT in files of torch.

use candle_core::{DType, Device, Tensor};
use half::bf16;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use w4ax_vla::VlaError;
use w4ax_vla::checkpoint::{TorchFile, VlaFolder, WeightSource, find_component};

const HEAD: &str = "action_head--150000_checkpoint";
const PROPRIO: &str = "proprio_projector--150000_checkpoint";

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/oft-tiny")
}

fn file(stem: &str, extension: &str) -> PathBuf {
    data().join(format!("{stem}.{extension}"))
}

/// A folder with empty files.
fn folder(names: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    folder
}

/// The bits of a tensor.
fn bits(tensor: &Tensor) -> Vec<u32> {
    let flat = tensor.flatten_all().unwrap();
    match tensor.dtype() {
        DType::BF16 => {
            let values = flat.to_vec1::<bf16>().unwrap();
            values.iter().map(|x| u32::from(x.to_bits())).collect()
        }
        DType::F32 => {
            let values = flat.to_vec1::<f32>().unwrap();
            values.iter().map(|x| x.to_bits()).collect()
        }
        other => panic!("unexpected type {other:?}"),
    }
}

#[test]
fn tensors_equal_those_of_the_safetensors_twin() {
    for (stem, dtype, n) in [(HEAD, DType::BF16, 16), (PROPRIO, DType::F32, 4)] {
        let torch = TorchFile::open(file(stem, "pt")).unwrap();
        let twin = candle_core::safetensors::load(file(stem, "safetensors"), &Device::Cpu);
        let twin = twin.unwrap();
        assert_eq!(torch.names().count(), n);
        assert_eq!(twin.len(), n);
        for (stored, expected) in twin {
            let name = stored.strip_prefix("module.").unwrap();
            assert_eq!(torch.shape(name).unwrap(), expected.dims());
            let tensor = torch.tensor(name, expected.dims()).unwrap();
            assert_eq!(tensor.dtype(), dtype, "{name}");
            assert!(tensor.device().is_cpu());
            assert_eq!(bits(&tensor), bits(&expected), "{name}");
        }
        // Neither the prefix nor the device of the file matters.
        let bytes = std::fs::read(file(stem, "pt")).unwrap();
        let contains = |text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
        assert!(contains("cuda:0") && contains("module."));
        assert!(torch.shape("module.fc1.weight").is_none());
    }
}

#[test]
fn values_of_the_proprio_projector_are_not_rounded() {
    let torch = TorchFile::open(file(PROPRIO, "pt")).unwrap();
    let weight = torch.tensor("fc1.weight", &[64, 8]).unwrap();
    let rounded = weight.to_dtype(DType::BF16).unwrap();
    let rounded = rounded.to_dtype(DType::F32).unwrap();
    assert_ne!(bits(&weight), bits(&rounded));
}

#[test]
fn rejects_tensors_that_do_not_fit() {
    let torch = TorchFile::open(file(HEAD, "pt")).unwrap();
    let path = file(HEAD, "pt").display().to_string();
    let error = torch.tensor("model.fc3.weight", &[64, 64]).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{path}: no tensor `model.fc3.weight`")
    );
    let error = torch.tensor("model.fc1.weight", &[64, 64]).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{path}: tensor `model.fc1.weight` has shape [64, 448]: expected [64, 64]")
    );
}

/// Returns the error of a file with this content.
fn error_of(content: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("action_head--1_checkpoint.pt");
    std::fs::write(&path, content).unwrap();
    let error = TorchFile::open(&path).unwrap_err();
    let VlaError::Io { file, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*file, path.display().to_string());
    error.to_string()
}

#[test]
fn rejects_truncated_files() {
    let bytes = std::fs::read(file(PROPRIO, "pt")).unwrap();
    for length in [
        0,
        1,
        4,
        100,
        bytes.len() / 2,
        bytes.len() - 30,
        bytes.len() - 1,
    ] {
        error_of(&bytes[..length]);
    }
}

#[test]
fn rejects_files_of_another_format() {
    error_of(&std::fs::read(file(PROPRIO, "safetensors")).unwrap());
    error_of(b"\x80\x02}q\x00.");
    // An empty zip archive.
    let mut empty = b"PK\x05\x06".to_vec();
    empty.resize(22, 0);
    assert!(error_of(&empty).contains("no tensors"));
}

#[test]
fn names_a_file_that_does_not_exist() {
    let error = TorchFile::open(data().join("absent.pt")).unwrap_err();
    assert!(error.to_string().contains("absent.pt: "), "{error}");
}

#[test]
fn finds_the_one_file_of_a_component() {
    let found = |names: &[&str]| {
        let folder = folder(names);
        let path = find_component(folder.path(), "action_head").unwrap();
        path.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
    };
    assert_eq!(found(&[]), None);
    assert_eq!(
        found(&["action_head.pt", "action_head--9.txt", "model.safetensors"]),
        None
    );
    assert_eq!(found(&["proprio_projector--9_checkpoint.pt"]), None);
    for name in [
        "action_head--150000_checkpoint.pt",
        "action_head--latest_checkpoint.pt",
        "action_head--9_checkpoint.safetensors",
    ] {
        assert_eq!(
            found(&[name, "proprio_projector--9_checkpoint.pt"]).as_deref(),
            Some(name)
        );
    }
    // Of two files with the same tensors, the `.pt` file.
    let path = find_component(data(), "action_head").unwrap();
    assert_eq!(path, Some(file(HEAD, "pt")));
}

#[test]
fn rejects_several_files_of_a_component() {
    let folder = folder(&[
        "action_head--1_checkpoint.pt",
        "action_head--2_checkpoint.safetensors",
    ]);
    let error = find_component(folder.path(), "action_head").unwrap_err();
    assert!(matches!(error, VlaError::Files { found: 2, .. }));
    for name in [
        "action_head--1_checkpoint.pt",
        "action_head--2_checkpoint.safetensors",
    ] {
        assert!(error.to_string().contains(name), "{error}");
    }
    assert!(
        find_component(folder.path(), "proprio_projector")
            .unwrap()
            .is_none()
    );
}

#[test]
fn rejects_film_and_diffusion() {
    for (name, owner) in [
        ("vision_backbone--150000_checkpoint.pt", "FiLM"),
        ("noisy_action_projector--150000_checkpoint.pt", "diffusion"),
    ] {
        let folder = folder(&["action_head--150000_checkpoint.pt", name]);
        let error = find_component(folder.path(), "action_head")
            .unwrap_err()
            .to_string();
        assert!(error.contains(name) && error.contains(owner), "{error}");
    }
}

/// Copies the model of the small checkpoint and the components with this extension.
fn checkpoint(extension: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let model = data().with_file_name("openvla-tiny");
    for name in [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "config.json",
    ] {
        std::fs::copy(model.join(name), folder.path().join(name)).unwrap();
    }
    for stem in [HEAD, PROPRIO] {
        let target = folder.path().join(format!("{stem}.{extension}"));
        std::fs::copy(file(stem, extension), target).unwrap();
    }
    folder
}

#[test]
fn checkpoint_reads_its_components_from_either_format() {
    let (torch, twin) = (checkpoint("pt"), checkpoint("safetensors"));
    let torch = VlaFolder::open(torch.path()).unwrap();
    let twin = VlaFolder::open(twin.path()).unwrap();
    let sorted = |folder: &VlaFolder| {
        let mut names = folder.tensor_names();
        names.sort();
        names
    };
    assert_eq!(sorted(&torch), sorted(&twin));
    for part in ["action_head", "proprio_projector"] {
        assert!(torch.has_component(part));
        let names = sorted(&torch);
        let names: Vec<_> = names.iter().filter(|n| n.starts_with(part)).collect();
        assert!(!names.is_empty());
        for name in names {
            let shape = torch.shape(name).unwrap();
            assert_eq!(twin.shape(name).as_ref(), Some(&shape));
            let tensor = torch.tensor(name, &shape).unwrap();
            assert_eq!(
                bits(&tensor),
                bits(&twin.tensor(name, &shape).unwrap()),
                "{name}"
            );
        }
    }
    assert!(torch.tensor("action_head.model.fc9.weight", &[1]).is_err());
}
