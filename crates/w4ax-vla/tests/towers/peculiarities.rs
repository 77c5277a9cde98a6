//! Each peculiarity of the towers and the projector, one at a time: the mirror without it is
//! farther from this crate's output than the tolerance.

use crate::mirror::{Fault, Weights, projector, tower};
use crate::support::{References, TOLERANCE, distance, openvla, towers, values};
use candle_core::{DType, Device};
use w4ax_vla::model::{Loader, Projector};

/// The peculiarities with the relative L2 of the features of both towers that each costs.
const FAULTS: [(Fault, f64); 11] = [
    (Fault::TanhGelu, 1.8e-4),
    (Fault::Eps, 2.6e-3),
    (Fault::LastBlock, 6.1e-1),
    (Fault::FinalNorm, 5.1),
    (Fault::NoLayerScale, 1.7e-1),
    (Fault::FirstTokens, 1.1),
    (Fault::NoRegisters, 1e-2),
    (Fault::PositionsOfTokens, 1e-2),
    (Fault::PixelOrder, 9.9e-1),
    (Fault::ColumnMajor, 1.0),
    (Fault::ScaleOfWidth, 3.5e-1),
];

#[test]
fn each_peculiarity_of_the_towers_is_seen() {
    let references = References::read("openvla-tiny");
    let pixels = references.pixels(0);
    let ours = values(&towers(DType::F32).forward(&pixels, &mut |_, _| ()).unwrap());
    let weights = Weights::of_model();
    let pixels = values(&pixels);
    let (dino, siglip) = pixels.split_at(3 * 224 * 224);
    let mirror = |fault| {
        let dino = tower(&weights, "vision_backbone.featurizer", dino, fault); // [256, 64]
        let siglip = tower(&weights, "vision_backbone.fused_featurizer", siglip, fault); // [256, 80]
        let rows = dino.chunks_exact(64).zip(siglip.chunks_exact(80));
        let both: Vec<f64> = rows.flat_map(|(a, b)| [a, b].concat()).collect();
        distance(&both, &ours)
    };
    let exact = mirror(None);
    println!("without a fault: {exact:.1e}");
    assert!(exact <= TOLERANCE, "{exact:e}");
    for (fault, expected) in FAULTS {
        let seen = mirror(Some(fault));
        println!("{fault:?}: {seen:.1e}, expected {expected:.1e}");
        assert!(seen > TOLERANCE, "{fault:?}: {seen:e}");
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
