//! The activations of a chunk of tokens as the kernels read them, made once a call.
//!
//! Words of four bytes: four codes, two BF16 or one f32 of neighboring k (for codes: neighboring by
//! `activation_position`). Two orders:
//! - **strips**, for panels: `[panel of k][strip of tokens][word][token of the strip]`; what one panel meets is contiguous.
//! - **stream**, for a few tokens: `[tile of k][token][even or odd quads][lane t][word r]`, each quad twice, for it meets the
//!   words of rows g and g + 8: a vector of a tile and its vector of codes go together lane by lane.

use super::microkernel::{STREAM_WORDS, Token};
use super::partition::share;
use super::workspace::PANEL_K;
use crate::Grouping;
use crate::numerics::{Grid, widen};
use crate::weights::layout::TILE_K;
use half::bf16;
use std::ops::Range;

/// What a word holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Four codes.
    Codes { qmax: u8 },
    /// Two BF16, the first k in the high half.
    Pairs,
    /// One f32.
    Floats,
}

impl Form {
    pub const fn k_per_word(self) -> usize {
        match self {
            Self::Codes { .. } => 4,
            Self::Pairs => 2,
            Self::Floats => 1,
        }
    }
}

/// Where the strips of a chunk lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub form: Form,
    pub grouping: Grouping,
    pub k: usize,
    pub tokens: usize,
    /// How many strips, of nearly equal size.
    pub strips: usize,
}

impl Layout {
    /// For `tokens` tokens in strips of at most `strip`.
    pub fn new(form: Form, grouping: Grouping, k: usize, tokens: usize, strip: usize) -> Self {
        Self {
            form,
            grouping,
            k,
            tokens,
            strips: tokens.div_ceil(strip),
        }
    }

    pub fn k_padded(&self) -> usize {
        self.k.next_multiple_of(TILE_K)
    }

    /// k of a panel: a group, or a part of a large one.
    pub fn panel_k(&self) -> usize {
        let most = match self.form {
            // So few products wait for one another: a short panel is unpacked while the one before is multiplied.
            Form::Pairs | Form::Floats if self.tokens <= 4 => 32,
            _ => PANEL_K,
        };
        self.grouping.size().map_or(most, |g| g.min(most))
    }

    /// The tokens of a strip.
    pub fn strip(&self, strip: usize) -> Range<usize> {
        share(self.tokens, self.strips, strip)
    }

    /// The words of these k (a panel's) and tokens (a strip's).
    #[inline(always)]
    pub fn words(&self, k: Range<usize>, tokens: Range<usize>) -> Range<usize> {
        let per_word = self.form.k_per_word();
        let words = k.len() / per_word;
        let start = k.start / per_word * self.tokens + tokens.start * words;
        start..start + words * tokens.len()
    }

    /// The padded k of a group.
    #[inline(always)]
    pub fn group_k(&self, group: usize) -> Range<usize> {
        let end = self.k_padded();
        match self.grouping.size() {
            Some(size) => group * size..((group + 1) * size).min(end),
            None => 0..end,
        }
    }

    /// The panels of a group.
    #[inline(always)]
    pub fn panels(&self, group: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let (k, panel) = (self.group_k(group), self.panel_k());
        k.clone()
            .step_by(panel)
            .map(move |k0| k0..k.end.min(k0 + panel))
    }
}

/// One strip of a chunk: `words(range)` and `groups(range)` give its places to write, ranges as [`Layout::words`] has them
/// and `[group][token]`. False if the form cannot hold a token exactly ([`factor`]).
#[inline(always)]
pub(super) fn strip<'x, 'w>(
    layout: &Layout,
    tokens: Range<usize>,
    row: impl Fn(usize) -> &'x [bf16],
    words: impl Fn(Range<usize>) -> &'w mut [u32],
    groups: impl Fn(Range<usize>) -> &'w mut [Token],
) -> bool {
    let count = tokens.len();
    for (i, token) in tokens.clone().enumerate() {
        let x = row(token);
        let factor = match layout.form {
            Form::Pairs => match factor(x) {
                Some(factor) => factor,
                None => return false,
            },
            _ => 1.0,
        };
        for g in 0..layout.grouping.groups(layout.k) {
            let grid = match layout.form {
                Form::Codes { qmax } => Grid::of(&x[layout.grouping.range(g, layout.k)], qmax),
                _ => Grid::plain(1.0 / factor),
            };
            let mut sum = 0;
            for k in layout.panels(g) {
                let valid = &x[k.start.min(x.len())..k.end.min(x.len())];
                let words = words(layout.words(k.clone(), tokens.clone()));
                match layout.form {
                    Form::Codes { .. } => {
                        let mut codes = [0; PANEL_K];
                        sum += grid.encode(valid, &mut codes[..valid.len()]);
                        let halves: &[[u8; 32]] = bytemuck::cast_slice(&codes[..k.len()]);
                        let words = words[i..].chunks_mut(count);
                        for (to, quad) in words.zip(halves.iter().flat_map(|half| quads(*half))) {
                            to[0] = quad;
                        }
                    }
                    Form::Pairs => {
                        let mut values = [0; PANEL_K];
                        for (to, from) in values.iter_mut().zip(valid) {
                            *to = (widen(*from) * factor).to_bits();
                        }
                        let pairs = values[..k.len()].chunks_exact(2);
                        for (to, v) in words[i..].chunks_mut(count).zip(pairs) {
                            to[0] = v[0] | v[1] >> 16;
                        }
                    }
                    Form::Floats => {
                        let mut values = [0; PANEL_K];
                        for (to, from) in values.iter_mut().zip(valid) {
                            *to = widen(*from).to_bits();
                        }
                        for (to, v) in words[i..].chunks_mut(count).zip(&values[..k.len()]) {
                            to[0] = *v;
                        }
                    }
                }
            }
            let at = g * layout.tokens + token;
            groups(at..at + 1)[0] = Token::new(grid.group(sum));
        }
    }
    true
}

/// The codes of `row`'s tokens in the order of streams: `words` is `[tile][token][STREAM_WORDS]`, `groups` `[group][token]`.
#[inline(always)]
pub(super) fn stream<'x>(
    grouping: Grouping,
    qmax: u8,
    tokens: usize,
    row: impl Fn(usize) -> &'x [bf16],
    words: &mut [u32],
    groups: &mut [Token],
) {
    for (g, groups) in groups.chunks_exact_mut(tokens).enumerate() {
        for (i, token) in groups.iter_mut().enumerate() {
            let x = row(i);
            let k = grouping.range(g, x.len());
            let grid = Grid::of(&x[k.clone()], qmax);
            let mut sum = 0;
            // The last group ends with its tile: what is beyond K is 0.
            let end = if k.end == x.len() {
                k.end.next_multiple_of(TILE_K)
            } else {
                k.end
            };
            for k0 in (k.start..end).step_by(32) {
                let valid = k0.min(k.end)..k.end.min(k0 + 32);
                let mut codes = [0; 32];
                sum += grid.encode(&x[valid.clone()], &mut codes[..valid.len()]);
                let half = k0 / 32 % 2;
                let to = &mut words[(k0 / TILE_K * tokens + i) * STREAM_WORDS..][..STREAM_WORDS];
                for (n, quad) in quads(codes).into_iter().enumerate() {
                    let (t, odd) = (n / 2, n % 2);
                    to[16 * odd + 4 * t + 2 * half..][..2].fill(quad);
                }
            }
            *token = Token::new(grid.group(sum));
        }
    }
}

/// 32 codes, a half of a tile's k, as the eight quads of `activation_position`.
#[inline(always)]
fn quads(codes: [u8; 32]) -> [u32; 8] {
    let pairs: [u16; 16] = bytemuck::cast(codes);
    let spread = |pair: u16| {
        let pair = u32::from(u16::from_le(pair));
        (pair | pair << 8) & 0x00FF_00FF
    };
    // Bytes k, k + 16, k + 1, k + 17 for k = 2i: two neighbors, spread, and between them those of 16 further on.
    let zipped: [u32; 8] = std::array::from_fn(|i| spread(pairs[i]) | spread(pairs[8 + i]) << 8);
    std::array::from_fn(|n| zipped[4 * (n % 2) + n / 2].to_le())
}

/// The power of two that a token's activations are multiplied with for BF16 products that flush denormals, so that neither
/// they nor any sum of their products with integers is one; `None` if there is none.
///
/// A sum of products of integers with numbers whose last bit is worth 2^-125 or more is a multiple of that: 0 or normal.
/// Numbers of at least 2^-118 are such. Below, a factor of 2^16 makes them such (BF16 ends at 2^-133), and sums that it
/// makes normal were exact before; where a value of 2^90 or more stands beside, the product might overflow.
#[inline(always)]
pub(super) fn factor(x: &[bf16]) -> Option<f32> {
    let (mut least, mut most) = (u16::MAX, 0u16);
    for v in x {
        let magnitude = v.to_bits() & 0x7FFF;
        // Zero wraps around to the largest.
        least = least.min(magnitude.wrapping_sub(1));
        most = most.max(magnitude);
    }
    if least >= ((127 - 118) << 7) - 1 {
        Some(1.0)
    } else if most < (127 + 90) << 7 {
        Some(65536.0)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::layout::activation_position;

    #[test]
    fn quads_are_in_the_order_of_activation_position() {
        let codes: [u8; 32] = std::array::from_fn(|k| k as u8);
        let bytes: [u8; 32] = bytemuck::cast(quads(codes));
        for k in 0..32 {
            assert_eq!(bytes[activation_position(k)], k as u8);
        }
    }

    #[test]
    fn factors_keep_clear_of_denormals_and_of_infinity() {
        let of = |values: &[f32]| {
            factor(
                &values
                    .iter()
                    .map(|v| bf16::from_f32(*v))
                    .collect::<Vec<_>>(),
            )
        };
        let tiny = f32::from_bits(1 << 16); // BF16's least, 2^-133
        let (edge, below) = (2f32.powi(-118), 2f32.powi(-119));
        let (large, largest) = (2f32.powi(90), f32::MAX);
        assert_eq!(of(&[0.0, -0.0, 1.0, largest, f32::INFINITY]), Some(1.0));
        assert_eq!(of(&[edge, largest]), Some(1.0));
        assert_eq!(of(&[below, 1.0]), Some(65536.0));
        assert_eq!(of(&[-tiny, large / 2.0]), Some(65536.0));
        assert_eq!(of(&[tiny, -large]), None);
        assert_eq!(of(&[below, f32::NAN]), None);
        assert_eq!(of(&[]), Some(1.0));
    }
}
