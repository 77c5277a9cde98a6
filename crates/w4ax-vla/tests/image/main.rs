//! Images against the reference values of the models' own Python code.

mod decode;
mod libero;
mod processor;
mod sizes;

use std::path::PathBuf;

use w4ax_vla::image::RgbImage;

fn data(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(path)
}

fn open(path: &str) -> RgbImage {
    RgbImage::open(data(path)).expect("a fixture")
}

/// Checks that two images have the same size, and returns how many bytes differ and by how much at
/// most.
fn difference(got: &RgbImage, expected: &RgbImage) -> (usize, u8) {
    assert_eq!(
        (got.width(), got.height()),
        (expected.width(), expected.height())
    );
    let pairs = got.data().iter().zip(expected.data());
    pairs.fold((0, 0), |(count, max), (a, b)| {
        (count + usize::from(a != b), max.max(a.abs_diff(*b)))
    })
}

/// An image of reproducible noise.
fn noise(width: usize, height: usize, seed: u32) -> RgbImage {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let data = (0..width * height * 3).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    RgbImage::new(width, height, data.collect()).expect("a valid size")
}
