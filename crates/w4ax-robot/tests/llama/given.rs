//! The weights of a decoder layer in a packed file, as `w4ax llama-block` finds them.

use w4ax::{Grouping, KOrder, PackedFile};

use test_support::{normal_weight, rng};
use w4ax_robot::llama::layer::Sizes;
use w4ax_robot::llama::weights;

const SIZES: Sizes = Sizes {
    hidden: 64,
    intermediate: 96,
    heads: 2,
    max_tokens: 8,
};

/// OpenVLA's names, two layers whose numbers begin alike, and one projection in another order of k.
#[test]
fn finds_the_weights_of_a_layer_by_name() {
    let rng = &mut rng(11);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("packed.safetensors");
    let mut file = PackedFile::default();
    for layer in [1, 11] {
        for (name, n, k) in SIZES.projections() {
            let weight = normal_weight(rng, (n, k), Grouping::G32);
            let name = format!("language_model.model.layers.{layer}.{name}");
            if name.ends_with("q_proj") {
                let order = KOrder::new((0..k as u32).rev().collect()).unwrap();
                file.weights.insert(name, weight.with_order(order).unwrap());
            } else {
                file.weights.insert(name, weight);
            }
        }
    }
    file.save(&path).unwrap();
    let found = weights::of_file(&path, 1, &SIZES).unwrap();
    for (weight, (name, ..)) in found.iter().zip(SIZES.projections()) {
        let name = format!("language_model.model.layers.1.{name}");
        assert_eq!(weight, &file.weights[&name]);
    }
    assert_eq!(found.len(), 7);
    let fails = |layer, sizes: &Sizes, expected: &str| {
        let error = weights::of_file(&path, layer, sizes).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    fails(2, &SIZES, "0 weights are named `layers.2.self_attn.q_proj`");
    let wide = Sizes {
        intermediate: 128,
        ..SIZES
    };
    fails(1, &wide, "gate_proj: expected [128, 64], got [96, 64]");
    // Two models in one file are ambiguous.
    let name = "language_model.model.layers.1.self_attn.q_proj";
    let weight = file.weights[name].clone();
    let other = name.replace("language_model", "draft_model");
    file.weights.insert(other, weight);
    file.save(&path).unwrap();
    fails(1, &SIZES, "2 weights are named `layers.1.self_attn.q_proj`");
}
