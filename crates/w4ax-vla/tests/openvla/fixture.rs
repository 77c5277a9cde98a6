//! The small checkpoints and their reference values.

use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use w4ax_vla::image::RgbImage;
use w4ax_vla::model::{LoadOptions, Numerics, Vla};

/// The largest relative L2 distance of a right F32 value (FACTS: section 13 of the data's notes).
pub const EXACT: f64 = 2e-5;

pub fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// A checkpoint with its references.
pub struct Fixture {
    pub folder: PathBuf,
    pub tensors: HashMap<String, Tensor>,
    pub json: serde_json::Value,
}

impl Fixture {
    pub fn new(name: &str) -> Self {
        let folder = data().join(name);
        let tensors =
            candle_core::safetensors::load(folder.join("reference.safetensors"), &Device::Cpu);
        let json = std::fs::read(folder.join("reference.json")).unwrap();
        Self {
            tensors: tensors.unwrap(),
            json: serde_json::from_slice(&json).unwrap(),
            folder,
        }
    }

    pub fn case(&self, case: usize) -> &serde_json::Value {
        &self.json["cases"][case]
    }

    pub fn tensor(&self, case: usize, stage: &str) -> Option<&Tensor> {
        self.tensors.get(&format!("case{case}.{stage}"))
    }

    pub fn image(&self, name: &str) -> RgbImage {
        RgbImage::open(self.folder.join(name)).unwrap()
    }
}

pub fn load(folder: &Path, numerics: Numerics) -> Vla {
    let options = LoadOptions::default().with_numerics(numerics);
    Vla::load(folder, &options, &mut |_| ()).unwrap()
}

pub fn values(tensor: &Tensor) -> Vec<f64> {
    let flat = tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    flat.to_vec1().unwrap()
}

/// Returns `|a - b| / |b|`.
pub fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (values(a), values(b));
    assert_eq!(a.len(), b.len());
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(&b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied())
}

pub fn numbers<T: serde::de::DeserializeOwned>(value: &serde_json::Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}
