//! What remains of an image after JPEG, as TensorFlow 2.15 compresses and decodes it.
//!
//! The encoder of a JPEG file is libjpeg-turbo with quality 95, 4:2:0 chroma and the accurate
//! integer DCT. The decoder is libjpeg-turbo with triangle ("fancy") upsampling and the fast
//! integer DCT. The entropy coder between them is lossless and left out.
//!
//! | step | function |
//! | --- | --- |
//! | RGB to YCbCr, fixed point of 16 bits | [`color::to_ycbcr`] |
//! | chroma: mean of 2x2 pixels | [`sampling::downsample`] |
//! | forward DCT, quantization | [`dct::quantize`] |
//! | dequantization, inverse DCT | [`dct::reconstruct`] |
//! | chroma: triangle filter | [`sampling::upsample`] |
//! | YCbCr to RGB, fixed point of 16 bits | [`color::to_rgb`] |
//!
//! Blocks beyond the edge are filled with the last column and the last row, as the encoder does.

mod color;
mod dct;
mod sampling;

use super::rgb::RgbImage;
use dct::Quantizer;

/// Side of a block in samples.
const BLOCK: usize = 8;

/// One channel of an image.
struct Plane {
    width: usize,
    height: usize,
    /// [height, width]
    data: Vec<u8>,
}

/// Compresses an image as JPEG and decodes it, as `tf.io.encode_jpeg(quality=95)` and
/// `tf.io.decode_image` of TensorFlow 2.15 do, byte for byte.
pub fn jpeg_round_trip(image: &RgbImage) -> RgbImage {
    let (width, height) = (image.width(), image.height());
    let [y, cb, cr] = color::to_ycbcr(image);
    let y = code(&y, width, &Quantizer::luma());
    let quantizer = Quantizer::chroma();
    let [cb, cr] = [cb, cr].map(|full| {
        let coded = code(&sampling::downsample(&full), width.div_ceil(2), &quantizer);
        sampling::upsample(&coded, width, height)
    });
    color::to_rgb(&[y, cb, cr])
}

/// Quantizes and reconstructs a plane block by block, and returns its first `width` columns.
fn code(plane: &Plane, width: usize, quantizer: &Quantizer) -> Plane {
    let height = plane.height;
    let mut data = vec![0; width * height];
    for top in (0..height).step_by(BLOCK) {
        for left in (0..width).step_by(BLOCK) {
            let block = dct::reconstruct(
                &dct::quantize(&load(plane, top, left), quantizer),
                quantizer,
            );
            let columns = BLOCK.min(width - left);
            for (y, row) in (top..height).zip(block.chunks_exact(BLOCK)) {
                data[y * width + left..][..columns].copy_from_slice(&row[..columns]);
            }
        }
    }
    Plane {
        width,
        height,
        data,
    }
}

/// Loads a block, whose part beyond the edge repeats the last column and the last row.
fn load(plane: &Plane, top: usize, left: usize) -> [u8; BLOCK * BLOCK] {
    std::array::from_fn(|i| {
        let y = (top + i / BLOCK).min(plane.height - 1);
        let x = (left + i % BLOCK).min(plane.width - 1);
        plane.data[y * plane.width + x]
    })
}
