//! Every stage of OpenVLA.

use super::fixture::{EXACT, Fixture, distance, load, numbers};
use candle_core::Tensor;
use std::collections::HashMap;
use w4ax::Width;
use w4ax_vla::model::{Numerics, Observation, Probe, Vla};

/// The stages that the reference has, in their order.
const STAGES: [&str; 16] = [
    "pixel_values",
    "dino.patch_embed",
    "dino.block0",
    "dino_patch_features",
    "siglip.patch_embed",
    "siglip.block0",
    "siglip_patch_features",
    "projector_output",
    "multimodal_embeddings",
    "llama_layer0_out",
    "llama_layer1_out",
    "llama_layer2_out",
    "llama_layer3_out",
    "llama_final_norm",
    "k_cache_layer0",
    "v_cache_layer0",
];

/// The values of one step, by stage.
pub struct Seen {
    pub stages: HashMap<String, Tensor>,
    pub tokens: Vec<u32>,
    pub normalized: Vec<f64>,
}

/// Runs the stages of a step and keeps the first value of each.
pub fn run(vla: &mut Vla, observation: &Observation) -> Seen {
    run_at(vla, observation, Width::Bf16)
}

pub fn run_at(vla: &mut Vla, observation: &Observation, width: Width) -> Seen {
    let mut stages = HashMap::new();
    let mut keep = |name: &str, value: &Tensor| {
        stages
            .entry(name.to_owned())
            .or_insert_with(|| value.clone());
    };
    let mut probe = Probe::new(&mut keep);
    let prepared = vla.prepare(observation).unwrap();
    probe.stage("pixel_values", &prepared.pixel_values[0]);
    let features = vla.see(&prepared, &mut probe).unwrap();
    let sequence = vla.sequence(&prepared, &features, &mut probe).unwrap();
    let prefilled = vla
        .prefill(&sequence, prepared.dims, width, None, &mut probe)
        .unwrap();
    if !vla.is_one_pass() {
        let (k, v) = vla.llama().cached(0).unwrap();
        probe.stage("k_cache_layer0", &k.copy().unwrap());
        probe.stage("v_cache_layer0", &v.copy().unwrap());
    }
    let decoded = vla.decode(&prefilled, width, &mut probe).unwrap();
    Seen {
        stages,
        tokens: decoded.tokens,
        normalized: decoded.normalized,
    }
}

pub fn observation(fixture: &Fixture, case: usize) -> Observation {
    let json = fixture.case(case);
    let image = fixture.image(json["image"].as_str().unwrap());
    Observation::new(vec![image], numbers::<Vec<u32>>(&json["input_ids"]))
        .with_unnorm_key("bridge_tiny")
}

#[test]
fn every_stage_matches_the_reference_in_f32() {
    let fixture = Fixture::new("openvla-tiny");
    let mut vla = load(&fixture.folder, Numerics::F32);
    for case in 0..3 {
        let seen = run(&mut vla, &observation(&fixture, case));
        let mut checked = 0;
        for stage in STAGES {
            let Some(expected) = fixture.tensor(case, stage) else {
                continue;
            };
            let got = &seen.stages[stage];
            assert_eq!(got.dims(), expected.dims(), "case {case}, {stage}");
            let distance = distance(got, expected);
            let bound = if stage == "pixel_values" { 0.0 } else { EXACT };
            println!("case {case}, {stage}: {distance:.1e}");
            assert!(distance <= bound, "case {case}, {stage}: {distance}");
            checked += 1;
        }
        assert_eq!(checked, [16, 12, 11][case], "case {case}");
        check_logits(&fixture, case, &seen);
        let json = fixture.case(case);
        assert_eq!(seen.tokens, numbers::<Vec<u32>>(&json["tokens_f32"]));
        assert_eq!(
            seen.normalized,
            numbers::<Vec<f64>>(&json["normalized_actions"])
        );
        for (key, actions) in json["actions"].as_object().unwrap() {
            let got = vla.unnormalize(&seen.normalized, Some(key)).unwrap();
            assert_eq!(got, numbers::<Vec<f64>>(actions), "case {case}, {key}");
        }
    }
}

fn check_logits(fixture: &Fixture, case: usize, seen: &Seen) {
    let last = fixture.tensor(case, "logits_last").unwrap();
    let distance_last = distance(&seen.stages["logits_step0"], last);
    println!("case {case}, logits_last: {distance_last:.1e}");
    assert!(distance_last <= EXACT, "case {case}: {distance_last}");
    let steps = fixture.tensor(case, "step_action_logits").unwrap();
    for step in 0..7 {
        let got = seen.stages[&format!("logits_step{step}")]
            .narrow(0, 31744, 256)
            .unwrap();
        let expected = steps.get(step).unwrap();
        let distance = distance(&got, &expected);
        assert!(distance <= EXACT, "case {case}, step {step}: {distance}");
    }
}

#[test]
fn bf16_deviates_at_most_twice_as_far_as_the_deployed_model() {
    let fixture = Fixture::new("openvla-tiny");
    let mut vla = load(&fixture.folder, Numerics::Bf16);
    for case in 0..3 {
        let seen = run(&mut vla, &observation(&fixture, case));
        let json = fixture.case(case);
        let deviations = json["bf16_vs_f32"].as_object().unwrap();
        assert_eq!(deviations.len(), 10);
        for (stage, deviation) in deviations {
            let expected = fixture.tensor(case, stage).unwrap();
            let name = if stage == "logits_last" {
                "logits_step0"
            } else {
                stage
            };
            let distance = distance(&seen.stages[name], expected);
            let measured = deviation["rel_l2"].as_f64().unwrap();
            println!("case {case}, {stage}: {distance:.4}, deployed {measured:.4}");
            assert!(
                distance <= 2.0 * measured,
                "case {case}, {stage}: {distance}"
            );
            assert!(
                distance > 0.1 * measured,
                "case {case}, {stage}: not BF16, {distance}"
            );
        }
        assert_eq!(seen.tokens, numbers::<Vec<u32>>(&json["tokens_bf16"]));
    }
}

#[test]
fn tokens_match_for_every_image_with_every_instruction() {
    let fixture = Fixture::new("openvla-tiny");
    let mut vla = load(&fixture.folder, Numerics::F32);
    let expected: Vec<Vec<Vec<u32>>> = numbers(&fixture.json["cross_tokens_f32"]);
    for (image, rows) in expected.iter().enumerate() {
        for (text, tokens) in rows.iter().enumerate() {
            let picture = fixture.image(fixture.case(image)["image"].as_str().unwrap());
            let ids: Vec<u32> = numbers(&fixture.case(text)["input_ids"]);
            let observation = Observation::new(vec![picture], ids).with_unnorm_key("bridge_tiny");
            assert_eq!(
                &run(&mut vla, &observation).tokens,
                tokens,
                "{image}, {text}"
            );
        }
    }
}
