//! The parameters of the groups of W and of x, in the form in which the microkernels read them.

use crate::numerics::{TokenGroup, widen};
use crate::weights::layout::{TILE_K, TILE_N};
use crate::weights::{GroupSums, PackedWeight, Scales};

/// Output channels of a panel: two tiles.
pub(super) const NR: usize = 2 * TILE_N;

/// The most inputs of a panel.
pub(super) const KC: usize = 128;

/// The group steps and zero points of a group of a two-level weight, for NR rows. Rows beyond N
/// hold 0.
#[derive(Clone, Copy)]
pub(super) struct StepParams {
    /// `sg`, `[NR]`.
    pub step: [i32; NR],
    /// `zg`, `[NR]`.
    pub zero: [i32; NR],
    /// `sg` in both 16-bit halves, `[NR]`.
    pub step_pair: [u32; NR],
    /// `sg * (8 + zg)` modulo 256 in all four bytes, `[NR]`.
    pub offset_bytes: [u32; NR],
    /// `sg` in f32, `[NR]`.
    pub step_f32: [f32; NR],
    /// `zg * sg` in f32, `[NR]`.
    pub offset_f32: [f32; NR],
}

impl StepParams {
    pub const ZERO: Self = Self {
        step: [0; NR],
        zero: [0; NR],
        step_pair: [0; NR],
        offset_bytes: [0; NR],
        step_f32: [0.0; NR],
        offset_f32: [0.0; NR],
    };

    /// Loads the parameters of the group of `k`, 16 rows for each of at most two row tiles: those
    /// of integer panels, or the f32 ones.
    #[inline(always)]
    pub fn load(
        &mut self,
        w: &PackedWeight,
        row_tiles: impl Iterator<Item = usize>,
        k: usize,
        integer: bool,
    ) {
        let (groups, size) = (w.groups(), w.grouping().size().unwrap_or(TILE_K));
        // The padding of K, whose activations are 0, may begin a group that does not exist.
        let group = (k / size).min(groups - 1);
        for (i, row_tile) in row_tiles.enumerate() {
            let (steps, zeros) = w.steps_at((row_tile * groups + group) * TILE_N);
            let to = i * TILE_N..(i + 1) * TILE_N;
            if integer {
                let pairs = std::array::from_fn(|row| (steps[row] | steps[row] << 16) as u32);
                let offsets = std::array::from_fn(|row| {
                    let offset = (steps[row] * (8 + zeros[row])) as u32 & 0xFF;
                    offset.wrapping_mul(0x0101_0101)
                });
                copy_rows(&mut self.step[to.clone()], &steps);
                copy_rows(&mut self.zero[to.clone()], &zeros);
                copy_rows(&mut self.step_pair[to.clone()], &pairs);
                copy_rows(&mut self.offset_bytes[to], &offsets);
            } else {
                let step_f32 = steps.map(|step| step as f32);
                let offset_f32 = std::array::from_fn(|row| (zeros[row] * steps[row]) as f32);
                copy_rows(&mut self.step_f32[to.clone()], &step_f32);
                copy_rows(&mut self.offset_f32[to], &offset_f32);
            }
        }
    }
}

/// Copies 16 rows.
#[inline(always)]
fn copy_rows<T: Copy>(to: &mut [T], from: &[T; TILE_N]) {
    to.copy_from_slice(from);
}

/// The parameters of the weights of one group of k and NR rows, or of all k of a two-level weight.
/// Rows beyond N hold 0.
pub(super) struct GroupParams {
    /// `sw`, `[NR]`.
    pub scale: [f32; NR],
    /// `zw`, `[NR]`; 0 for a two-level weight.
    pub zero: [i32; NR],
    /// `sum(qw - zw)` or `sum(w8)`, `[NR]`.
    pub sum: [i32; NR],
    /// The steps and zero points of a two-level weight, for each group of a panel.
    pub steps: [StepParams; KC / 32],
    /// The k of a panel that share an element of `steps`: 32, 64 or 128.
    pub step_k: usize,
    /// Whether all zero points of a two-level weight are 0.
    pub symmetric: bool,
    /// `sum(qw - zw)` in the low 16 bits and `zw` in the high ones, `[NR]`. Valid if `narrow`.
    pub pair: [u32; NR],
    /// Whether a group has at most 128 k. Both of its sums then fit 16 bits, and one multiply-add
    /// of pairs applies both corrections.
    pub narrow: bool,
}

impl GroupParams {
    pub const ZERO: Self = Self {
        scale: [0.0; NR],
        zero: [0; NR],
        sum: [0; NR],
        steps: [StepParams::ZERO; KC / 32],
        step_k: KC,
        symmetric: false,
        pair: [0; NR],
        narrow: false,
    };

    /// Returns the steps and zero points of 32 k number `segment` of the panel.
    #[inline(always)]
    pub fn steps_of(&self, segment: usize) -> &StepParams {
        &self.steps[32 * segment / self.step_k]
    }

    /// Loads 16 rows from index `at` of the tiled scales of `w` into rows `row..row + 16` (`row` is
    /// 0 or 16).
    #[inline(always)]
    pub fn load(&mut self, w: &PackedWeight, at: usize, row: usize) {
        let (from, to) = (at..at + TILE_N, row..row + TILE_N);
        let scale = &mut self.scale[to.clone()];
        match w.tiled_scales() {
            Scales::F32(v) => scale.copy_from_slice(&v[from.clone()]),
            Scales::Bf16(v) => {
                for (to, from) in scale.iter_mut().zip(&v[from.clone()]) {
                    *to = widen(*from);
                }
            }
            Scales::F16(v) => {
                for (to, from) in scale.iter_mut().zip(&v[from.clone()]) {
                    *to = finite_f16_to_f32(from.to_bits());
                }
            }
        }
        if let Some(zeros) = w.sum_zeros() {
            for (to, &from) in self.zero[to.clone()].iter_mut().zip(&zeros[from.clone()]) {
                *to = i32::from(from);
            }
        }
        match w.tiled_sums() {
            GroupSums::Grouped(v) => {
                self.narrow = true;
                for (to, &from) in self.sum[to.clone()].iter_mut().zip(&v[from]) {
                    *to = i32::from(from);
                }
                for at in to {
                    self.pair[at] = pair(self.sum[at], self.zero[at]);
                }
            }
            GroupSums::PerChannel(v) => self.sum[to].copy_from_slice(&v[from]),
        }
    }
}

/// The parameters of the activations of one token and group.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct TokenParams {
    /// For unquantized activations, `scale` is the power of two that multiplies the sum of the
    /// group.
    pub group: TokenGroup,
    /// `-zero` in the low 16 bits and `-sum` in the high ones, the counterpart of
    /// [`GroupParams::pair`].
    pub pair: u32,
}

impl TokenParams {
    #[inline(always)]
    pub fn new(group: TokenGroup) -> Self {
        Self {
            group,
            pair: pair(-group.zero, -group.sum),
        }
    }
}

/// Two 16-bit numbers in one word, for a multiply-add of pairs.
#[inline(always)]
fn pair(low: i32, high: i32) -> u32 {
    low as u32 & 0xFFFF | (high as u32) << 16
}

/// Converts a finite binary16 to f32, exactly and in a form that vectorizes: exponent and mantissa
/// are shifted into place, and one exact product corrects the bias of the exponent, of subnormals
/// too.
#[inline(always)]
fn finite_f16_to_f32(bits: u16) -> f32 {
    let magnitude =
        f32::from_bits(u32::from(bits & 0x7FFF) << 13) * f32::from_bits((127 + 112) << 23);
    f32::from_bits(magnitude.to_bits() | u32::from(bits & 0x8000) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn converts_every_finite_f16_exactly() {
        for bits in (0..=u16::MAX).filter(|b| b & 0x7C00 != 0x7C00) {
            let expected = f16::from_bits(bits).to_f32();
            assert_eq!(finite_f16_to_f32(bits).to_bits(), expected.to_bits());
        }
    }
}
