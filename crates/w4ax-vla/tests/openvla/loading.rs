//! What the options of a load change, converted folders, and checkpoints that are wrong.

use super::fixture::{EXACT, Fixture, distance, load, numbers, values};
use super::mirror::{Fault, OftInput, Weights, oft};
use super::quantized::{bits, quantize};
use super::stages::{Seen, observation, run, run_at};
use super::{oft as oft_stages, stages};
use candle_core::{Device, Tensor};
use serde_json::Value;
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use test_support::{oft_folder, openvla_copy};
use w4ax::Width;
use w4ax::checkpoint::{Checkpoint, Convert};
use w4ax_vla::VlaError;
use w4ax_vla::model::{LoadOptions, ModelPart, Numerics, Observation, Vla};

fn options() -> LoadOptions {
    LoadOptions::default().with_numerics(Numerics::Quantized(quantize()))
}

fn load_with(folder: &Path, options: &LoadOptions) -> Vla {
    Vla::load(folder, options, &mut |_| ()).unwrap()
}

/// Loads a folder that is wrong. Returns the error and the number of tensors that were loaded.
fn load_error(folder: &Path, options: &LoadOptions) -> (VlaError, usize) {
    let mut loaded = 0;
    let error = Vla::load(folder, options, &mut |_| loaded += 1).unwrap_err();
    (error, loaded)
}

fn bytes_of(vla: &Vla, part: ModelPart) -> u64 {
    let parts = vla.bytes();
    parts.iter().find(|(of, _)| *of == part).unwrap().1
}

fn assert_same(a: &Seen, b: &Seen) {
    assert_eq!((&a.tokens, &a.normalized), (&b.tokens, &b.normalized));
    assert_eq!(a.stages.len(), b.stages.len());
    for (stage, value) in &a.stages {
        assert!(values(value) == values(&b.stages[stage]), "{stage}");
    }
}

/// Changes `config.json` of a folder.
fn edit_config(folder: &Path, edit: impl FnOnce(&mut Value)) {
    let file = folder.join("config.json");
    let mut config = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    edit(&mut config);
    fs::write(file, serde_json::to_vec(&config).unwrap()).unwrap();
}

#[test]
fn packed_vision_is_smaller_and_near_the_plain_one() {
    let fixture = Fixture::new("openvla-tiny");
    let mut plain = load_with(&fixture.folder, &options());
    let mut packed = load_with(&fixture.folder, &options().with_packed_vision(true));
    for part in [ModelPart::Vision, ModelPart::Projector] {
        let (small, large) = (bytes_of(&packed, part), bytes_of(&plain, part));
        println!("{part}: {small} bytes, plain {large}");
        // The convolutions of the patches and the positions stay plain.
        assert!(
            5 * small < 3 * large,
            "{part}: {small} bytes, plain {large}"
        );
    }
    assert_eq!(
        bytes_of(&packed, ModelPart::Layers),
        bytes_of(&plain, ModelPart::Layers)
    );
    let observation = observation(&fixture, 0);
    let [plain, packed] = [&mut plain, &mut packed].map(|vla| run(vla, &observation));
    for (stage, bound) in [
        ("dino_patch_features", PACKED_DINO),
        ("siglip_patch_features", PACKED_SIGLIP),
        ("projector_output", PACKED_PROJECTOR),
    ] {
        let distance = distance(&packed.stages[stage], &plain.stages[stage]);
        println!("{stage}: {distance:.3}");
        assert!(
            distance < bound && distance > bound / 10.0,
            "{stage}: {distance}"
        );
    }
}

/// Twice what 4-bit weights of random values in groups of 32 were measured to cost.
const PACKED_DINO: f64 = 0.30;
const PACKED_SIGLIP: f64 = 0.38;
const PACKED_PROJECTOR: f64 = 0.32;

#[test]
fn action_rows_have_the_logits_of_the_full_head() {
    let fixture = Fixture::new("openvla-tiny");
    let mut full = load_with(&fixture.folder, &options());
    let mut rows = load_with(&fixture.folder, &options().with_action_rows_only(true));
    assert_eq!(bytes_of(&rows, ModelPart::Head), 256 * 64 * 2);
    assert_eq!(bytes_of(&full, ModelPart::Head), 32064 * 64 * 2);
    for case in 0..3 {
        let observation = observation(&fixture, case);
        let [full, rows] = [&mut full, &mut rows].map(|vla| run_at(vla, &observation, Width::A8));
        let mut step = 0;
        for token in &rows.tokens {
            let stage = format!("logits_step{step}");
            let all = full.stages[&stage].narrow(0, 31744, 256).unwrap();
            assert!(
                bits(&rows.stages[&stage]) == bits(&all),
                "case {case}, {stage}"
            );
            let all = values(&all);
            let best = (0..256).rev().max_by(|a, b| all[*a].total_cmp(&all[*b]));
            assert_eq!(*token, 31744 + best.unwrap() as u32, "case {case}, {stage}");
            // Later logits follow the token.
            if full.tokens[step] != *token {
                break;
            }
            step += 1;
        }
        assert!(step > 1, "case {case}: the full head chooses other tokens");
    }
}

/// The chosen tokens can only be actions, where the full head would choose another one.
#[test]
fn action_rows_exclude_other_tokens() {
    let folder = openvla_copy();
    // Row 5 of the head wins everywhere: the scaled row of the first action.
    rewrite(folder.path(), |tensors| {
        let name = "language_model.lm_head.weight";
        let head = &tensors[name];
        let row = (head.narrow(0, 31911, 1).unwrap() * 4.0).unwrap();
        let parts = [
            &head.narrow(0, 0, 5).unwrap(),
            &row,
            &head.narrow(0, 6, 32058).unwrap(),
        ];
        let head = Tensor::cat(&parts, 0).unwrap();
        tensors.insert(name.into(), head);
    });
    let fixture = Fixture::new("openvla-tiny");
    let observation = observation(&fixture, 0);
    let exact = options().with_numerics(Numerics::F32);
    let mut full = load_with(folder.path(), &exact);
    let mut rows = load_with(folder.path(), &exact.with_action_rows_only(true));
    let [full, rows] = [&mut full, &mut rows].map(|vla| run(vla, &observation));
    assert_eq!((full.tokens[0], rows.tokens[0]), (5, 31911));
    assert!(
        rows.tokens
            .iter()
            .all(|token| (31744..32000).contains(token))
    );
}

/// Replaces the shards of a folder by one file with changed tensors.
fn rewrite(folder: &Path, change: impl FnOnce(&mut HashMap<String, Tensor>)) {
    let mut tensors = HashMap::new();
    for name in [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ] {
        let file = folder.join(name);
        tensors.extend(candle_core::safetensors::load(&file, &Device::Cpu).unwrap());
        fs::remove_file(file).unwrap();
    }
    fs::remove_file(folder.join("model.safetensors.index.json")).unwrap();
    change(&mut tensors);
    candle_core::safetensors::save(&tensors, folder.join("model.safetensors")).unwrap();
}

#[test]
fn names_a_tensor_that_is_missing_or_of_another_shape() {
    for name in [
        "vision_backbone.featurizer.blocks.0.attn.qkv.bias",
        "vision_backbone.fused_featurizer.blocks.2.mlp.fc2.weight",
        "projector.fc3.bias",
        "language_model.model.layers.3.mlp.down_proj.weight",
        "language_model.model.norm.weight",
        "language_model.lm_head.weight",
    ] {
        let folder = openvla_copy();
        rewrite(folder.path(), |tensors| {
            let tensor = &tensors[name];
            let short = tensor.narrow(0, 0, tensor.dim(0).unwrap() - 1).unwrap();
            tensors.insert(name.into(), short.contiguous().unwrap());
        });
        let (error, _) = load_error(folder.path(), &options());
        let of_name = matches!(&error, VlaError::TensorShape { name: of, .. } if of == name);
        assert!(of_name, "{name}: {error}");
        let folder = openvla_copy();
        rewrite(folder.path(), |tensors| {
            assert!(tensors.remove(name).is_some())
        });
        let (error, _) = load_error(folder.path(), &options());
        let of_name = matches!(&error, VlaError::MissingTensor { name: of, .. } if of == name);
        assert!(of_name, "{name}: {error}");
    }
}

#[test]
fn rejects_a_model_beyond_the_memory_before_loading() {
    let folder = openvla_copy();
    edit_config(folder.path(), |config| {
        config["text_config"]["vocab_size"] = 100_000_000_000_u64.into();
    });
    let (error, loaded) = load_error(folder.path(), &options());
    let VlaError::Memory { what, needed, .. } = &error else {
        panic!("{error}");
    };
    assert!(
        what.contains("embeddings") && what.contains("head"),
        "{what}"
    );
    assert!(*needed > 2 * 100_000_000_000 * 64 * 2);
    assert_eq!(loaded, 0);
}

#[test]
fn rejects_another_vision_tower_by_name() {
    let folder = openvla_copy();
    edit_config(folder.path(), |config| {
        config["timm_model_ids"][1] = "vit_so400m_patch14_siglip_384".into();
    });
    let (error, loaded) = load_error(folder.path(), &options());
    assert!(matches!(error, VlaError::Field { .. }));
    let text = error.to_string();
    assert!(
        text.contains("config.json") && text.contains("siglip_384"),
        "{text}"
    );
    assert_eq!(loaded, 0);
}

/// Quantizing at load and converting before give the same weights.
#[test]
fn converted_folder_equals_quantizing_at_load() {
    let fixture = Fixture::new("openvla-tiny");
    let chunks = Fixture::new("oft-tiny");
    let folder = oft_folder();
    for (from, observation) in [
        (fixture.folder.as_path(), observation(&fixture, 1)),
        (folder.path(), oft_stages::observation(&chunks, 1)),
    ] {
        let out = tempfile::tempdir().unwrap();
        let out = out.path().join("packed");
        let checkpoint = Checkpoint::open(from).unwrap();
        let convert = Convert::new(quantize());
        convert.run_to_folder(&checkpoint, &out, |_| ()).unwrap();
        let mut at_load = load_with(from, &options());
        let mut converted = load_with(&out, &options());
        assert_eq!(converted.is_one_pass(), at_load.is_one_pass());
        assert_eq!(converted.bytes(), at_load.bytes());
        for width in [Width::A8, Width::Bf16] {
            let [a, b] = [&mut at_load, &mut converted].map(|vla| run_at(vla, &observation, width));
            assert_same(&a, &b);
        }
        for numerics in [Numerics::F32, Numerics::Bf16] {
            let (error, _) = load_error(&out, &options().with_numerics(numerics));
            let text = error.to_string();
            assert!(matches!(error, VlaError::InvalidState { .. }), "{text}");
            assert!(text.contains("language_model.model.layers.0"), "{text}");
        }
    }
}

#[test]
fn converted_vision_equals_packing_at_load() {
    let fixture = Fixture::new("openvla-tiny");
    let out = tempfile::tempdir().unwrap();
    let out = out.path().join("packed");
    let convert = Convert::new(quantize()).also(["vision_backbone", "projector"]);
    let checkpoint = Checkpoint::open(&fixture.folder).unwrap();
    convert.run_to_folder(&checkpoint, &out, |_| ()).unwrap();
    let mut at_load = load_with(&fixture.folder, &options().with_packed_vision(true));
    let mut converted = load_with(&out, &options());
    assert_eq!(converted.bytes(), at_load.bytes());
    let observation = observation(&fixture, 0);
    let [a, b] = [&mut at_load, &mut converted].map(|vla| run_at(vla, &observation, Width::A8));
    assert_same(&a, &b);
}

#[test]
fn oft_without_a_projector_of_the_state_has_one_token_less() {
    let fixture = Fixture::new("oft-tiny");
    let folder = oft_folder();
    fs::remove_file(
        folder
            .path()
            .join("proprio_projector--150000_checkpoint.pt"),
    )
    .unwrap();
    let mut vla = load(folder.path(), Numerics::F32);
    let with_state = oft_stages::observation(&fixture, 0);
    let mut ids: Vec<u32> = numbers(&fixture.case(0)["prompt_ids"]);
    ids.push(29871);
    let without = Observation::new(with_state.images().to_vec(), ids.clone());
    let seen = stages::run(&mut vla, &without);
    assert_eq!(seen.stages["multimodal_embeddings"].dims(), [600, 64]);
    // A state that the model does not take is ignored.
    assert_same(&stages::run(&mut vla, &with_state), &seen);
    let patches = values(fixture.tensor(0, "projector_output").unwrap());
    let proprio = vec![0.0; 64];
    let input = OftInput {
        patches,
        proprio,
        ids,
    };
    let (model, head) = (Weights::of_model(), Weights::of_head());
    let expected = oft(&model, &head, &input, Some(Fault::NoProprio));
    for (got, expected) in seen.normalized.iter().zip(&expected) {
        assert!((got - expected).abs() <= 5e-5, "{got}, expected {expected}");
    }
}

/// F32 activations with the stored BF16 weights: half the bytes of widened ones.
#[test]
fn unquantized_models_keep_the_stored_weights() {
    let fixture = Fixture::new("openvla-tiny");
    let mut wide = load(&fixture.folder, Numerics::F32);
    let stored = load(&fixture.folder, Numerics::Bf16);
    for part in [
        ModelPart::Vision,
        ModelPart::Layers,
        ModelPart::Embeddings,
        ModelPart::Head,
    ] {
        assert_eq!(bytes_of(&wide, part), bytes_of(&stored, part), "{part}");
    }
    let seen = run(&mut wide, &observation(&fixture, 2));
    let expected = fixture.tensor(2, "llama_layer3_out").unwrap();
    assert!(distance(&seen.stages["llama_layer3_out"], expected) <= EXACT);
}
