//! The conversion of OpenVLA's checkpoints: which tensors are packed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use serde_json::json;
use test_support::{openvla_folder, vla_data};
use w4ax::checkpoint::{Checkpoint, Convert};
use w4ax::{Grouping, Quantize};
use w4ax_vla::checkpoint::{StoredWeight, VlaFolder, WeightSource};

const CONVERT: Quantize = Quantize::new(Grouping::G64);

/// The shapes of the released 7B model.
fn shapes() -> BTreeMap<String, Vec<usize>> {
    let text = fs::read(vla_data().join("real_openvla7b_tensors.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// Writes a checkpoint in BF16 with these shapes, whose values take no room on the disk.
fn write_hollow(folder: &Path, shapes: &BTreeMap<String, Vec<usize>>) {
    let mut at = 0;
    let mut header = serde_json::Map::new();
    for (name, shape) in shapes {
        let bytes = 2 * shape.iter().product::<usize>();
        let info = json!({"dtype": "BF16", "shape": shape, "data_offsets": [at, at + bytes]});
        header.insert(name.clone(), info);
        at += bytes;
    }
    let header = serde_json::to_vec(&header).unwrap();
    let path = folder.join("model.safetensors");
    let start = [&(header.len() as u64).to_le_bytes(), header.as_slice()].concat();
    fs::write(&path, &start).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len((start.len() + at) as u64).unwrap();
    fs::copy(
        openvla_folder().join("config.json"),
        folder.join("config.json"),
    )
    .unwrap();
}

/// Of the 982 tensors of the 7B model, the seven matrices of each of the 32 layers are packed.
#[test]
fn packs_the_layers_of_the_language_model() {
    let shapes = shapes();
    assert_eq!(shapes.len(), 982);
    let folder = tempfile::tempdir().unwrap();
    write_hollow(folder.path(), &shapes);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    assert_eq!(checkpoint.kind().unwrap().name(), "openvla");
    let mut expected = Vec::new();
    for layer in 0..32 {
        for module in [
            "self_attn.q_proj",
            "self_attn.k_proj",
            "self_attn.v_proj",
            "self_attn.o_proj",
            "mlp.gate_proj",
            "mlp.up_proj",
            "mlp.down_proj",
        ] {
            expected.push(format!("language_model.model.layers.{layer}.{module}"));
        }
    }
    expected.sort();
    let convert = Convert::new(CONVERT);
    let mut modules = convert.modules(&checkpoint).unwrap();
    modules.sort();
    assert_eq!(modules, expected);
    // The option adds the matrices of the towers, not their convolutions and embeddings.
    let more = convert.clone().also(["vision_backbone"]);
    let more = more.modules(&checkpoint).unwrap();
    let vision: Vec<&String> = more.iter().filter(|m| !expected.contains(m)).collect();
    let matrices = shapes.iter().filter(|(name, shape)| {
        name.starts_with("vision_backbone.") && name.ends_with(".weight") && shape.len() == 2
    });
    assert_eq!(vision.len(), matrices.count());
    assert!(vision.len() >= 4 * (24 + 27));
    assert!(vision.iter().all(|m| m.starts_with("vision_backbone.")));
    assert_eq!(more.len(), expected.len() + vision.len());
    // `keep` prevails.
    let less = convert
        .also(["projector"])
        .keep(["projector.fc2", "layers.7"]);
    let less = less.modules(&checkpoint).unwrap();
    assert_eq!(less.len(), 224 + 2 - 7);
}

/// A loader finds the vision towers packed: any N and K, and tensors that the model does not use.
#[test]
fn packs_the_vision_towers_by_option() {
    let checkpoint = Checkpoint::open(openvla_folder()).unwrap();
    let out = tempfile::tempdir().unwrap();
    let output = out.path().join("packed");
    let convert = Convert::new(CONVERT).also(["vision_backbone"]);
    let summary = convert.run_to_folder(&checkpoint, &output, |_| ()).unwrap();
    assert_eq!(summary.weights.repacked, 0);
    let plain = VlaFolder::open(openvla_folder()).unwrap();
    let packed = VlaFolder::open(&output).unwrap();
    for module in [
        "vision_backbone.featurizer.blocks.0.attn.qkv",
        "vision_backbone.fused_featurizer.blocks.3.mlp.fc2",
    ] {
        let shape = plain.shape(&format!("{module}.weight")).unwrap();
        let weight = packed.weight(module, shape[0], shape[1]).unwrap();
        assert!(matches!(weight, StoredWeight::Packed(_)), "{module}");
        let error = packed.weight(module, shape[0] + 1, shape[1]).unwrap_err();
        assert!(error.to_string().contains(module), "{error}");
    }
    let bias = "vision_backbone.featurizer.blocks.0.attn.qkv.bias";
    let shape = plain.shape(bias).unwrap();
    packed.tensor(bias, &shape).unwrap();
}
