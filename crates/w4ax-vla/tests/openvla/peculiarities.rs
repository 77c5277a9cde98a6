//! Each peculiarity of the sequence, the decoder and OFT's head, one at a time: the mirror with all
//! of them is within the tolerance of this crate's F32 results, the mirror without one is not.
//!
//! The expected distances are those that a separate implementation measured on the same data.

use super::fixture::{EXACT, Fixture, load, numbers, values};
use super::mirror::{Fault, OftInput, Weights, oft, openvla};
use super::{oft as oft_stages, stages};
use w4ax_vla::action::ActionBins;
use w4ax_vla::model::Numerics;

/// Returns `|a - b| / |b|`.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let difference: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
    (difference / b.iter().map(|b| b * b).sum::<f64>()).sqrt()
}

#[test]
fn each_peculiarity_of_openvla_is_seen() {
    let fixture = Fixture::new("openvla-tiny");
    let mut vla = load(&fixture.folder, Numerics::F32);
    let weights = Weights::of_model();
    for case in 0..3 {
        let seen = stages::run(&mut vla, &stages::observation(&fixture, case));
        let ours = |stage: &str| values(&seen.stages[stage]);
        let patches = values(fixture.tensor(case, "projector_output").unwrap());
        let ids: Vec<u32> = numbers(&fixture.case(case)["input_ids"]);
        let mirror = |fault| openvla(&weights, &patches, &ids, fault);
        let right = mirror(None);
        assert_eq!(right.tokens, seen.tokens, "case {case}");
        let layer0 = distance(&right.layer0, &ours("llama_layer0_out"));
        assert!(layer0 <= EXACT, "case {case}, layer 0: {layer0:e}");
        for (step, logits) in right.logits.iter().enumerate() {
            let distance = distance(logits, &ours(&format!("logits_step{step}")));
            println!("case {case}, logits of step {step}: {distance:.1e}");
            assert!(distance <= EXACT, "case {case}, step {step}: {distance:e}");
        }
        if case > 0 {
            continue;
        }
        let early = distance(
            &mirror(Some(Fault::NormEps)).layer0,
            &ours("llama_layer0_out"),
        );
        check(Fault::NormEps, early, 1.2e-4);
        let faults = [
            (Fault::PatchesFirst, 0, 2.7e-1, 6),
            (Fault::PatchesLast, 0, 1.1, 6),
            (Fault::BidirectionalPrefill, 0, 3.7e-1, 6),
            (Fault::NoLastSpace, 0, 9.3e-1, 6),
            (Fault::DecodePositionsWithoutPatches, 1, EXACT, 5),
            (Fault::InterleavedRope, 0, 6.1e-1, 6),
            (Fault::RoundedFrequencies, 0, 1.8e-2, 0),
        ];
        for (fault, step, expected, changed) in faults {
            let wrong = mirror(Some(fault));
            let logits = ours(&format!("logits_step{step}"));
            check(fault, distance(&wrong.logits[step], &logits), expected);
            let differ = wrong
                .tokens
                .iter()
                .zip(&seen.tokens)
                .filter(|(a, b)| a != b);
            assert_eq!(differ.count(), changed, "{fault:?}: changed tokens");
        }
        // Rotary embeddings are relative: the first position does not matter.
        let shifted = mirror(Some(Fault::PositionsFromOne));
        let distance = distance(&shifted.logits[0], &ours("logits_step0"));
        println!("PositionsFromOne: {distance:.1e}");
        assert!(distance <= EXACT, "{distance:e}");
    }
}

/// Checks that a fault is seen, and that it is at least half as far off as expected.
#[track_caller]
fn check(fault: Fault, distance: f64, expected: f64) {
    println!("{fault:?}: {distance:.1e}, expected {expected:.1e}");
    assert!(distance > EXACT, "{fault:?}: {distance:e}");
    assert!(distance >= 0.5 * expected, "{fault:?}: {distance:e}");
}

#[test]
fn each_peculiarity_of_oft_is_seen() {
    let fixture = Fixture::new("oft-tiny");
    let folder = test_support::oft_folder();
    let mut vla = load(folder.path(), Numerics::F32);
    let (weights, head) = (Weights::of_model(), Weights::of_head());
    for case in 0..2 {
        let ours = stages::run(&mut vla, &oft_stages::observation(&fixture, case)).normalized;
        let mut ids: Vec<u32> = numbers(&fixture.case(case)["prompt_ids"]);
        ids.push(29871);
        let stage = |name| values(fixture.tensor(case, name).unwrap());
        let input = OftInput {
            patches: stage("projector_output"),
            proprio: stage("proprio_embedding"),
            ids,
        };
        let right = oft(&weights, &head, &input, None);
        let errors = right.iter().zip(&ours).map(|(a, b)| (a - b).abs());
        let error = errors.fold(0.0, f64::max);
        println!("case {case}, largest error: {error:.1e}");
        assert!(error <= 5e-5, "case {case}: {error:e}");
        if case > 0 {
            continue;
        }
        for (fault, expected) in [
            (Fault::Causal, 7.9e-1),
            (Fault::WindowAtFirstZero, 4.1e-1),
            (Fault::BeforeFinalNorm, 7.3e-1),
            (Fault::RearrangedRows, 7.2e-1),
            (Fault::EmbeddingOfOne, 1.1),
            (Fault::NoEos, 5.6e-2),
            (Fault::SwappedImages, 6.1e-1),
            (Fault::ProprioBeforePatches, 8.9e-1),
            (Fault::NoProprio, 6.8e-1),
            (Fault::Gelu, 1.1e-1),
        ] {
            let wrong = oft(&weights, &head, &input, Some(fault));
            check(fault, distance(&wrong, &ours), expected);
        }
    }
}

#[test]
fn each_peculiarity_of_the_bins_is_seen() {
    let fixture = Fixture::new("openvla-tiny");
    let bins = ActionBins::new(32000, 256).unwrap();
    let mut tokens: Vec<u32> = numbers(&fixture.case(0)["tokens_f32"]);
    tokens.extend([31744, 31745, 31999, 32000, 100]);
    let ours: Vec<f64> = tokens.iter().map(|token| bins.decode(*token)).collect();
    let edge = |i: i64| -1.0 + 2.0 * i as f64 / 255.0;
    let center = |i: i64| (edge(i) + edge(i + 1)) / 2.0;
    let index = |token: u32| (31999 - i64::from(token)).clamp(0, 254);
    let decode = |of: &dyn Fn(u32) -> f64| tokens.iter().map(|t| of(*t)).collect::<Vec<f64>>();
    let largest = |wrong: Vec<f64>| {
        let errors = wrong.iter().zip(&ours).map(|(a, b)| (a - b).abs());
        errors.fold(0.0, f64::max)
    };
    let right = largest(decode(&|t| center(index(t))));
    assert!(right <= 1e-15, "{right:e}");
    let faults: [(&str, &dyn Fn(u32) -> f64); 3] = [
        ("256 centers", &|t| -1.0 + (2 * index(t) + 1) as f64 / 256.0),
        ("edges", &|t| edge(index(t))),
        ("31744 beyond 31745", &|t| {
            center((31999 - i64::from(t)).clamp(0, 255))
        }),
    ];
    for (fault, wrong) in faults {
        let error = largest(decode(wrong));
        println!("{fault}: {error:.1e}");
        assert!(error > 1e-3, "{fault}: {error:e}");
    }
}
