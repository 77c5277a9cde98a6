//! Each peculiarity of the towers and the projector, one at a time: the mirror without it is
//! farther from this crate's output than the tolerance.

use crate::mirror::{Fault, Weights, projector, tower};
use crate::support::{References, TOLERANCE, distance, openvla, towers, traced, values};
use candle_core::{DType, Device};
use w4ax_vla::model::{Loader, Projector};

const FAULTS: [Fault; 11] = [
    Fault::TanhGelu,
    Fault::Eps,
    Fault::LastBlock,
    Fault::FinalNorm,
    Fault::NoLayerScale,
    Fault::FirstTokens,
    Fault::NoRegisters,
    Fault::PositionsOfTokens,
    Fault::PixelOrder,
    Fault::ColumnMajor,
    Fault::ScaleOfWidth,
];

/// The peculiarities that only DINOv2 has.
const OF_DINO: [Fault; 4] = [
    Fault::NoLayerScale,
    Fault::FirstTokens,
    Fault::NoRegisters,
    Fault::PositionsOfTokens,
];

#[test]
fn each_peculiarity_of_the_towers_is_seen() {
    let references = References::read("openvla-tiny");
    let pixels = references.pixels(0);
    let (_, ours) = traced(|trace| towers(DType::F32).forward(&pixels, trace).unwrap());
    let weights = Weights::of_model();
    let pixels = values(&pixels);
    let (first, second) = pixels.split_at(3 * 224 * 224);
    let towers = [
        ("featurizer", first, "dino_patch_features"),
        ("fused_featurizer", second, "siglip_patch_features"),
    ];
    for (module, pixels, features) in towers {
        let ours = values(ours.get(features)); // [256, E]
        let mirror = |fault| {
            let y = tower(
                &weights,
                &format!("vision_backbone.{module}"),
                pixels,
                fault,
            );
            distance(&y, &ours)
        };
        let exact = mirror(None);
        assert!(exact <= TOLERANCE, "{features}: {exact:e}");
        for fault in FAULTS {
            let seen = mirror(Some(fault));
            println!("{features}, {fault:?}: relative L2 {seen:.1e}");
            let has = features.starts_with("dino") || !OF_DINO.contains(&fault);
            assert_eq!(seen > TOLERANCE, has, "{features}, {fault:?}: {seen:e}");
        }
    }
}

#[test]
fn the_gelu_of_the_projector_is_seen() {
    let references = References::read("openvla-tiny");
    let folder = openvla();
    let loader = Loader::new(&folder, &Device::Cpu, DType::F32).unwrap();
    let ours = Projector::load(&loader, 144).unwrap();
    let features = towers(DType::F32)
        .forward(&references.pixels(0), &mut |_, _| ())
        .unwrap();
    let ours = values(&ours.forward(&features).unwrap());
    let (weights, features) = (Weights::of_model(), values(&features));
    let exact = distance(&projector(&weights, &features, false), &ours);
    assert!(exact <= TOLERANCE, "{exact:e}");
    let tanh = distance(&projector(&weights, &features, true), &ours);
    assert!(tanh > TOLERANCE, "{tanh:e}");
}
