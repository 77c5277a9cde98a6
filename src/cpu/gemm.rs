//! The loops of a GEMM on the CPU, the same for every instruction set.
//!
//! For each chunk of tokens: the activations are prepared once, then each thread takes a run of 32-row blocks of W. A
//! block goes through its groups in ascending order: unpack the group's panel into cache, multiply it with all tokens,
//! rescale into the accumulators. Weights are read once a chunk; y's columns are written by the thread that owns them.

use super::Isa;
use super::kernel::{Beside, Kernel};
use super::pool::Pool;
use super::workspace::{BLOCK_N, PANEL_K, Scratch, Workspace};
use crate::numerics::{TokenGroup, quantize_group, round_to_bf16};
use crate::weights::layout::{TILE_K, TILE_N, activation_position};
use crate::{Grouping, MatMut, MatRef, PackedWeight, Precision};
use bytemuck::Pod;
use half::bf16;
use std::marker::PhantomData;
use std::ops::Range;

/// What is asked for.
pub(super) struct Call<'a> {
    pub x: MatRef<'a, bf16>,
    pub w: &'a PackedWeight,
    pub precision: Precision,
    pub bias: Option<&'a [f32]>,
}

/// A mutable slice that several threads write, each in places of its own.
struct Disjoint<'a, T> {
    start: *mut T,
    len: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a `&mut [T]` in pieces; `slice`'s contract keeps the pieces apart, so moving them to other threads needs
// what `&mut [T]` needs.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    fn new(slice: &'a mut [T]) -> Self {
        Self {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            lifetime: PhantomData,
        }
    }

    /// # Safety
    /// No element of `range` is in a range that any other live slice of this object has.
    #[allow(clippy::mut_from_ref)] // The contract above is what makes it sound.
    unsafe fn slice(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: in bounds by the assertion, unaliased by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

/// A chunk's work as the threads see it.
pub(super) struct Job<'a> {
    pub call: &'a Call<'a>,
    /// Its tokens.
    pub tokens: Range<usize>,
    /// `[tokens][k padded to 64]`: f32, or the codes in the first quarter of the same memory.
    activations: &'a [f32],
    /// `[tokens][groups]`.
    groups: &'a [TokenGroup],
    y: Disjoint<'a, bf16>,
    y_stride: usize,
}

/// Runs a whole GEMM. The shapes fit and the workspace is large enough (`Cpu::gemm` has checked).
pub(super) fn run(
    isa: Isa,
    pool: &dyn Pool,
    call: &Call<'_>,
    mut y: MatMut<'_, bf16>,
    workspace: &mut Workspace,
) {
    let (m, n, k) = (call.x.rows(), call.w.n(), call.w.k());
    let k_padded = k.next_multiple_of(TILE_K);
    let groups = call.w.groups();
    for start in (0..m).step_by(Workspace::MAX_CHUNK) {
        let tokens = start..m.min(start + Workspace::MAX_CHUNK);
        let count = tokens.len();
        let activations = &mut workspace.activations[..count * k_padded];
        let token_groups = &mut workspace.groups[..count * groups];
        {
            let (a, g) = (Disjoint::new(activations), Disjoint::new(token_groups));
            // A token takes one f32 a k, or a quarter of that as bytes: the same row of f32 either way.
            let prepare = |token: usize| {
                // SAFETY: each token is prepared once, and the ranges of two tokens do not meet.
                let (a, g) = unsafe {
                    (
                        a.slice(token * k_padded..(token + 1) * k_padded),
                        g.slice(token * groups..(token + 1) * groups),
                    )
                };
                let x = call.x.row(tokens.start + token);
                match call.precision.qmax() {
                    None => widen(x, a),
                    Some(qmax) => quantize(isa, x, call.w.grouping(), qmax, a, g),
                }
            };
            let pieces = pool.threads().min(count).max(1);
            pool.run(pieces, &|piece| {
                share(count, pieces, piece).for_each(&prepare)
            });
        }
        let y_stride = y.stride();
        let y_len = if count == 0 {
            0
        } else {
            (count - 1) * y_stride + n
        };
        // SAFETY: `y` is borrowed mutably for the whole call; rows `tokens` of it span `y_len` elements from here.
        let y_rows = unsafe {
            std::slice::from_raw_parts_mut(y.as_mut_ptr().add(tokens.start * y_stride), y_len)
        };
        let job = Job {
            call,
            tokens: tokens.clone(),
            activations,
            groups: token_groups,
            y: Disjoint::new(y_rows),
            y_stride,
        };
        let blocks = n.div_ceil(BLOCK_N);
        let pieces = pool.threads().min(workspace.scratch.len()).min(blocks);
        let scratch = Disjoint::new(&mut workspace.scratch);
        pool.run(pieces, &|piece| {
            // SAFETY: each piece runs once, with a scratch of its own.
            let scratch = unsafe { &mut scratch.slice(piece..piece + 1)[0] };
            let blocks = share(blocks, pieces, piece);
            // SAFETY: a `Cpu` holds an instruction set only after `Isa::is_available` said that the machine has it.
            unsafe {
                match isa {
                    Isa::Scalar => super::scalar::columns(&job, blocks, scratch),
                    #[cfg(all(target_arch = "x86_64", not(w4ax_portable)))]
                    Isa::Avx2 => super::avx2::columns(&job, blocks, scratch),
                    #[cfg(all(target_arch = "x86_64", not(w4ax_portable)))]
                    Isa::Avx512Vnni => super::avx512::columns(&job, blocks, scratch),
                    #[cfg(not(all(target_arch = "x86_64", not(w4ax_portable))))]
                    _ => unreachable!("only the scalar path is available here"),
                }
            }
        });
    }
}

/// The `piece`-th of `pieces` nearly equal runs of `0..len`.
fn share(len: usize, pieces: usize, piece: usize) -> Range<usize> {
    len * piece / pieces..len * (piece + 1) / pieces
}

/// BF16 to f32, zeros behind.
fn widen(x: &[bf16], out: &mut [f32]) {
    let (valid, pad) = out.split_at_mut(x.len());
    for (to, from) in valid.iter_mut().zip(x) {
        *to = f32::from_bits(u32::from(from.to_bits()) << 16);
    }
    pad.fill(0.0);
}

fn quantize(
    isa: Isa,
    x: &[bf16],
    grouping: Grouping,
    qmax: u8,
    out: &mut [f32],
    groups: &mut [TokenGroup],
) {
    let codes = &mut bytemuck::cast_slice_mut(out)[..x.len().next_multiple_of(TILE_K)];
    match isa {
        Isa::Scalar => quantize_row(x, grouping, qmax, codes, groups),
        // SAFETY: as for `columns` above: the machine has the instruction set of the `Cpu`.
        #[cfg(all(target_arch = "x86_64", not(w4ax_portable)))]
        Isa::Avx2 => unsafe { super::avx2::quantize_row(x, grouping, qmax, codes, groups) },
        // SAFETY: as above.
        #[cfg(all(target_arch = "x86_64", not(w4ax_portable)))]
        Isa::Avx512Vnni => unsafe { super::avx512::quantize_row(x, grouping, qmax, codes, groups) },
        #[cfg(not(all(target_arch = "x86_64", not(w4ax_portable))))]
        _ => unreachable!("only the scalar path is available here"),
    }
}

/// Quantises one token to codes in the order of `activation_position`, zeros behind.
#[inline(always)]
pub(super) fn quantize_row(
    x: &[bf16],
    grouping: Grouping,
    qmax: u8,
    codes: &mut [u8],
    groups: &mut [TokenGroup],
) {
    codes[x.len()..].fill(0);
    for (g, group) in groups.iter_mut().enumerate() {
        let range = grouping.range(g, x.len());
        *group = quantize_group(&x[range.clone()], qmax, &mut codes[range]);
    }
    for tile in codes.chunks_exact_mut(TILE_K) {
        let mut ordered = [0u8; TILE_K];
        for k in 0..TILE_K {
            ordered[activation_position(k)] = tile[k];
        }
        tile.copy_from_slice(&ordered);
    }
}

/// Blocks `blocks` (32 rows each) of the result, with an instruction set's kernels for integers or for floats.
///
/// # Safety
/// The machine has the kernels' instruction set; no other call writes the same rows of W's result.
#[inline(always)]
pub(super) unsafe fn columns<I: Kernel, F: Kernel>(
    job: &Job<'_>,
    blocks: Range<usize>,
    scratch: &mut Scratch,
) {
    // SAFETY: passed on.
    unsafe {
        match job.call.precision {
            Precision::Bf16 => columns_by::<F>(job, blocks, scratch),
            _ => columns_by::<I>(job, blocks, scratch),
        }
    }
}

/// As [`columns`], with one kernel.
///
/// # Safety
/// As [`columns`].
#[inline(always)]
unsafe fn columns_by<K: Kernel>(job: &Job<'_>, blocks: Range<usize>, scratch: &mut Scratch) {
    let row_tiles = job.call.w.n().div_ceil(TILE_N);
    for block in blocks {
        // SAFETY: passed on.
        unsafe {
            if 2 * block + 1 < row_tiles {
                row_block::<K, 2>(job, 2 * block, scratch);
            } else {
                row_block::<K, 1>(job, 2 * block, scratch);
            }
        }
    }
}

/// `NT` tiles of rows from tile `first` on, all tokens of the job.
///
/// # Safety
/// As [`columns`].
#[inline(always)]
unsafe fn row_block<K: Kernel, const NT: usize>(
    job: &Job<'_>,
    first: usize,
    scratch: &mut Scratch,
) {
    const { assert!(NT * TILE_N <= BLOCK_N && K::TOKENS <= Workspace::MAX_CHUNK) };
    let w = job.call.w;
    let (k_tiles, groups) = (w.k().div_ceil(TILE_K), w.groups());
    let k_padded = k_tiles * TILE_K;
    let width = NT * TILE_N;
    let tokens = job.tokens.len();
    let panel: &mut [K::Panel] = bytemuck::cast_slice_mut(&mut scratch.panel);
    let dot: &mut [K::Sum] = bytemuck::cast_slice_mut(&mut scratch.dot);
    let acc = &mut scratch.acc[..tokens * width];
    let activations = cast_activations::<K::Activation>(job.activations, tokens, k_padded);
    let stride = activations.len() / tokens;
    acc.fill(0.0);
    let mut beside = Beside::<NT>::ZERO;
    for g in 0..groups {
        let at = std::array::from_fn(|i| ((first + i) * groups + g) * TILE_N);
        beside.load(at, w.tiled_scales(), w.tiled_zeros(), w.tiled_sums());
        let k_group = match w.grouping().size() {
            Some(size) => g * size..((g + 1) * size).min(k_padded),
            None => 0..k_padded,
        };
        for k0 in k_group.clone().step_by(PANEL_K) {
            let k_panel = k0..k_group.end.min(k0 + PANEL_K);
            let (is_first, is_last) = (k0 == k_group.start, k_panel.end == k_group.end);
            for (i, k) in k_panel.clone().step_by(32).enumerate() {
                let tiles = std::array::from_fn(|t| &w.tiles()[(first + t) * k_tiles + k / TILE_K]);
                let panel = &mut panel[i * 32 * width..][..32 * width];
                // SAFETY: the panel's part holds 32 * NT * 16 weights.
                unsafe { K::unpack(tiles, k / 32 % 2, &beside, panel.as_mut_ptr()) };
            }
            for t in (0..tokens).step_by(K::TOKENS) {
                let count = K::TOKENS.min(tokens - t);
                // A group of one panel needs its sums only until they are rescaled: one small buffer stays in L1.
                let slot = if is_first && is_last { 0 } else { t };
                let sums = &mut dot[slot * width..][..count * width];
                let x = &activations[t * stride + k0..];
                assert!(x.len() >= (count - 1) * stride + k_panel.len());
                // SAFETY: the panel was just filled for these k; x reaches the last token's last k (asserted); `sums`
                // and `acc` hold `count` tokens; the groups of token t + count - 1 are in bounds.
                unsafe {
                    K::dot::<NT>(
                        panel.as_ptr(),
                        k_panel.len(),
                        x.as_ptr(),
                        stride,
                        count,
                        sums.as_mut_ptr(),
                        !is_first,
                    );
                    if is_last {
                        K::rescale::<NT>(
                            sums.as_ptr(),
                            count,
                            job.groups[t * groups + g..].as_ptr(),
                            groups,
                            &beside,
                            acc[t * width..][..count * width].as_mut_ptr(),
                        );
                    }
                }
            }
        }
    }
    let rows = first * TILE_N..w.n().min((first + NT) * TILE_N);
    for (token, acc) in acc.chunks_exact(width).enumerate() {
        let at = token * job.y_stride;
        // SAFETY: only this call writes these rows of W's result, that is these columns of y.
        let y = unsafe { job.y.slice(at + rows.start..at + rows.end) };
        match job.call.bias {
            None => (y.iter_mut().zip(acc)).for_each(|(y, acc)| *y = round_to_bf16(*acc)),
            Some(bias) => {
                for ((y, acc), bias) in y.iter_mut().zip(acc).zip(&bias[rows.clone()]) {
                    *y = round_to_bf16(acc + bias);
                }
            }
        }
    }
}

/// The activations of a job as elements of `A`, the stride of a token being `k_padded` f32 whatever `A` is.
#[inline(always)]
fn cast_activations<A: Pod>(activations: &[f32], tokens: usize, k_padded: usize) -> &[A] {
    debug_assert_eq!(activations.len(), tokens * k_padded);
    bytemuck::cast_slice(activations)
}
