//! Resizing as `tf.image.resize(method="lanczos3", antialias=True)` of TensorFlow does it.
//!
//! Weights and sums are f32 in TensorFlow's order of operations, and the vertical pass comes first.
//! Values between the passes are f32, not bytes.

use super::rgb::{RgbImage, check_size};
use crate::Result;

const RADIUS: f32 = 3.0;

/// Resizes with the Lanczos filter of radius 3, antialiased where the image shrinks, and rounds
/// half to even.
///
/// Per axis, with `f = max(in / out, 1)` and a center `c = (i + 0.5) * in / out`, the taps of
/// output pixel `i` are the input pixels from `ceil(c - 3f - 0.5)` to `floor(c + 3f - 0.5)`,
/// clamped to the image. Their weights are
/// `3 sin(pi t) sin(pi t / 3) / (pi t)^2` with `t = |c - (j + 0.5)| / f`, divided by their sum.
///
/// # Errors
/// [`crate::VlaError::Input`] if `width` or `height` is 0.
pub fn resize_lanczos3(image: &RgbImage, width: usize, height: usize) -> Result<RgbImage> {
    check_size(width, height)?;
    Ok(resize_to(image, width, height))
}

/// [`resize_lanczos3`] to sides that are not 0.
pub(super) fn resize_to(image: &RgbImage, width: usize, height: usize) -> RgbImage {
    let rows = spans(image.height(), height);
    let columns = spans(image.width(), width);
    let mut out = Vec::with_capacity(width * height * 3);
    let mut between = vec![0f32; image.width() * 3];
    for row in &rows {
        between.fill(0.0);
        for (y, &weight) in (row.start..).zip(&row.weights) {
            for (sum, &sample) in between.iter_mut().zip(image.row(y)) {
                *sum += weight * f32::from(sample);
            }
        }
        for column in &columns {
            let mut sums = [0f32; 3];
            let pixels = between[column.start * 3..].chunks_exact(3);
            for (pixel, weight) in pixels.zip(&column.weights) {
                for (sum, sample) in sums.iter_mut().zip(pixel) {
                    *sum += weight * sample;
                }
            }
            out.extend(sums.map(|sum| sum.round_ties_even().clamp(0.0, 255.0) as u8));
        }
    }
    RgbImage::from_valid(width, height, out)
}

/// The taps of one output pixel along one axis.
struct Span {
    /// First input pixel.
    start: usize,
    weights: Vec<f32>,
}

fn spans(input: usize, output: usize) -> Vec<Span> {
    let scale = output as f32 / input as f32;
    let inverse = 1.0 / scale;
    let kernel_scale = inverse.max(1.0);
    let reach = RADIUS * kernel_scale;
    let last = input - 1;
    (0..output)
        .map(|i| {
            let center = (i as f32 + 0.5) * inverse;
            // A conversion to usize truncates, and negative values become 0.
            let start = ((center - reach - 0.5).ceil() as usize).min(last);
            let end = ((center + reach - 0.5).floor() as usize).min(last);
            let mut weights: Vec<f32> = (start..=end)
                .map(|j| lanczos3((j as f32 + 0.5 - center) * (1.0 / kernel_scale)))
                .collect();
            let inverse_sum = 1.0 / weights.iter().sum::<f32>();
            weights.iter_mut().for_each(|w| *w *= inverse_sum);
            Span { start, weights }
        })
        .collect()
}

fn lanczos3(x: f32) -> f32 {
    use std::f32::consts::PI;
    let x = x.abs();
    if x > RADIUS {
        0.0
    } else if x <= 1e-3 {
        1.0
    } else {
        RADIUS * sin(PI * x) * sin(PI * x / RADIUS) / (PI * PI * x * x)
    }
}

/// The sine, computed in f64 so that platforms do not differ in its last bit.
fn sin(x: f32) -> f32 {
    f64::from(x).sin() as f32
}
