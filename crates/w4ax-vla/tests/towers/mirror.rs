//! The same networks in F64, written from their description, with a switch per peculiarity.

use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;
use test_support::{openvla_folder, vla_data};

/// What an implementation may get wrong in a vision tower.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    TanhGelu,
    Eps,
    LastBlock,
    FinalNorm,
    NoLayerScale,
    FirstTokens,
    NoRegisters,
    PositionsOfTokens,
    PixelOrder,
    ColumnMajor,
    ScaleOfWidth,
}

/// Tensors in F64 by name.
pub struct Weights(HashMap<String, (Vec<usize>, Vec<f64>)>);

impl Weights {
    fn read(files: &[std::path::PathBuf]) -> Self {
        let mut all = HashMap::new();
        for file in files {
            for (name, x) in candle_core::safetensors::load(file, &Device::Cpu).unwrap() {
                let name = name.trim_start_matches("module.").to_owned();
                all.insert(name, (x.dims().to_vec(), f64_of(&x)));
            }
        }
        Self(all)
    }

    pub fn of_model() -> Self {
        Self::read(
            &[1, 2].map(|i| openvla_folder().join(format!("model-0000{i}-of-00002.safetensors"))),
        )
    }

    pub fn of_head() -> Self {
        Self::read(&[vla_data().join("oft-tiny/action_head--150000_checkpoint.safetensors")])
    }

    pub fn of_proprio() -> Self {
        Self::read(&[vla_data().join("oft-tiny/proprio_projector--150000_checkpoint.safetensors")])
    }

    fn get(&self, name: &str) -> &[f64] {
        &self.0[name].1
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

fn f64_of(x: &Tensor) -> Vec<f64> {
    let x = x
        .to_dtype(DType::F32)
        .unwrap()
        .to_dtype(DType::F64)
        .unwrap();
    x.flatten_all().unwrap().to_vec1().unwrap()
}

fn linear(w: &Weights, module: &str, x: &[f64]) -> Vec<f64> {
    let weight = w.get(&format!("{module}.weight"));
    let bias = w.get(&format!("{module}.bias"));
    let k = weight.len() / bias.len();
    let mut y = Vec::with_capacity(x.len() / k * bias.len());
    for x in x.chunks_exact(k) {
        for (row, bias) in weight.chunks_exact(k).zip(bias) {
            y.push(row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + bias);
        }
    }
    y
}

fn layer_norm(w: &Weights, module: &str, x: &[f64], eps: f64) -> Vec<f64> {
    let weight = w.get(&format!("{module}.weight"));
    let bias = w.get(&format!("{module}.bias"));
    let n = weight.len();
    let mut y = Vec::with_capacity(x.len());
    for x in x.chunks_exact(n) {
        let mean = x.iter().sum::<f64>() / n as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
        let scale = 1.0 / (variance + eps).sqrt();
        y.extend((0..n).map(|i| (x[i] - mean) * scale * weight[i] + bias[i]));
    }
    y
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + candle_core::cpu::erf::erf_f64(x / 2f64.sqrt()))
}

fn tanh_gelu(x: f64) -> f64 {
    let root = (2.0 / std::f64::consts::PI).sqrt();
    0.5 * x * (1.0 + (root * (x + 0.044715 * x.powi(3))).tanh())
}

fn relu(x: f64) -> f64 {
    x.max(0.0)
}

fn each(x: Vec<f64>, f: fn(f64) -> f64) -> Vec<f64> {
    x.into_iter().map(f).collect()
}

/// The pixels of each patch in the order of the kernel.
fn patches(pixels: &[f64], fault: Option<Fault>) -> Vec<f64> {
    let mut rows = Vec::with_capacity(pixels.len());
    for a in 0..16 {
        for b in 0..16 {
            let (py, px) = if fault == Some(Fault::ColumnMajor) {
                (b, a)
            } else {
                (a, b)
            };
            for i in 0..3 * 14 * 14 {
                let (c, y, x) = match fault {
                    Some(Fault::PixelOrder) => (i % 3, i / 42, i / 3 % 14),
                    _ => (i / 196, i / 14 % 14, i % 14),
                };
                rows.push(pixels[c * 224 * 224 + (py * 14 + y) * 224 + px * 14 + x]);
            }
        }
    }
    rows
}

fn attention(qkv: &[f64], e: usize, fault: Option<Fault>) -> Vec<f64> {
    let (tokens, d) = (qkv.len() / (3 * e), e / 16);
    let scale = match fault {
        Some(Fault::ScaleOfWidth) => (e as f64).powf(-0.5),
        _ => (d as f64).powf(-0.5),
    };
    let part =
        |token: usize, which: usize, head: usize| &qkv[token * 3 * e + which * e + head * d..][..d];
    let mut y = vec![0.0; tokens * e];
    for head in 0..16 {
        for i in 0..tokens {
            let q = part(i, 0, head);
            let weights: Vec<f64> = (0..tokens)
                .map(|j| {
                    let k = part(j, 1, head);
                    (q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>() * scale).exp()
                })
                .collect();
            let total: f64 = weights.iter().sum();
            let y = &mut y[i * e + head * d..][..d];
            for (j, weight) in weights.iter().enumerate() {
                for (y, v) in y.iter_mut().zip(part(j, 2, head)) {
                    *y += weight / total * v;
                }
            }
        }
    }
    y
}

/// Returns the features `[256, E]` of the pixels `[3, 224, 224]`.
pub fn tower(w: &Weights, prefix: &str, pixels: &[f64], fault: Option<Fault>) -> Vec<f64> {
    let name = |rest: &str| format!("{prefix}.{rest}");
    let mut x = linear(w, &name("patch_embed.proj"), &patches(pixels, fault));
    let e = x.len() / 256;
    let positions = w.get(&name("pos_embed"));
    x.iter_mut().zip(positions).for_each(|(x, p)| *x += p);
    let mut before = 0;
    if w.has(&name("cls_token")) {
        let mut tokens = w.get(&name("cls_token")).to_vec();
        if fault != Some(Fault::NoRegisters) {
            tokens.extend(w.get(&name("reg_token")));
        }
        if fault == Some(Fault::PositionsOfTokens) {
            tokens.iter_mut().zip(positions).for_each(|(x, p)| *x += p);
        }
        before = tokens.len() / e;
        tokens.extend(x);
        x = tokens;
    }
    let eps = if fault == Some(Fault::Eps) {
        1e-5
    } else {
        1e-6
    };
    let activation = if fault == Some(Fault::TanhGelu) {
        tanh_gelu
    } else {
        gelu
    };
    let depth = (0..)
        .take_while(|i| w.has(&name(&format!("blocks.{i}.norm1.weight"))))
        .count();
    let run = if fault == Some(Fault::LastBlock) {
        depth
    } else {
        depth - 1
    };
    for i in 0..run {
        let name = |rest: &str| format!("{prefix}.blocks.{i}.{rest}");
        let add = |x: &mut [f64], y: Vec<f64>, scale: &str| {
            let ones = vec![1.0; e];
            let scale = name(scale);
            let ignored = fault == Some(Fault::NoLayerScale) || !w.has(&scale);
            let scale = if ignored { &ones } else { w.get(&scale) };
            for (i, (x, y)) in x.iter_mut().zip(y).enumerate() {
                *x += scale[i % e] * y;
            }
        };
        let y = linear(
            w,
            &name("attn.qkv"),
            &layer_norm(w, &name("norm1"), &x, eps),
        );
        let y = linear(w, &name("attn.proj"), &attention(&y, e, fault));
        add(&mut x, y, "ls1.scale_factor");
        let y = linear(w, &name("mlp.fc1"), &layer_norm(w, &name("norm2"), &x, eps));
        let y = linear(w, &name("mlp.fc2"), &each(y, activation));
        add(&mut x, y, "ls2.scale_factor");
    }
    let first = if fault == Some(Fault::FirstTokens) {
        0
    } else {
        before
    };
    let x = x[first * e..(first + 256) * e].to_vec();
    match fault {
        Some(Fault::FinalNorm) => layer_norm(w, &name("norm"), &x, eps),
        _ => x,
    }
}

/// Returns the embeddings of patch features, with the exact GELU or the one of tanh.
pub fn projector(w: &Weights, features: &[f64], tanh: bool) -> Vec<f64> {
    let activation = if tanh { tanh_gelu } else { gelu };
    let x = each(linear(w, "projector.fc1", features), activation);
    let x = each(linear(w, "projector.fc2", &x), activation);
    linear(w, "projector.fc3", &x)
}

/// Returns the actions `[8, 7]` of the hidden states `[56, 64]`.
pub fn action_head(w: &Weights, hidden: &[f64], fault: Option<&str>) -> Vec<f64> {
    let (eps, activation) = match fault {
        Some("gelu") => (1e-5, gelu as fn(f64) -> f64),
        Some("eps 1e-3") => (1e-3, relu as fn(f64) -> f64),
        _ => (1e-5, relu as fn(f64) -> f64),
    };
    let rows: Vec<f64> = match fault {
        // The value d of action a from position d * 8 + a.
        Some("columns") => (0..56)
            .flat_map(|i| hidden[(i % 7 * 8 + i / 7) * 64..][..64].to_vec())
            .collect(),
        _ => hidden.to_vec(),
    };
    let x = layer_norm(w, "model.layer_norm1", &rows, eps);
    let mut x = each(linear(w, "model.fc1", &x), activation);
    for i in 0..2 {
        let name = |j: usize| format!("model.mlp_resnet_blocks.{i}.ffn.{j}");
        let y = each(
            linear(w, &name(1), &layer_norm(w, &name(0), &x, eps)),
            activation,
        );
        if fault == Some("no residual") {
            x = y;
        } else {
            x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
        }
    }
    linear(w, "model.fc2", &layer_norm(w, "model.layer_norm2", &x, eps))
}

/// Returns the embedding of a state with the weights as they are stored, not rounded.
pub fn proprio(w: &Weights, state: &[f64]) -> Vec<f64> {
    linear(w, "fc2", &each(linear(w, "fc1", state), gelu))
}
