//! Safetensors files for tests, with deliberate errors.
#![allow(dead_code)] // Each test binary takes its part.

use std::collections::{BTreeMap, HashMap};

use half::bf16;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// The tensors and the metadata of a safetensors file.
#[derive(Default)]
pub struct TensorFile {
    metadata: HashMap<String, String>,
    tensors: BTreeMap<String, Tensor>,
}

#[derive(Clone)]
struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl TensorFile {
    /// A file without tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the tensors of a file.
    pub fn read(path: &str) -> Self {
        let bytes = std::fs::read(path).expect("the file exists");
        let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("the file is valid");
        let mut file = Self::new();
        for (name, view) in tensors.tensors() {
            file.set(&name, view.dtype(), view.shape(), view.data().to_vec());
        }
        file
    }

    /// Adds or replaces a tensor.
    pub fn set(&mut self, name: &str, dtype: Dtype, shape: &[usize], data: Vec<u8>) {
        let shape = shape.to_vec();
        self.tensors
            .insert(name.into(), Tensor { dtype, shape, data });
    }

    /// A policy with arbitrary weights, finite and of a sensible size.
    pub fn policy(layers: usize, d: usize, h: usize) -> Self {
        let metadata = [
            (
                "block",
                "x+down(silu(gate(rms(x)))*up(rms(x))), rms eps 1e-5".to_owned(),
            ),
            ("layers", layers.to_string()),
            ("d", d.to_string()),
            ("h", h.to_string()),
            ("obs", "25".into()),
            ("input", "64".into()),
            ("bins", "256".into()),
            ("tasks", "Lift,Stack".into()),
        ];
        let mut file = Self {
            metadata: metadata.map(|(k, v)| (k.to_owned(), v)).into(),
            tensors: BTreeMap::new(),
        };
        for name in ["obs_mean", "obs_std"] {
            let data = [1f32.to_le_bytes(); 25].as_flattened().to_vec();
            let (dtype, shape) = (Dtype::F32, vec![25]);
            file.tensors
                .insert(name.into(), Tensor { dtype, shape, data });
        }
        file.weight("inp.weight", &[d, 64]);
        file.weight("norm.weight", &[d]);
        file.weight("head.weight", &[7 * 256, d]);
        for layer in 0..layers {
            file.weight(&format!("blocks.{layer}.norm.weight"), &[d]);
            file.weight(&format!("blocks.{layer}.gate.weight"), &[h, d]);
            file.weight(&format!("blocks.{layer}.up.weight"), &[h, d]);
            file.weight(&format!("blocks.{layer}.down.weight"), &[d, h]);
        }
        file
    }

    fn weight(&mut self, name: &str, shape: &[usize]) {
        let values =
            (0..shape.iter().product()).map(|i: usize| (i * 37 % 101) as f32 / 101.0 - 0.5);
        let data = values
            .flat_map(|x| bf16::from_f32(x).to_le_bytes())
            .collect();
        let (dtype, shape) = (Dtype::BF16, shape.to_vec());
        self.tensors
            .insert(name.into(), Tensor { dtype, shape, data });
    }

    /// Returns the bytes of the file.
    pub fn bytes(&self) -> Vec<u8> {
        let views = self.tensors.iter().map(|(name, t)| {
            let view = TensorView::new(t.dtype, t.shape.clone(), &t.data);
            (name, view.expect("the shape fits the data"))
        });
        safetensors::serialize(views, Some(self.metadata.clone())).expect("names are short")
    }

    /// Removes a tensor.
    pub fn remove(&mut self, name: &str) {
        self.tensors.remove(name).unwrap();
    }

    /// Renames a tensor.
    pub fn rename(&mut self, from: &str, to: &str) {
        let tensor = self.tensors.remove(from).unwrap();
        self.tensors.insert(to.into(), tensor);
    }

    /// Copies a tensor to another name.
    pub fn copy(&mut self, from: &str, to: &str) {
        let tensor = self.tensors[from].clone();
        self.tensors.insert(to.into(), tensor);
    }

    /// Changes the shape of a tensor.
    pub fn reshape(&mut self, name: &str, shape: &[usize]) {
        self.tensors.get_mut(name).unwrap().shape = shape.to_vec();
    }

    /// Fills a BF16 tensor with one value.
    pub fn fill(&mut self, name: &str, value: bf16) {
        let data = &mut self.tensors.get_mut(name).unwrap().data;
        for place in data.as_chunks_mut().0 {
            *place = value.to_le_bytes();
        }
    }

    /// Fills a tensor with zeros.
    pub fn zero(&mut self, name: &str) {
        self.tensors.get_mut(name).unwrap().data.fill(0);
    }

    /// Sets a field of the metadata.
    pub fn describe(&mut self, field: &str, value: &str) {
        self.metadata.insert(field.into(), value.into());
    }

    /// Removes a field of the metadata.
    pub fn forget(&mut self, field: &str) {
        self.metadata.remove(field).unwrap();
    }
}
