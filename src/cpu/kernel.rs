//! What an instruction set brings: the inner steps of a GEMM, for integers and for floats.

use crate::numerics::TokenGroup;
use crate::weights::layout::{TILE_N, Tile};
use crate::weights::{GroupSums, Scales};
use bytemuck::Pod;

/// The numbers that belong to one group of k and `NT` tiles of 16 rows.
pub(super) struct Beside<const NT: usize> {
    /// `sw`.
    pub scale: [[f32; TILE_N]; NT],
    /// `zw`.
    pub zero: [[i32; TILE_N]; NT],
    /// `sum(qw - zw)`.
    pub sum: [[i32; TILE_N]; NT],
}

impl<const NT: usize> Beside<NT> {
    pub const ZERO: Self = Self {
        scale: [[0.0; TILE_N]; NT],
        zero: [[0; TILE_N]; NT],
        sum: [[0; TILE_N]; NT],
    };

    /// Reads the 16 rows that start at `at[i]` of the tiled arrays, for tile i.
    #[inline(always)]
    pub fn load(
        &mut self,
        at: [usize; NT],
        scales: &Scales,
        zeros: Option<&[i8]>,
        sums: &GroupSums,
    ) {
        for (i, at) in at.into_iter().enumerate() {
            let range = at..at + TILE_N;
            match scales {
                Scales::F32(v) => self.scale[i].copy_from_slice(&v[range.clone()]),
                Scales::Bf16(v) => {
                    for (to, from) in self.scale[i].iter_mut().zip(&v[range.clone()]) {
                        *to = f32::from_bits(u32::from(from.to_bits()) << 16);
                    }
                }
                Scales::F16(v) => {
                    for (to, from) in self.scale[i].iter_mut().zip(&v[range.clone()]) {
                        *to = finite_f16_to_f32(from.to_bits());
                    }
                }
            }
            if let Some(zeros) = zeros {
                for (to, &from) in self.zero[i].iter_mut().zip(&zeros[range.clone()]) {
                    *to = i32::from(from);
                }
            }
            match sums {
                GroupSums::Grouped(v) => {
                    for (to, &from) in self.sum[i].iter_mut().zip(&v[range]) {
                        *to = i32::from(from);
                    }
                }
                GroupSums::PerChannel(v) => self.sum[i].copy_from_slice(&v[range]),
            }
        }
    }
}

/// A finite binary16 as f32, exact, in a form that vectorises: exponent and mantissa move to their places and one exact
/// product mends the exponent's bias, subnormals too.
#[inline(always)]
fn finite_f16_to_f32(bits: u16) -> f32 {
    let magnitude =
        f32::from_bits(u32::from(bits & 0x7FFF) << 13) * f32::from_bits((127 + 112) << 23);
    f32::from_bits(magnitude.to_bits() | u32::from(bits & 0x8000) << 16)
}

/// The inner steps. `NT` is the number of 16-row tiles that are worked off together, 1 or 2.
///
/// # Safety
/// All methods: the machine has the instruction set of the implementing type, and the pointers are valid for what each
/// method says it reads and writes.
pub(super) trait Kernel {
    /// An activation as it lies in the workspace: u8 codes in the order of `activation_position`, or f32 in natural order.
    type Activation: Pod;
    /// A weight of the panel.
    type Panel: Pod;
    /// A sum of products: i32 or f32, four bytes.
    type Sum: Pod;
    /// The most tokens that `dot` and `rescale` take at once.
    const TOKENS: usize;

    /// Unpacks 32 k (half `half` of each tile) to `panel`: `32 * NT * 16` weights in the order that `dot` reads.
    unsafe fn unpack<const NT: usize>(
        tiles: [&Tile; NT],
        half: usize,
        beside: &Beside<NT>,
        panel: *mut Self::Panel,
    );

    /// `sums[token][row] (+)= sum over k of panel[k][row] * x[token][k]`: `k` a multiple of 32, `tokens` at most
    /// `TOKENS`, tokens `stride` activations apart, `sums` dense `[tokens][NT * 16]`. Starts from `sums` if `resume`, from zero else.
    unsafe fn dot<const NT: usize>(
        panel: *const Self::Panel,
        k: usize,
        x: *const Self::Activation,
        stride: usize,
        tokens: usize,
        sums: *mut Self::Sum,
        resume: bool,
    );

    /// `acc[token][row] = fma(group's value, group's scale, acc[token][row])`, `sums` and `acc` dense `[tokens][NT * 16]`,
    /// the tokens' `TokenGroup`s `stride` apart.
    unsafe fn rescale<const NT: usize>(
        sums: *const Self::Sum,
        tokens: usize,
        groups: *const TokenGroup,
        stride: usize,
        beside: &Beside<NT>,
        acc: *mut f32,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn every_finite_f16_converts_exactly() {
        for bits in (0..=u16::MAX).filter(|b| b & 0x7C00 != 0x7C00) {
            let expected = f16::from_bits(bits).to_f32();
            assert_eq!(finite_f16_to_f32(bits).to_bits(), expected.to_bits());
        }
    }
}
