//! Each stage in F32.

use crate::support::{References, TOLERANCE, assert_near, openvla, towers, traced};
use candle_core::{DType, Device, Tensor};
use test_support::vla_data;
use w4ax_vla::model::{Loader, Projector};

fn projector(dtype: DType) -> Projector {
    let folder = openvla();
    let loader = Loader::new(&folder, &Device::Cpu, dtype).unwrap();
    Projector::load(&loader, 144).unwrap()
}

#[test]
fn towers_match_the_references_at_each_stage() {
    let references = References::read("openvla-tiny");
    let towers = towers(DType::F32);
    assert_eq!(towers.features(), 144);
    for case in 0..3 {
        let pixels = references.pixels(case);
        let (features, stages) = traced(|trace| towers.forward(&pixels, trace).unwrap());
        let mut names = vec!["dino_patch_features", "siglip_patch_features"];
        if case == 0 {
            names.extend(["dino.patch_embed", "siglip.patch_embed"]);
            names.extend(["dino.block0", "siglip.block0"]);
        }
        for name in names {
            let what = format!("case{case}.{name}");
            assert_near(stages.get(name), references.get(&what), TOLERANCE, &what);
        }
        let dino = references.get(&format!("case{case}.dino_patch_features"));
        let siglip = references.get(&format!("case{case}.siglip_patch_features"));
        let both = Tensor::cat(&[dino, siglip], 1).unwrap();
        assert_near(&features, &both, TOLERANCE, "both towers");
    }
}

#[test]
fn projector_matches_the_references() {
    let references = References::read("openvla-tiny");
    let (towers, projector) = (towers(DType::F32), projector(DType::F32));
    assert_eq!(projector.hidden(), 64);
    for case in 0..3 {
        let expected = references.get(&format!("case{case}.projector_output"));
        let dino = references.get(&format!("case{case}.dino_patch_features"));
        let siglip = references.get(&format!("case{case}.siglip_patch_features"));
        let both = Tensor::cat(&[dino, siglip], 1).unwrap();
        let y = projector.forward(&both).unwrap();
        assert_near(&y, expected, TOLERANCE, "projector");

        let pixels = references.pixels(case);
        let features = towers.forward(&pixels, &mut |_, _| ()).unwrap();
        let y = projector.forward(&features).unwrap();
        assert_near(&y, expected, TOLERANCE, "pixels to projector");
    }
}

#[test]
fn features_of_two_images_match_the_references() {
    let (openvla, oft) = (
        References::read("openvla-tiny"),
        References::read("oft-tiny"),
    );
    let (towers, projector) = (towers(DType::F32), projector(DType::F32));
    for case in 0..2 {
        let images = ["agentview", "wrist"].map(|camera| {
            let file = format!("oft-tiny/images/oft{case}_{camera}_4crop224.png");
            let image = image::open(vla_data().join(file)).unwrap().to_rgb8();
            let pixels = openvla.pixels_of(image.as_raw());
            towers.forward(&pixels, &mut |_, _| ()).unwrap()
        });
        let features = Tensor::cat(&images, 0).unwrap(); // [512, 144]
        let expected = oft.get(&format!("case{case}.patch_features"));
        assert_near(&features, expected, TOLERANCE, "features of two images");
        let y = projector.forward(&features).unwrap();
        let expected = oft.get(&format!("case{case}.projector_output"));
        assert_near(&y, expected, TOLERANCE, "projector of two images");
    }
}

#[test]
fn rejects_an_image_of_another_size() {
    let towers = towers(DType::F32);
    let image = |dims| Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap();
    for (dims, text) in [
        (
            (6, 224, 210),
            "image of a vision tower is 3x224x210: expected 3 channels and 256",
        ),
        (
            (6, 224, 225),
            "image of a vision tower is 3x224x225: expected 3 channels and 256",
        ),
        (
            (3, 224, 224),
            "pixel values of an image is [3, 224, 224]: expected [6, height, width]",
        ),
    ] {
        let error = towers.forward(&image(dims), &mut |_, _| ()).unwrap_err();
        assert!(error.to_string().starts_with(text), "{error}");
    }
}
