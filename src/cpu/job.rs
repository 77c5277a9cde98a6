//! One chunk of tokens of a GEMM, as the threads see it.

use super::pack::PackLayout;
use super::params::TokenParams;
use super::partition::Disjoint;
use crate::numerics::round_to_bf16;
use crate::{PackedWeight, Scheme, Width};
use half::bf16;
use std::ops::Range;

/// A GEMM whose shapes are checked and whose width is known: what its kernels read beside the
/// packed activations.
pub(super) struct Call<'a> {
    /// `[N, K]`.
    pub w: &'a PackedWeight,
    pub width: Width,
    /// `[N]`.
    pub bias: Option<&'a [f32]>,
}

/// The operands of a chunk, with its activations packed.
pub(super) struct Job<'a> {
    pub call: &'a Call<'a>,
    pub layout: PackLayout,
    /// The packed activations: micro-panels in the order of `layout`, or
    /// `[tile][token][GEMV_WORDS]`.
    pub words: &'a [u32],
    /// `[group of the activations][token]`. For the GEMV path `[group of the weight][token]`, with
    /// the sum of each group.
    pub tokens: &'a [TokenParams],
    /// `[token][n]`, rows `y_stride` elements apart.
    pub y: Disjoint<'a, bf16>,
    pub y_stride: usize,
}

impl Job<'_> {
    /// Writes the addend of the first fma to `acc[rows]`: the bias of a two-level weight, which has
    /// one fma, otherwise 0.
    #[inline(always)]
    pub fn start(&self, rows: Range<usize>, acc: &mut [f32]) {
        acc.fill(0.0);
        if let (Scheme::TwoLevel, Some(bias)) = (self.call.w.scheme(), self.call.bias) {
            acc[..rows.len()].copy_from_slice(&bias[rows]);
        }
    }

    /// Stores `acc[rows]`, plus the bias for a grouped weight, as the results of `token` for the
    /// rows `rows` of W.
    #[inline(always)]
    pub fn store(&self, token: usize, rows: Range<usize>, acc: &[f32]) {
        let at = token * self.y_stride;
        // SAFETY: only the thread that computes these rows of W writes these columns of y.
        let y = unsafe { self.y.slice(at + rows.start..at + rows.end) };
        let bias = match self.call.w.scheme() {
            Scheme::Grouped => self.call.bias,
            Scheme::TwoLevel => None,
        };
        match bias {
            None => (y.iter_mut().zip(acc)).for_each(|(y, acc)| *y = round_to_bf16(*acc)),
            Some(bias) => {
                for ((y, acc), bias) in y.iter_mut().zip(acc).zip(&bias[rows]) {
                    *y = round_to_bf16(acc + bias);
                }
            }
        }
    }
}
