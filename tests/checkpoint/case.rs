//! The checkpoints of `tests/data/checkpoints`, and copies for tests that change them.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use w4ax::Result;
use w4ax::checkpoint::Checkpoint;

pub fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/checkpoints")
        .join(case)
}

/// A copy of a case that a test may change.
pub struct Copy {
    folder: TempDir,
}

impl Copy {
    pub fn of(case: &str) -> Self {
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(folder(case)).unwrap() {
            let path = entry.unwrap().path();
            if !path.ends_with("expected.safetensors") {
                std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
            }
        }
        Self { folder: copy }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Changes the quantization configuration in each file that has one.
    pub fn config(self, change: impl Fn(&mut Value)) -> Self {
        for (name, nested) in [("config.json", true), ("quantize_config.json", false)] {
            let Ok(text) = std::fs::read(self.path(name)) else {
                continue;
            };
            let mut value: Value = serde_json::from_slice(&text).unwrap();
            change(if nested {
                &mut value["quantization_config"]
            } else {
                &mut value
            });
            std::fs::write(self.path(name), value.to_string()).unwrap();
        }
        self
    }

    /// Changes the tensors of the checkpoint's only file.
    pub fn tensors(self, change: impl FnOnce(&mut test_support::TensorFile)) -> Self {
        let path = self.path("model.safetensors");
        let mut file = test_support::TensorFile::read(path.to_str().unwrap());
        change(&mut file);
        std::fs::write(path, file.bytes()).unwrap();
        self
    }

    pub fn open(&self) -> Result<Checkpoint> {
        Checkpoint::open(self.folder.path())
    }
}
