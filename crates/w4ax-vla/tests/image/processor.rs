//! Resizing and normalization.

use safetensors::SafeTensors;
use w4ax_vla::VlaError;
use w4ax_vla::image::{ImageProcessor, Normalization, ResizeStrategy, RgbImage, pillow};

use crate::{data, difference, noise, open};

const IMAGES: [&str; 3] = ["img0_640x480", "img1_300x400", "img2_224x224"];

/// `tvf_normalize_params` of the fixture, which are those of the released models.
fn towers() -> Vec<Normalization> {
    vec![
        Normalization {
            mean: [0.484375, 0.455078125, 0.40625].map(|x: f64| x as f32),
            std: [0.228515625, 0.2236328125, 0.224609375].map(|x: f64| x as f32),
        },
        Normalization {
            mean: [0.5; 3],
            std: [0.5; 3],
        },
    ]
}

fn processor(strategy: ResizeStrategy) -> ImageProcessor {
    ImageProcessor::new(224, strategy, towers()).expect("valid parameters")
}

struct Reference(Vec<u8>);

impl Reference {
    fn open() -> Self {
        let path = data("openvla-tiny/reference.safetensors");
        Self(std::fs::read(path).expect("a fixture"))
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        let tensors = SafeTensors::deserialize(&self.0).expect("a fixture");
        tensors.tensor(name).expect("a tensor").data().to_vec()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let bytes = self.bytes(name);
        let chunks = bytes.chunks_exact(4);
        chunks
            .map(|b| f32::from_le_bytes(b.try_into().expect("4 bytes")))
            .collect()
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn resizes_as_pillow_does() {
    let reference = Reference::open();
    for (case, name) in IMAGES.iter().enumerate() {
        let image = open(&format!("openvla-tiny/images/{name}.png"));
        let expected = reference.bytes(&format!("case{case}.resized_u8"));
        let expected = RgbImage::new(224, 224, expected).expect("a valid size");
        let got = processor(ResizeStrategy::ResizeNaive).resize(&image);
        assert_eq!(difference(&got, &expected), (0, 0), "{name}");
        let got = pillow::resize_bicubic(&image, 224, 224).expect("a valid size");
        assert_eq!(difference(&got, &expected), (0, 0), "{name}");
    }
}

#[test]
fn pixel_values_equal_the_reference_bit_for_bit() {
    let reference = Reference::open();
    let processor = processor(ResizeStrategy::ResizeNaive);
    let table = reference.floats("pixel_lut");
    assert_eq!(bits(processor.pixel_table().as_flattened()), bits(&table));
    for (case, name) in IMAGES.iter().enumerate() {
        let image = open(&format!("openvla-tiny/images/{name}.png"));
        let expected = match case {
            // The reference has the table instead.
            2 => (0..6)
                .flat_map(|channel| {
                    let row = &table[channel * 256..][..256];
                    let samples = image.data().iter().skip(channel % 3).step_by(3);
                    samples.map(|&x| row[usize::from(x)])
                })
                .collect(),
            _ => reference.floats(&format!("case{case}.pixel_values")),
        };
        let got = processor.pixel_values(&image);
        assert_eq!(got.len(), 6 * 224 * 224);
        assert!(bits(&got) == bits(&expected), "{name}");
    }
}

#[test]
fn other_strategies_resize_as_the_prismatic_processor_does() {
    let letterbox = ResizeStrategy::Letterbox { fill: [127; 3] };
    for (name, strategy) in [
        ("letterbox", letterbox),
        ("resize-crop", ResizeStrategy::ResizeCrop),
    ] {
        for image in &IMAGES[..2] {
            let path = format!("openvla-tiny/images/other_strategies/{image}_{name}.png");
            let input = open(&format!("openvla-tiny/images/{image}.png"));
            let got = processor(strategy).resize(&input);
            assert_eq!(difference(&got, &open(&path)), (0, 0), "{path}");
        }
    }
}

#[test]
fn image_of_the_right_size_is_kept_by_each_strategy() {
    let image = noise(224, 224, 3);
    for strategy in [
        ResizeStrategy::ResizeNaive,
        ResizeStrategy::Letterbox { fill: [127; 3] },
        ResizeStrategy::ResizeCrop,
    ] {
        assert_eq!(processor(strategy).resize(&image), image, "{strategy:?}");
    }
}

#[test]
fn letterbox_equals_resizing_a_padded_image() {
    for (width, height, side) in [(10, 300, 300), (500, 20, 500), (224, 223, 223)] {
        let image = noise(width, height, 4);
        let fill = [123, 116, 103];
        let (left, top) = (
            (side.max(width) - width) / 2,
            (side.max(height) - height) / 2,
        );
        let (padded_width, padded_height) = (width + 2 * left, height + 2 * top);
        let mut data = fill.repeat(padded_width * padded_height);
        for y in 0..height {
            let row = &image.data()[y * width * 3..][..width * 3];
            data[((y + top) * padded_width + left) * 3..][..row.len()].copy_from_slice(row);
        }
        let padded = RgbImage::new(padded_width, padded_height, data).expect("a valid size");
        let got = processor(ResizeStrategy::Letterbox { fill }).resize(&image);
        let expected = processor(ResizeStrategy::ResizeCrop).resize(&padded);
        assert_eq!(difference(&got, &expected), (0, 0), "{width}x{height}");
    }
}

#[test]
fn resize_crop_equals_cropping_the_resized_image() {
    // The offsets are 56.5 and 57.5: a half goes to the even neighbor.
    for (width, resized_width, left) in [(301, 337, 56), (303, 339, 58)] {
        let image = noise(width, 200, 5);
        let whole = pillow::resize_bicubic(&image, resized_width, 224).expect("a valid size");
        let rows = whole.data().chunks_exact(resized_width * 3);
        let expected: Vec<u8> = rows
            .flat_map(|row| &row[left * 3..(left + 224) * 3])
            .copied()
            .collect();
        let got = processor(ResizeStrategy::ResizeCrop).resize(&image);
        assert_eq!(got.data(), expected, "{width}");
    }
}

#[test]
fn bilinear_matches_hand_computed_values() {
    let pixel = |x: u8| [x; 3];
    let image = |xs: &[u8]| {
        let data = xs.iter().flat_map(|&x| pixel(x)).collect();
        RgbImage::new(xs.len(), 1, data).expect("a valid size")
    };
    let grays = |image: RgbImage| -> Vec<u8> { image.data().iter().step_by(3).copied().collect() };
    // Enlarging: weights 3/4 and 1/4.
    let got = pillow::resize_bilinear(&image(&[0, 100]), 4, 1).expect("a valid size");
    assert_eq!(grays(got), [0, 25, 75, 100]);
    // Shrinking by 2: weights 1/4, 3/4, 3/4, 1/4, of which one is beyond the edge.
    let got = pillow::resize_bilinear(&image(&[0, 80, 160, 240]), 2, 1).expect("a valid size");
    assert_eq!(grays(got), [57, 183]);
}

#[test]
fn rejects_invalid_parameters() {
    let strategy = ResizeStrategy::ResizeNaive;
    let with = |mean: f32, std: f32| {
        let (mean, std) = ([mean, 0.5, 0.5], [0.5, std, 0.5]);
        ImageProcessor::new(224, strategy, vec![Normalization { mean, std }])
    };
    assert!(with(0.5, 0.5).is_ok());
    for (result, message) in [
        (with(f32::NAN, 0.5), "normalization of a vision tower"),
        (with(0.5, 0.0), "normalization of a vision tower"),
        (with(0.5, f32::INFINITY), "normalization of a vision tower"),
        (
            ImageProcessor::new(224, strategy, vec![]),
            "number of vision towers is 0",
        ),
        (
            ImageProcessor::new(0, strategy, towers()),
            "size of an image is 0x0",
        ),
    ] {
        let error = result.expect_err("an invalid parameter");
        assert!(matches!(error, VlaError::Input { .. }));
        assert!(error.to_string().contains(message), "{error}");
    }
    let image = noise(2, 2, 6);
    assert!(pillow::resize_bicubic(&image, 0, 3).is_err());
    assert!(pillow::resize_bilinear(&image, 3, 0).is_err());
}
