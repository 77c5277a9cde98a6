//! OpenVLA-OFT's action head and proprio projector in F32.

use crate::mirror::{Weights, action_head, proprio};
use crate::support::{References, TOLERANCE, assert_near, distance, traced, values};
use candle_core::{DType, Device, Tensor};
use test_support::oft_folder;
use w4ax_vla::checkpoint::VlaFolder;
use w4ax_vla::model::{ActionHead, Loader, ProprioProjector};

fn load() -> (ActionHead, ProprioProjector) {
    let copy = oft_folder();
    let folder = VlaFolder::open(copy.path()).unwrap();
    let loader = Loader::new(&folder, &Device::Cpu, DType::F32).unwrap();
    let head = ActionHead::load(&loader).unwrap();
    (head, ProprioProjector::load(&loader).unwrap())
}

#[test]
fn head_matches_the_references_at_each_stage() {
    let references = References::read("oft-tiny");
    let (head, _) = load();
    assert_eq!(head.action_len(), 7);
    for case in 0..2 {
        let get = |name: &str| references.get(&format!("case{case}.{name}"));
        let hidden = get("action_hidden_states");
        let (actions, stages) = traced(|trace| head.forward(hidden, trace).unwrap());
        for name in ["layer_norm1", "relu1", "block0", "block1", "layer_norm2"] {
            let name = format!("head.{name}");
            assert_near(stages.get(&name), get(&name), TOLERANCE, &name);
        }
        assert_near(&actions, get("normalized_actions"), TOLERANCE, "actions");
    }
}

#[test]
fn each_peculiarity_of_the_head_is_seen() {
    let references = References::read("oft-tiny");
    let (head, _) = load();
    let weights = Weights::of_head();
    let hidden = references.get("case0.action_hidden_states");
    let ours = values(&head.forward(hidden, &mut |_, _| ()).unwrap());
    let hidden = values(hidden);
    let mirror = |fault| distance(&ours, &action_head(&weights, &hidden, fault));
    assert!(mirror(None) <= TOLERANCE, "{:e}", mirror(None));
    for fault in ["gelu", "columns", "no residual", "eps 1e-3"] {
        let seen = mirror(Some(fault));
        assert!(seen > TOLERANCE, "{fault}: {seen:e}");
    }
}

#[test]
fn proprio_matches_the_references_with_weights_rounded_to_bf16() {
    let references = References::read("oft-tiny");
    let (_, projector) = load();
    assert_eq!(projector.state_len(), 8);
    let weights = Weights::of_proprio();
    for case in 0..2 {
        let state = references.get(&format!("case{case}.proprio_normalized"));
        let state = state.to_dtype(DType::F32).unwrap().unsqueeze(0).unwrap();
        let y = projector.forward(&state).unwrap();
        let expected = references.get(&format!("case{case}.proprio_embedding"));
        assert_near(&y, expected, TOLERANCE, "proprio");
        let unrounded = distance(&values(&y), &proprio(&weights, &values(&state)));
        assert!((1e-3..4e-3).contains(&unrounded), "{unrounded:e}");
    }
}

#[test]
fn head_rejects_hidden_states_of_another_number() {
    let (head, _) = load();
    let hidden = Tensor::zeros((55, 64), DType::F32, &Device::Cpu).unwrap();
    let error = head.forward(&hidden, &mut |_, _| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "hidden states of the action head is 55x64: expected a multiple of 7 rows of 64"
    );
}
