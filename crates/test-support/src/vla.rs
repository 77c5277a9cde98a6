//! The small checkpoints of `w4ax-vla`.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Returns the folder of the tests' data of `w4ax-vla`.
pub fn vla_data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../w4ax-vla/tests/data")
}

/// Returns the folder of the small OpenVLA checkpoint. It has no `tokenizer.json`.
pub fn openvla_folder() -> PathBuf {
    vla_data().join("openvla-tiny")
}

/// Copies the files of the small OpenVLA checkpoint, without references and images, to a folder
/// that a test may change.
///
/// # Panics
/// If a file cannot be copied.
pub fn openvla_copy() -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_files(&openvla_folder(), copy.path());
    copy
}

/// Assembles the folder of the small OpenVLA-OFT checkpoint: the language model, the vision towers
/// and the configuration of [`openvla_folder`], and what OpenVLA-OFT adds, with components in `.pt`
/// files.
///
/// # Panics
/// If a file cannot be copied.
pub fn oft_folder() -> TempDir {
    let copy = openvla_copy();
    copy_files(&vla_data().join("oft-tiny"), copy.path());
    copy
}

/// Copies the files of a checkpoint, not the reference values.
fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let reference = name.starts_with("reference.")
            || name == "tensor_shapes.json"
            || name.ends_with("_checkpoint.safetensors");
        if path.is_file() && !reference {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}
