//! Safetensors files that are made up, and spoiled.
#![allow(dead_code)] // Each test binary takes its part.

use std::collections::{BTreeMap, HashMap};

use half::bf16;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// A safetensors file in pieces.
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

    /// The tensors of a file.
    pub fn read(path: &str) -> Self {
        let bytes = std::fs::read(path).expect("the file is there");
        let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("it is sound");
        let mut file = Self::new();
        for (name, view) in tensors.tensors() {
            file.set(&name, view.dtype(), view.shape(), view.data().to_vec());
        }
        file
    }

    /// With a tensor.
    pub fn set(&mut self, name: &str, dtype: Dtype, shape: &[usize], data: Vec<u8>) {
        let shape = shape.to_vec();
        self.tensors
            .insert(name.into(), Tensor { dtype, shape, data });
    }

    /// A policy with weights of no meaning, but finite and of a sensible size.
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

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let views = self.tensors.iter().map(|(name, t)| {
            let view = TensorView::new(t.dtype, t.shape.clone(), &t.data);
            (name, view.expect("the shape fits the data"))
        });
        safetensors::serialize(views, Some(self.metadata.clone())).expect("names are short")
    }

    /// Without a tensor.
    pub fn remove(&mut self, name: &str) {
        self.tensors.remove(name).unwrap();
    }

    /// With a tensor under another name.
    pub fn rename(&mut self, from: &str, to: &str) {
        let tensor = self.tensors.remove(from).unwrap();
        self.tensors.insert(to.into(), tensor);
    }

    /// With a tensor under another name too.
    pub fn copy(&mut self, from: &str, to: &str) {
        let tensor = self.tensors[from].clone();
        self.tensors.insert(to.into(), tensor);
    }

    /// With a tensor of another shape.
    pub fn reshape(&mut self, name: &str, shape: &[usize]) {
        self.tensors.get_mut(name).unwrap().shape = shape.to_vec();
    }

    /// With a BF16 tensor full of one value.
    pub fn fill(&mut self, name: &str, value: bf16) {
        let data = &mut self.tensors.get_mut(name).unwrap().data;
        for place in data.as_chunks_mut().0 {
            *place = value.to_le_bytes();
        }
    }

    /// With a tensor of zeros.
    pub fn zero(&mut self, name: &str) {
        self.tensors.get_mut(name).unwrap().data.fill(0);
    }

    /// With other metadata.
    pub fn describe(&mut self, field: &str, value: &str) {
        self.metadata.insert(field.into(), value.into());
    }

    /// Without a piece of metadata.
    pub fn forget(&mut self, field: &str) {
        self.metadata.remove(field).unwrap();
    }
}
