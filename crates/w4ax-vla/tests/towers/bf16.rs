//! BF16 activations: as far from the F32 references as the model's own BF16 run, times two.

use crate::support::{References, assert_near, openvla, towers, traced};
use candle_core::{DType, Device};
use test_support::oft_folder;
use w4ax_vla::checkpoint::VlaFolder;
use w4ax_vla::model::{ActionHead, Loader, Projector, ProprioProjector};

#[test]
fn towers_and_projector_are_as_near_as_the_models_own_bf16() {
    let references = References::read("openvla-tiny");
    let towers = towers(DType::BF16);
    let folder = openvla();
    let loader = Loader::new(&folder, &Device::Cpu, DType::BF16).unwrap();
    let projector = Projector::load(&loader, 144).unwrap();
    for case in 0..3 {
        let pixels = references.pixels(case);
        let (features, stages) = traced(|trace| towers.forward(&pixels, trace).unwrap());
        assert_eq!(features.dtype(), DType::BF16);
        for (name, deviation) in [
            ("dino_patch_features", 0.0058),
            ("siglip_patch_features", 0.0070),
        ] {
            let expected = references.get(&format!("case{case}.{name}"));
            assert_near(stages.get(name), expected, 2.0 * deviation, name);
        }
        let y = projector.forward(&features).unwrap();
        let expected = references.get(&format!("case{case}.projector_output"));
        assert_near(&y, expected, 2.0 * 0.0048, "projector");
    }
}

#[test]
fn head_and_proprio_are_as_near_as_the_models_own_bf16() {
    let references = References::read("oft-tiny");
    let copy = oft_folder();
    let folder = VlaFolder::open(copy.path()).unwrap();
    let loader = Loader::new(&folder, &Device::Cpu, DType::BF16).unwrap();
    let head = ActionHead::load(&loader).unwrap();
    let proprio = ProprioProjector::load(&loader).unwrap();
    for (case, norm1, norm2, actions) in [(0, 0.0201, 0.0311, 0.0400), (1, 0.0306, 0.0523, 0.0696)]
    {
        let get = |name: &str| references.get(&format!("case{case}.{name}"));
        let hidden = get("action_hidden_states").to_dtype(DType::BF16).unwrap();
        let (y, stages) = traced(|trace| head.forward(&hidden, trace).unwrap());
        assert_eq!(y.dtype(), DType::F32);
        for (name, deviation) in [("head.layer_norm1", norm1), ("head.layer_norm2", norm2)] {
            assert_near(stages.get(name), get(name), 2.0 * deviation, name);
        }
        assert_near(&y, get("normalized_actions"), 2.0 * actions, "actions");

        let state = get("proprio_normalized").to_dtype(DType::F32).unwrap();
        let y = proprio.forward(&state.unsqueeze(0).unwrap()).unwrap();
        assert_eq!(y.dtype(), DType::BF16);
        assert_near(&y, get("proprio_embedding"), 2.0 * 0.0031, "proprio");
    }
}
