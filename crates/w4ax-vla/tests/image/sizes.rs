//! Images of any size: nothing panics, results have the right size and do not vary.

use proptest::prelude::*;
use w4ax_vla::image::libero::{
    LiberoClient, center_crop, jpeg_round_trip, resize_lanczos3, rotate_180,
};
use w4ax_vla::image::{ImageProcessor, Normalization, ResizeStrategy, RgbImage, pillow};

use crate::noise;

const STRATEGIES: [ResizeStrategy; 3] = [
    ResizeStrategy::ResizeNaive,
    ResizeStrategy::Letterbox { fill: [127; 3] },
    ResizeStrategy::ResizeCrop,
];

fn size(image: &RgbImage) -> (usize, usize) {
    (image.width(), image.height())
}

fn check_all(image: &RgbImage) {
    let towers = vec![
        Normalization {
            mean: [0.5; 3],
            std: [0.5; 3],
        };
        2
    ];
    for strategy in STRATEGIES {
        let processor = ImageProcessor::new(224, strategy, towers.clone()).expect("valid");
        let resized = processor.resize(image);
        assert_eq!(size(&resized), (224, 224));
        assert_eq!(processor.resize(image), resized);
        let values = processor.pixel_values(image);
        assert_eq!(values.len(), 6 * 224 * 224);
        assert!(values.iter().all(|x| (-1.0..=1.0).contains(x)));
    }
    let coded = jpeg_round_trip(image);
    assert_eq!(size(&coded), size(image));
    assert_eq!(size(&rotate_180(image)), size(image));
    assert_eq!(size(&center_crop(image)), (224, 224));
    let prepared = LiberoClient::openvla().prepare(image);
    assert_eq!(size(&prepared), (224, 224));
    assert_eq!(LiberoClient::openvla().prepare(image), prepared);
}

#[test]
fn tiny_and_thin_images_are_processed() {
    for (width, height) in [
        (1, 1),
        (1, 500),
        (500, 1),
        (2, 2),
        (3, 5),
        (4, 4),
        (5, 3),
        (223, 225),
        (225, 223),
        (224, 1),
        (1, 2_000),
        (2_000, 1),
    ] {
        check_all(&noise(width, height, 9));
    }
}

#[test]
fn flat_image_stays_flat() {
    for value in [0, 1, 127, 128, 254, 255] {
        for (width, height) in [(1, 1), (7, 300), (301, 17), (640, 480)] {
            let image = RgbImage::new(width, height, vec![value; width * height * 3]);
            let image = image.expect("a valid size");
            let flat = |image: &RgbImage| image.data().iter().all(|&x| x == value);
            assert!(flat(
                &pillow::resize_bicubic(&image, 224, 224).expect("valid")
            ));
            assert!(flat(
                &pillow::resize_bilinear(&image, 224, 224).expect("valid")
            ));
            assert!(flat(&resize_lanczos3(&image, 224, 224).expect("valid")));
            assert!(flat(&jpeg_round_trip(&image)));
            assert!(flat(&center_crop(&image)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_size_is_processed(width in 1usize..300, height in 1usize..300, seed: u32) {
        check_all(&noise(width, height, seed));
    }

    #[test]
    fn any_size_can_be_requested(
        from in (1usize..80, 1usize..80), to in (1usize..80, 1usize..80), seed: u32,
    ) {
        let image = noise(from.0, from.1, seed);
        for resize in [pillow::resize_bicubic, pillow::resize_bilinear, resize_lanczos3] {
            let resized = resize(&image, to.0, to.1).expect("a valid size");
            prop_assert_eq!(size(&resized), to);
        }
        prop_assert_eq!(pillow::resize_bicubic(&image, from.0, from.1).expect("valid"), image);
    }
}
