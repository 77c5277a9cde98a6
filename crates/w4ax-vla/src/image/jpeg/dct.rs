//! The DCTs of libjpeg on blocks of 8x8 samples, and the quantization between them.
//!
//! The forward DCT is the accurate integer one: Loeffler, Ligtenberg and Moschytz, "Practical Fast
//! 1-D DCT Algorithms with 11 Multiplications" (ICASSP 1989), with constants of 13 fractional bits.
//! Its products are exact until they are summed, so that it is written as a matrix here.
//!
//! The inverse DCT is the fast integer one: Arai, Agui and Nakajima (Trans. IEICE E-71, 1988), with
//! constants of 8 fractional bits and products that are truncated one by one. The order of its
//! operations is part of its result. Samples of a block of natural content stay far within 16 bits,
//! in which libjpeg-turbo computes.

use super::BLOCK;

type Block<T> = [T; BLOCK * BLOCK];

/// The quantization tables of ITU-T T.81, tables K.1 and K.2, row by row.
#[rustfmt::skip]
const LUMA: Block<u16> = [
    16, 11, 10, 16,  24,  40,  51,  61,
    12, 12, 14, 19,  26,  58,  60,  55,
    14, 13, 16, 24,  40,  57,  69,  56,
    14, 17, 22, 29,  51,  87,  80,  62,
    18, 22, 37, 56,  68, 109, 103,  77,
    24, 35, 55, 64,  81, 104, 113,  92,
    49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103,  99,
];

#[rustfmt::skip]
const CHROMA: Block<u16> = [
    17, 18, 24, 47, 99, 99, 99, 99,
    18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99,
];

/// Percent of the tables at quality 95: `200 - 2 * quality`.
const TABLE_PERCENT: u16 = 10;

/// What the fast inverse DCT leaves to the dequantization, per row and per column:
/// `sqrt(2) * cos(k * pi / 16)`, and 1 for k = 0.
const INVERSE_SCALE: [f64; BLOCK] = [
    1.0,
    1.387039845,
    1.306562965,
    1.175875602,
    1.0,
    0.785694958,
    0.541196100,
    0.275899379,
];

/// The steps of the quantization of a plane.
pub(super) struct Quantizer {
    steps: Block<i32>,
    /// Steps times the scale of the inverse DCT, with 2 fractional bits.
    multipliers: Block<i32>,
}

impl Quantizer {
    pub(super) fn luma() -> Self {
        Self::new(&LUMA)
    }

    pub(super) fn chroma() -> Self {
        Self::new(&CHROMA)
    }

    fn new(table: &Block<u16>) -> Self {
        let steps = table.map(|q| i32::from((q * TABLE_PERCENT + 50) / 100).max(1));
        let multipliers = std::array::from_fn(|i| {
            let scale = INVERSE_SCALE[i / BLOCK] * INVERSE_SCALE[i % BLOCK];
            // The scale has 14 fractional bits, and the multiplier 2.
            descale(steps[i] * (scale * 16384.0).round() as i32, 12)
        });
        Self { steps, multipliers }
    }
}

/// Shifts right, rounding half up.
fn descale(x: i32, bits: u32) -> i32 {
    (x + (1 << (bits - 1))) >> bits
}

/// Applies `f` to each row of a block and then to each column.
fn separable(
    block: &Block<i32>,
    rows_first: bool,
    passes: [impl Fn([i32; BLOCK]) -> [i32; BLOCK]; 2],
) -> Block<i32> {
    let mut block = *block;
    for (pass, f) in passes.iter().enumerate() {
        let rows = rows_first == (pass == 0);
        let (line, step) = if rows { (BLOCK, 1) } else { (1, BLOCK) };
        for i in 0..BLOCK {
            let out = f(std::array::from_fn(|k| block[i * line + k * step]));
            for (k, x) in out.into_iter().enumerate() {
                block[i * line + k * step] = x;
            }
        }
    }
    block
}

/// Returns the quantized coefficients of a block, row by row.
pub(super) fn quantize(samples: &Block<u8>, quantizer: &Quantizer) -> Block<i32> {
    let centered = samples.map(|x| i32::from(x) - 128);
    // Between the passes are 2 fractional bits. The result is 8 times the coefficients.
    let first = |x| forward(x, |even| even << 2, 13 - 2);
    let second = |x| forward(x, |even| descale(even, 2), 13 + 2);
    let mut block = separable(&centered, true, [&first as &dyn Fn(_) -> _, &second]);
    for (x, step) in block.iter_mut().zip(quantizer.steps) {
        let divisor = step * BLOCK as i32;
        *x = x.signum() * ((x.abs() + divisor / 2) / divisor);
    }
    block
}

/// The forward DCT of 8 samples, scaled by sqrt(8). `even` scales outputs 0 and 4, which need no
/// multiplication; the others are shifted right by `shift`.
fn forward(x: [i32; BLOCK], even: impl Fn(i32) -> i32, shift: u32) -> [i32; BLOCK] {
    let sum: [i32; 4] = std::array::from_fn(|i| x[i] + x[7 - i]);
    let [d0, d1, d2, d3]: [i32; 4] = std::array::from_fn(|i| x[i] - x[7 - i]);
    let (outer, inner) = (sum[0] + sum[3], sum[1] + sum[2]);
    let (e0, e1) = (sum[0] - sum[3], sum[1] - sum[2]);
    let odd = |a, b, c, d| descale(a * d0 + b * d1 + c * d2 + d * d3, shift);
    // The entries are near sqrt(2) * cos(k * pi / 16) * 2^13. Those of equal k differ by one
    // because each is a sum of the rounded constants of the paper's figure 8.
    [
        even(outer + inner),
        odd(11363, 9633, 6437, 2260),
        descale(10703 * e0 + 4433 * e1, shift),
        odd(9633, -2259, -11362, -6436),
        even(outer - inner),
        odd(6437, -11362, 2261, 9633),
        descale(4433 * e0 - 10704 * e1, shift),
        odd(2260, -6436, 9633, -11363),
    ]
}

/// Returns the samples of a block of quantized coefficients.
pub(super) fn reconstruct(block: &Block<i32>, quantizer: &Quantizer) -> Block<u8> {
    let scaled = std::array::from_fn(|i| block[i] * quantizer.multipliers[i]);
    let samples = separable(&scaled, false, [inverse, inverse]);
    // 2 fractional bits, and a factor of 8 of the two passes.
    samples.map(|x| ((x >> 5) + 128).clamp(0, 255) as u8)
}

/// Multiplies by a constant of 8 fractional bits, and truncates.
fn multiply(x: i32, constant: i32) -> i32 {
    (x * constant) >> 8
}

/// The inverse DCT of 8 coefficients that are scaled by [`INVERSE_SCALE`].
fn inverse(x: [i32; BLOCK]) -> [i32; BLOCK] {
    const SQRT_2: i32 = 362; // 2 cos(4 pi / 16)
    const C2: i32 = 473; // 2 cos(2 pi / 16)
    const C2_MINUS_C6: i32 = 277; // 2 cos(2 pi / 16) - 2 cos(6 pi / 16)
    const C2_PLUS_C6: i32 = 669; // 2 cos(2 pi / 16) + 2 cos(6 pi / 16)

    let (a0, a1) = (x[0] + x[4], x[0] - x[4]);
    let b0 = x[2] + x[6];
    let b1 = multiply(x[2] - x[6], SQRT_2) - b0;
    let even = [a0 + b0, a1 + b1, a1 - b1, a0 - b0];

    let (p, q) = (x[5] + x[3], x[5] - x[3]);
    let (r, s) = (x[1] + x[7], x[1] - x[7]);
    let rotated = multiply(q + s, C2);
    let o0 = r + p;
    let o1 = multiply(q, -C2_PLUS_C6) + rotated - o0;
    let o2 = multiply(r - p, SQRT_2) - o1;
    let o3 = multiply(s, C2_MINUS_C6) - rotated + o2;
    let odd = [o0, o1, o2, -o3];

    std::array::from_fn(|i| {
        if i < 4 {
            even[i] + odd[i]
        } else {
            even[7 - i] - odd[7 - i]
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_tables_to_quality_95() {
        let luma = Quantizer::luma();
        assert_eq!(luma.steps[..8], [2, 1, 1, 2, 2, 4, 5, 6]);
        assert_eq!(luma.steps[56..], [7, 9, 10, 10, 11, 10, 10, 10]);
        assert_eq!(Quantizer::chroma().steps[..8], [2, 2, 2, 5, 10, 10, 10, 10]);
    }

    #[test]
    fn flat_block_keeps_its_value() {
        for value in [0, 1, 127, 128, 200, 255] {
            let quantizer = Quantizer::luma();
            let coefficients = quantize(&[value; 64], &quantizer);
            assert!(coefficients[1..].iter().all(|&x| x == 0));
            assert_eq!(reconstruct(&coefficients, &quantizer), [value; 64]);
        }
    }
}
