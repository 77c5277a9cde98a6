//! Reference values, inputs and comparisons.

use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;
use test_support::{openvla_folder, vla_data};
use w4ax_vla::checkpoint::VlaFolder;
use w4ax_vla::model::{Loader, VisionTowers};

/// The tolerance of each stage, which separates each peculiarity.
pub const TOLERANCE: f64 = 2e-5;

pub struct References(HashMap<String, Tensor>);

impl References {
    /// Reads those of `openvla-tiny` or `oft-tiny`.
    pub fn read(folder: &str) -> Self {
        let file = vla_data().join(folder).join("reference.safetensors");
        Self(candle_core::safetensors::load(file, &Device::Cpu).unwrap())
    }

    pub fn get(&self, name: &str) -> &Tensor {
        self.0
            .get(name)
            .unwrap_or_else(|| panic!("no reference {name}"))
    }

    /// Returns the pixel values of one case of `openvla-tiny`.
    pub fn pixels(&self, case: usize) -> Tensor {
        match self.0.get(&format!("case{case}.pixel_values")) {
            Some(pixels) => pixels.clone(),
            None => {
                let image = self.get(&format!("case{case}.resized_u8"));
                let image = image.flatten_all().unwrap().to_vec1().unwrap();
                self.pixels_of(&image)
            }
        }
    }

    /// Returns the pixel values `[6, 224, 224]` of an image `[224, 224, 3]` by the table of
    /// `openvla-tiny`.
    pub fn pixels_of(&self, image: &[u8]) -> Tensor {
        let table: Vec<Vec<f32>> = self.get("pixel_lut").to_vec2().unwrap();
        let pixel =
            |channel: usize, i: usize| table[channel][usize::from(image[i * 3 + channel % 3])];
        let values: Vec<f32> = (0..6)
            .flat_map(|channel| (0..224 * 224).map(move |i| pixel(channel, i)))
            .collect();
        Tensor::from_vec(values, (6, 224, 224), &Device::Cpu).unwrap()
    }
}

/// Returns what a trace received, in F32.
pub fn traced<R>(run: impl FnOnce(&mut dyn FnMut(&str, &Tensor)) -> R) -> (R, References) {
    let mut tensors = HashMap::new();
    let result = run(&mut |name: &str, x: &Tensor| {
        let x = x.to_dtype(DType::F32).unwrap();
        assert!(tensors.insert(name.to_owned(), x).is_none(), "{name} twice");
    });
    (result, References(tensors))
}

pub fn openvla() -> VlaFolder {
    VlaFolder::open(openvla_folder()).unwrap()
}

pub fn towers(dtype: DType) -> VisionTowers {
    let folder = openvla();
    VisionTowers::load(&Loader::new(&folder, &Device::Cpu, dtype).unwrap()).unwrap()
}

pub fn values(x: &Tensor) -> Vec<f64> {
    let x = x.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    x.to_vec1().unwrap()
}

/// Returns `|a - b| / |b|`.
pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let difference: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
    (difference / b.iter().map(|b| b * b).sum::<f64>()).sqrt()
}

/// Checks a tensor against a reference of the same shape.
#[track_caller]
pub fn assert_near(got: &Tensor, reference: &Tensor, tolerance: f64, what: &str) {
    assert_eq!(got.dims(), reference.dims(), "{what}");
    let distance = distance(&values(got), &values(reference));
    println!("{what}: relative L2 {distance:.1e}");
    assert!(
        distance <= tolerance,
        "{what}: relative L2 {distance:e} > {tolerance:e}"
    );
}
