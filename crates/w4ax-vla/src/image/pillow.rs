//! Resizing as Pillow does it, bit for bit (`Image.resize`, Pillow <= 12.3).
//!
//! # Formulas
//! Per axis, `scale = in / out`, `f = max(scale, 1)`, and `s` is the support of the filter, 2 for
//! bicubic and 1 for bilinear. Output pixel `i` has its center at `c = (i + 0.5) * scale`. Its
//! taps are the input pixels from `trunc(c - s * f + 0.5)` up to `trunc(c + s * f + 0.5)`, clamped
//! to the image. Their weights `filter((j - c + 0.5) / f)` are computed in f64, divided by their
//! sum, and rounded to integers with 22 fractional bits.
//!
//! The horizontal pass comes first. Its result is rounded to 8 bits, and so is that of the vertical
//! pass. Pillow 13.0 starts with the vertical pass for tall images, which changes up to a fifth of
//! the bytes; the models were trained with the order here.

use super::rgb::{RgbImage, check_size};
use crate::Result;

/// Fractional bits of a weight. Sums of products with bytes stay within an i32.
const FRACTION_BITS: u32 = 22;

/// Resizes with the bicubic filter with `a = -0.5`, antialiased where the image shrinks.
///
/// # Errors
/// [`crate::VlaError::Input`] if `width` or `height` is 0.
pub fn resize_bicubic(image: &RgbImage, width: usize, height: usize) -> Result<RgbImage> {
    resize(image, &BICUBIC, width, height)
}

/// Resizes with the triangle filter, antialiased where the image shrinks.
///
/// # Errors
/// [`crate::VlaError::Input`] if `width` or `height` is 0.
pub fn resize_bilinear(image: &RgbImage, width: usize, height: usize) -> Result<RgbImage> {
    resize(image, &BILINEAR, width, height)
}

/// A filter and the distance from its center beyond which it is 0.
pub(super) struct Filter {
    support: f64,
    weight: fn(f64) -> f64,
}

pub(super) const BICUBIC: Filter = Filter {
    support: 2.0,
    weight: cubic,
};

const BILINEAR: Filter = Filter {
    support: 1.0,
    weight: triangle,
};

fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

/// An image with a border of one color. The border takes no memory.
pub(super) struct Canvas<'a> {
    pub image: &'a RgbImage,
    /// Columns of border left of the image.
    pub left: usize,
    /// Rows of border above the image.
    pub top: usize,
    pub width: usize,
    pub height: usize,
    pub fill: [u8; 3],
}

impl<'a> Canvas<'a> {
    pub(super) fn without_border(image: &'a RgbImage) -> Self {
        Self {
            image,
            left: 0,
            top: 0,
            width: image.width(),
            height: image.height(),
            fill: [0; 3],
        }
    }
}

/// A part of the resized image: the only part that is computed.
pub(super) struct Window {
    pub left: usize,
    pub top: usize,
    pub width: usize,
    pub height: usize,
}

fn resize(image: &RgbImage, filter: &Filter, width: usize, height: usize) -> Result<RgbImage> {
    check_size(width, height)?;
    let window = Window {
        left: 0,
        top: 0,
        width,
        height,
    };
    let canvas = Canvas::without_border(image);
    Ok(resample(&canvas, filter, (width, height), &window))
}

/// Resizes a canvas to `size` (width, height) and returns the window of the result.
pub(super) fn resample(
    canvas: &Canvas<'_>,
    filter: &Filter,
    size: (usize, usize),
    window: &Window,
) -> RgbImage {
    let columns = Axis::new(filter, canvas.width, size.0, window.left, window.width);
    let rows = Axis::new(filter, canvas.height, size.1, window.top, window.height);
    let first = rows.taps[0].0;
    let last = rows.taps.iter().map(|&(start, len)| start + len).max();
    let last = last.unwrap_or(first);
    let between = horizontal(canvas, &columns, first, last);
    let data = vertical(&between, &rows, first, window.width * 3);
    RgbImage::from_valid(window.width, window.height, data)
}

/// The taps of some output pixels along one axis.
struct Axis {
    /// First input pixel and number of input pixels, per output pixel.
    taps: Vec<(usize, usize)>,
    /// Weights, [output pixel, `stride`].
    weights: Vec<i32>,
    stride: usize,
}

impl Axis {
    /// The taps of output pixels `start..start + len`, for `input` pixels resized to `output`.
    fn new(filter: &Filter, input: usize, output: usize, start: usize, len: usize) -> Self {
        let scale = input as f64 / output as f64;
        let filter_scale = scale.max(1.0);
        let support = filter.support * filter_scale;
        let inverse = 1.0 / filter_scale;
        let stride = support.ceil() as usize * 2 + 1;
        let mut taps = Vec::with_capacity(len);
        let mut weights = vec![0; len * stride];
        let mut exact = Vec::with_capacity(stride);
        for (i, weights) in (start..start + len).zip(weights.chunks_exact_mut(stride)) {
            let center = (i as f64 + 0.5) * scale;
            // A conversion to usize truncates, and negative values become 0.
            let min = (center - support + 0.5) as usize;
            let max = ((center + support + 0.5) as usize).min(input);
            exact.clear();
            exact.extend((min..max).map(|j| (filter.weight)((j as f64 - center + 0.5) * inverse)));
            let sum: f64 = exact.iter().sum();
            for (quantized, weight) in weights.iter_mut().zip(&exact) {
                *quantized = quantize(if sum == 0.0 { *weight } else { weight / sum });
            }
            taps.push((min, exact.len()));
        }
        Self {
            taps,
            weights,
            stride,
        }
    }

    /// First input pixel and weights of each output pixel.
    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let weights = self.weights.chunks_exact(self.stride);
        self.taps
            .iter()
            .zip(weights)
            .map(|(&(start, len), weights)| (start, &weights[..len]))
    }
}

/// Rounds half away from zero.
fn quantize(weight: f64) -> i32 {
    (weight * f64::from(1 << FRACTION_BITS)).round() as i32
}

fn round_to_byte(sum: i32) -> u8 {
    (sum >> FRACTION_BITS).clamp(0, 255) as u8
}

/// Resizes rows `first..last` of the canvas to the columns, `[last - first, columns, 3]`.
fn horizontal(canvas: &Canvas<'_>, columns: &Axis, first: usize, last: usize) -> Vec<u8> {
    let mut row: Vec<u8> = canvas.fill.repeat(canvas.width);
    let mut border = vec![0; columns.taps.len() * 3];
    if canvas.height > canvas.image.height() {
        resize_row(&row, columns, &mut border);
    }
    let mut out = vec![0; (last - first) * columns.taps.len() * 3];
    for (y, out) in (first..last).zip(out.chunks_exact_mut(border.len())) {
        match y.checked_sub(canvas.top) {
            Some(y) if y < canvas.image.height() => {
                let source = canvas.image.row(y);
                row[canvas.left * 3..][..source.len()].copy_from_slice(source);
                resize_row(&row, columns, out);
            }
            _ => out.copy_from_slice(&border),
        }
    }
    out
}

fn resize_row(row: &[u8], columns: &Axis, out: &mut [u8]) {
    for (out, (start, weights)) in out.chunks_exact_mut(3).zip(columns.iter()) {
        let mut sums = [1 << (FRACTION_BITS - 1); 3];
        for (pixel, weight) in row[start * 3..].chunks_exact(3).zip(weights) {
            for (sum, &sample) in sums.iter_mut().zip(pixel) {
                *sum += weight * i32::from(sample);
            }
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = round_to_byte(sum);
        }
    }
}

/// Resizes `input`, whose first row is row `first` of the canvas, to the rows, `[rows, row_len]`.
fn vertical(input: &[u8], rows: &Axis, first: usize, row_len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.taps.len() * row_len);
    let mut sums = vec![0; row_len];
    for (start, weights) in rows.iter() {
        sums.fill(1 << (FRACTION_BITS - 1));
        let taps = input[(start - first) * row_len..].chunks_exact(row_len);
        for (row, weight) in taps.zip(weights) {
            for (sum, &sample) in sums.iter_mut().zip(row) {
                *sum += weight * i32::from(sample);
            }
        }
        out.extend(sums.iter().map(|&sum| round_to_byte(sum)));
    }
    out
}
