//! Packing of activations: the x of a chunk of tokens in the order in which the kernels read it,
//! once a call.
//!
//! A word has four bytes: four codes, two BF16 or one f32 of neighboring k (codes: neighboring by
//! `activation_position`). There are two layouts:
//! - **micro-panels**, for the macrokernel: `[panel of k][micro-panel of tokens][word][token]`. The
//!   words that one panel of W is multiplied with are contiguous.
//! - **GEMV**, for a few tokens: `[tile of k][token][even or odd quads][lane t][word r]`. Each quad
//!   is stored twice, because it is multiplied with the words of rows g and g + 8: a vector of a
//!   tile and its vector of codes match lane by lane.

use super::activations::ActivationLayout;
use super::microkernel::{GEMV_WORDS, KC};
use super::params::TokenParams;
use super::partition::split;
use crate::numerics::{ActivationGrid, widen};
use crate::weights::layout::TILE_K;
use crate::{Grouping, Scheme};
use half::bf16;
use std::ops::Range;

/// The contents of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WordFormat {
    /// Four codes of at most `qmax`.
    Codes { qmax: u8 },
    /// Two BF16, the first k in the high half.
    Bf16Pairs,
    /// One f32.
    F32,
}

impl WordFormat {
    pub const fn k_per_word(self) -> usize {
        match self {
            Self::Codes { .. } => 4,
            Self::Bf16Pairs => 2,
            Self::F32 => 1,
        }
    }
}

/// The layout of the micro-panels of a chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct PackLayout {
    pub format: WordFormat,
    /// The groups of the activations.
    pub grouping: Grouping,
    pub k: usize,
    pub tokens: usize,
    /// The number of micro-panels, which have nearly equal sizes.
    pub micro_panels: usize,
}

impl PackLayout {
    /// The layout of `tokens` tokens in micro-panels of at most `mr`.
    pub fn new(format: WordFormat, grouping: Grouping, k: usize, tokens: usize, mr: usize) -> Self {
        Self {
            format,
            grouping,
            k,
            tokens,
            micro_panels: tokens.div_ceil(mr),
        }
    }

    pub fn k_padded(&self) -> usize {
        self.k.next_multiple_of(TILE_K)
    }

    /// The k of a panel: a group, or a part of a large group.
    pub fn panel_k(&self) -> usize {
        let most = match self.format {
            // With so few tokens the products are a chain of dependent instructions. A short panel
            // is unpacked while the previous panel is multiplied.
            WordFormat::Bf16Pairs | WordFormat::F32 if self.tokens <= 4 => 32,
            _ => KC,
        };
        self.grouping.size().map_or(most, |g| g.min(most))
    }

    /// The tokens of a micro-panel.
    pub fn micro_panel(&self, micro_panel: usize) -> Range<usize> {
        split(self.tokens, self.micro_panels, micro_panel)
    }

    /// The words of a panel's `k` and a micro-panel's `tokens`, `[word of k][token]`.
    #[inline(always)]
    pub fn words(&self, k: Range<usize>, tokens: Range<usize>) -> Range<usize> {
        let per_word = self.format.k_per_word();
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

/// Packs token `token` of the micro-panel `tokens`. Returns false if the format cannot hold it
/// exactly ([`flush_factor`]). `x` is `[k]`.
///
/// `words(range)` and `params(range)` return the memory to write; ranges are those of
/// [`PackLayout::words`] and of `[group][token]`.
#[inline(always)]
pub(super) fn pack_token<'w>(
    layout: &PackLayout,
    tokens: Range<usize>,
    token: usize,
    x: &[bf16],
    words: impl Fn(Range<usize>) -> &'w mut [u32],
    params: impl Fn(Range<usize>) -> &'w mut [TokenParams],
) -> bool {
    let (i, count) = (token - tokens.start, tokens.len());
    let factor = match layout.format {
        WordFormat::Bf16Pairs => match flush_factor(x) {
            Some(factor) => factor,
            None => return false,
        },
        _ => 1.0,
    };
    for g in 0..layout.grouping.groups(layout.k) {
        let grid = match layout.format {
            WordFormat::Codes { qmax } => {
                ActivationGrid::of(&x[layout.grouping.range(g, layout.k)], qmax)
            }
            _ => ActivationGrid::plain(1.0 / factor),
        };
        let mut sum = 0;
        for k in layout.panels(g) {
            let valid = &x[k.start.min(x.len())..k.end.min(x.len())];
            let words = words(layout.words(k.clone(), tokens.clone()));
            match layout.format {
                WordFormat::Codes { .. } => {
                    let mut codes = [0; KC];
                    sum += grid.encode(valid, &mut codes[..valid.len()]);
                    let halves: &[[u8; 32]] = bytemuck::cast_slice(&codes[..k.len()]);
                    let words = words[i..].chunks_mut(count);
                    for (to, quad) in words.zip(halves.iter().flat_map(|half| quads(*half))) {
                        to[0] = quad;
                    }
                }
                WordFormat::Bf16Pairs => {
                    let mut values = [0; KC];
                    for (to, from) in values.iter_mut().zip(valid) {
                        *to = (widen(*from) * factor).to_bits();
                    }
                    let pairs = values[..k.len()].chunks_exact(2);
                    for (to, v) in words[i..].chunks_mut(count).zip(pairs) {
                        to[0] = v[0] | v[1] >> 16;
                    }
                }
                WordFormat::F32 => {
                    let mut values = [0; KC];
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
        params(at..at + 1)[0] = TokenParams::new(grid.params(sum));
    }
    true
}

/// The words of `tokens` tokens for the GEMV path.
pub(super) fn gemv_words(tokens: usize, k_padded: usize) -> usize {
    tokens * k_padded / TILE_K * GEMV_WORDS
}

/// Packs the codes of token `i` of `tokens` for the GEMV path: `words` is
/// `[tile][token][GEMV_WORDS]`, `params` `[group of the weight][token]`. The tokens of a two-level
/// weight have one grid for all groups, and a sum for each.
#[inline(always)]
pub(super) fn pack_gemv_token(
    layout: ActivationLayout,
    qmax: u8,
    (i, tokens): (usize, usize),
    x: &[bf16],
    words: &mut [u32],
    params: &mut [TokenParams],
) {
    let shared = match layout.scheme() {
        Scheme::Grouped => None,
        Scheme::TwoLevel => Some(ActivationGrid::of(x, qmax)),
    };
    for (g, params) in params.chunks_exact_mut(tokens).enumerate() {
        let k = layout.weight_grouping().range(g, x.len());
        let grid = match shared {
            Some(grid) => grid,
            None => ActivationGrid::of(&x[k.clone()], qmax),
        };
        let mut sum = 0;
        // The last group is padded with 0 to the end of its tile.
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
            let to = &mut words[(k0 / TILE_K * tokens + i) * GEMV_WORDS..][..GEMV_WORDS];
            for (n, quad) in quads(codes).into_iter().enumerate() {
                let (t, odd) = (n / 2, n % 2);
                to[16 * odd + 4 * t + 2 * half..][..2].fill(quad);
            }
        }
        params[i] = TokenParams::new(grid.params(sum));
    }
}

/// Arranges 32 codes, half of the k of a tile, as the eight quads of `activation_position`.
#[inline(always)]
fn quads(codes: [u8; 32]) -> [u32; 8] {
    let pairs: [u16; 16] = bytemuck::cast(codes);
    let spread = |pair: u16| {
        let pair = u32::from(u16::from_le(pair));
        (pair | pair << 8) & 0x00FF_00FF
    };
    // Bytes k, k + 16, k + 1, k + 17 for k = 2i: two neighbors, spread, with the codes at distance
    // 16 between them.
    let zipped: [u32; 8] = std::array::from_fn(|i| spread(pairs[i]) | spread(pairs[8 + i]) << 8);
    std::array::from_fn(|n| zipped[4 * (n % 2) + n / 2].to_le())
}

/// The power of two to multiply a token's activations with, so that BF16 products that flush
/// denormals are exact: neither an activation nor a sum of products with integers is then a
/// denormal. `None` if no factor works.
///
/// A sum of products of integers and numbers whose last bit is worth at least 2^-125 is a multiple
/// of 2^-125: 0 or normal. Numbers of at least 2^-118 have this property. Smaller numbers get it by
/// the factor 2^16, because BF16 ends at 2^-133; the sums that the factor makes normal were exact
/// before. With a value of 2^88 or more the product might overflow: below it, a sum of 65,536
/// products with integers of at most 127 in magnitude stays below 2^(88 + 16 + 16 + 7) = 2^127,
/// which leaves room for its roundings.
#[inline(always)]
fn flush_factor(x: &[bf16]) -> Option<f32> {
    let (mut least, mut most) = (u16::MAX, 0u16);
    for v in x {
        let magnitude = v.to_bits() & 0x7FFF;
        // Zero wraps around to the largest value.
        least = least.min(magnitude.wrapping_sub(1));
        most = most.max(magnitude);
    }
    if least >= ((127 - 118) << 7) - 1 {
        Some(1.0)
    } else if most < (127 + 88) << 7 {
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
    fn arranges_quads_by_activation_position() {
        let codes: [u8; 32] = std::array::from_fn(|k| k as u8);
        let bytes: [u8; 32] = bytemuck::cast(quads(codes));
        for k in 0..32 {
            assert_eq!(bytes[activation_position(k)], k as u8);
        }
    }

    #[test]
    fn factor_avoids_denormals_and_overflow() {
        let of = |values: &[f32]| {
            flush_factor(
                &values
                    .iter()
                    .map(|v| bf16::from_f32(*v))
                    .collect::<Vec<_>>(),
            )
        };
        let tiny = f32::from_bits(1 << 16); // the smallest BF16, 2^-133
        let (edge, below) = (2f32.powi(-118), 2f32.powi(-119));
        let (large, largest) = (2f32.powi(88), f32::MAX);
        assert_eq!(of(&[0.0, -0.0, 1.0, largest, f32::INFINITY]), Some(1.0));
        assert_eq!(of(&[edge, largest]), Some(1.0));
        assert_eq!(of(&[below, 1.0]), Some(65536.0));
        assert_eq!(of(&[-tiny, large / 2.0]), Some(65536.0));
        assert_eq!(of(&[tiny, -large]), None);
        assert_eq!(of(&[below, f32::NAN]), None);
        assert_eq!(of(&[]), Some(1.0));
    }
}
