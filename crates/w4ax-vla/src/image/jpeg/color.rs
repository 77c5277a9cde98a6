//! RGB to YCbCr and back (JFIF 1.02), in the fixed point of libjpeg.

use super::Plane;
use crate::image::rgb::RgbImage;

const FRACTION_BITS: u32 = 16;
const HALF: i32 = 1 << (FRACTION_BITS - 1);
/// The chroma of gray, in fixed point.
const CENTER: i32 = 128 << FRACTION_BITS;

/// Rounds a positive constant to 16 fractional bits.
const fn fixed(x: f64) -> i32 {
    (x * (1 << FRACTION_BITS) as f64 + 0.5) as i32
}

/// Weights of red, green and blue in Y.
const Y: [i32; 3] = [fixed(0.299), fixed(0.587), fixed(0.114)];
const CB: [i32; 3] = [-fixed(0.16874), -fixed(0.33126), fixed(0.5)];
const CR: [i32; 3] = [fixed(0.5), -fixed(0.41869), -fixed(0.08131)];

const CR_TO_RED: i32 = fixed(1.402);
const CR_TO_GREEN: i32 = -fixed(0.71414);
const CB_TO_GREEN: i32 = -fixed(0.34414);
const CB_TO_BLUE: i32 = fixed(1.772);

/// Converts to planes of Y, Cb and Cr.
pub(super) fn to_ycbcr(image: &RgbImage) -> [Plane; 3] {
    // Ties of chroma go down, so that it cannot reach 256.
    const CHROMA_BIAS: i32 = CENTER + HALF - 1;
    [(Y, HALF), (CB, CHROMA_BIAS), (CR, CHROMA_BIAS)].map(|(weights, bias)| Plane {
        width: image.width(),
        height: image.height(),
        data: image
            .data()
            .chunks_exact(3)
            .map(|pixel| {
                let products = weights.iter().zip(pixel).map(|(w, &x)| w * i32::from(x));
                ((products.sum::<i32>() + bias) >> FRACTION_BITS) as u8
            })
            .collect(),
    })
}

/// Converts planes of Y, Cb and Cr of the same size.
pub(super) fn to_rgb(planes: &[Plane; 3]) -> RgbImage {
    let [y, cb, cr] = planes;
    let chroma = cb.data.iter().zip(&cr.data);
    let data = y.data.iter().zip(chroma).flat_map(|(&y, (&cb, &cr))| {
        let (cb, cr) = (i32::from(cb) - 128, i32::from(cr) - 128);
        let differences = [
            CR_TO_RED * cr,
            CB_TO_GREEN * cb + CR_TO_GREEN * cr,
            CB_TO_BLUE * cb,
        ];
        differences.map(|d| (i32::from(y) + ((d + HALF) >> FRACTION_BITS)).clamp(0, 255) as u8)
    });
    RgbImage::from_valid(y.width, y.height, data.collect())
}
