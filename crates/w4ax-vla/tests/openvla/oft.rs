//! Every stage of OpenVLA-OFT.

use super::fixture::{EXACT, Fixture, distance, load, numbers};
use super::stages::{Seen, run};
use std::path::Path;
use w4ax_vla::model::{Numerics, Observation, Vla};

const STAGES: [&str; 15] = [
    "patch_features",
    "projector_output",
    "proprio_embedding",
    "multimodal_embeddings",
    "llama_layer0_out",
    "llama_layer1_out",
    "llama_layer2_out",
    "llama_layer3_out",
    "llama_final_norm",
    "action_hidden_states",
    "head.layer_norm1",
    "head.relu1",
    "head.block0",
    "head.block1",
    "head.layer_norm2",
];

pub fn observation(fixture: &Fixture, case: usize) -> Observation {
    let json = fixture.case(case);
    let names: Vec<String> = numbers(&json["images"]);
    let images = names.iter().map(|name| fixture.image(name)).collect();
    let mut ids: Vec<u32> = numbers(&json["prompt_ids"]);
    ids.push(29871);
    Observation::new(images, ids).with_proprio(numbers(&json["state"]))
}

#[test]
fn every_stage_matches_the_reference_in_f32() {
    let fixture = Fixture::new("oft-tiny");
    let folder = test_support::oft_folder();
    let mut vla = load(folder.path(), Numerics::F32);
    for case in 0..2 {
        let seen = run(&mut vla, &observation(&fixture, case));
        for stage in STAGES {
            let expected = fixture.tensor(case, stage).unwrap();
            let got = &seen.stages[stage];
            assert_eq!(got.dims(), expected.dims(), "case {case}, {stage}");
            let distance = distance(got, expected);
            println!("case {case}, {stage}: {distance:.1e}");
            assert!(distance <= EXACT, "case {case}, {stage}: {distance}");
        }
        check_actions(&vla, &fixture, case, &seen);
    }
}

fn check_actions(vla: &Vla, fixture: &Fixture, case: usize, seen: &Seen) {
    let actions = vla.unnormalize(&seen.normalized, None).unwrap();
    let expected: Vec<Vec<f64>> = numbers(&fixture.case(case)["actions"]);
    let expected: Vec<f64> = expected.concat();
    assert_eq!(actions.len(), 56);
    for (index, (got, expected)) in actions.iter().zip(&expected).enumerate() {
        let error = (got - expected).abs();
        assert!(
            error <= 5e-5,
            "case {case}, number {index}: {got}, expected {expected}"
        );
    }
    assert!(seen.tokens.is_empty());
}

#[test]
fn bf16_deviates_at_most_twice_as_far_as_the_deployed_model() {
    let fixture = Fixture::new("oft-tiny");
    let folder = test_support::oft_folder();
    let mut vla = load(folder.path(), Numerics::Bf16);
    for case in 0..2 {
        let seen = run(&mut vla, &observation(&fixture, case));
        for (stage, deviation) in fixture.case(case)["bf16_vs_f32"].as_object().unwrap() {
            let Some(got) = seen.stages.get(stage) else {
                continue;
            };
            let distance = distance(got, fixture.tensor(case, stage).unwrap());
            let measured = deviation["rel_l2"].as_f64().unwrap();
            println!("case {case}, {stage}: {distance:.4}, deployed {measured:.4}");
            assert!(
                distance <= 2.0 * measured,
                "case {case}, {stage}: {distance}"
            );
        }
        let expected: Vec<Vec<f64>> = numbers(&fixture.case(case)["normalized_actions"]);
        let expected = expected.concat();
        let (mut error, mut norm) = (0.0, 0.0);
        for (got, expected) in seen.normalized.iter().zip(&expected) {
            error += (got - expected) * (got - expected);
            norm += expected * expected;
        }
        let measured = fixture.case(case)["bf16_vs_f32"]["normalized_actions"]["rel_l2"].as_f64();
        let distance = (error / norm).sqrt();
        println!("case {case}, normalized actions: {distance:.4}, deployed {measured:?}");
        assert!(
            distance <= 2.0 * measured.unwrap(),
            "case {case}: {distance}"
        );
    }
}

/// Without an action head, the 56 positions hold tokens.
#[test]
fn discrete_actions_match_where_the_margin_is_clear() {
    let fixture = Fixture::new("oft-tiny");
    let folder = test_support::oft_folder();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains("action_head") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let mut vla = load_discrete(folder.path());
    for case in 0..2 {
        let seen = run(&mut vla, &observation(&fixture, case));
        let expected = fixture.tensor(case, "discrete_ids").unwrap();
        let expected: Vec<u32> = super::fixture::values(expected)
            .iter()
            .map(|x| *x as u32)
            .collect();
        assert_eq!(seen.tokens, expected, "case {case}");
    }
}

fn load_discrete(folder: &Path) -> Vla {
    let options = w4ax_vla::model::LoadOptions::default()
        .with_numerics(Numerics::F32)
        .with_one_pass(true);
    Vla::load(folder, &options, &mut |_| ()).unwrap()
}
