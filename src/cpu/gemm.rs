//! The driver of a GEMM, common to all instruction sets.
//!
//! For each chunk of tokens it packs the activations once, unless they were quantized ahead. The
//! threads then claim rows of W, each of which is read once, and compute them by the macrokernel,
//! or by the GEMV path for a few quantized tokens.

use super::activations::{ChunkStart, QuantizedActivations};
use super::chunk::{PackBuffers, Packed, Packing};
use super::gemv::gemv_tiles;
use super::job::{Call, Job};
use super::macrokernel::row_blocks;
use super::microkernel::NR;
use super::params::TokenParams;
use super::partition::{Disjoint, WorkQueue, run_pieces, split};
use super::pool::Pool;
use super::rows::Input;
use super::workspace::{Scratch, Workspace};
use crate::MatMut;
use crate::weights::layout::TILE_N;
use half::bf16;
use std::ops::Range;

/// Multiply-adds below which another thread costs more than it saves.
const MIN_PRODUCTS_PER_THREAD: usize = 1 << 20;

/// The chunks of `m` tokens, of nearly equal sizes.
pub(super) fn chunks(m: usize) -> impl Iterator<Item = Range<usize>> {
    let chunks = m.div_ceil(Workspace::MAX_CHUNK);
    (0..chunks).map(move |chunk| split(m, chunks, chunk))
}

/// Runs a GEMM. The shapes fit and the workspace is large enough, as `Cpu::run` has checked.
pub(super) fn run(
    packing: &Packing<'_>,
    call: &Call<'_>,
    x: &Input<'_>,
    mut y: MatMut<'_, bf16>,
    workspace: &mut Workspace,
) {
    let row_stride = workspace.sizes().1;
    for rows in chunks(x.x.rows()) {
        let buffers = PackBuffers {
            words: &mut workspace.words,
            tokens: &mut workspace.tokens,
            rows: &mut workspace.rows,
            row_stride,
        };
        let packed = packing.pack(x, &rows, buffers);
        let operands = Operands {
            packed,
            words: &workspace.words[..packed.words()],
            tokens: &workspace.tokens[..packed.params()],
        };
        let scratch = &mut workspace.scratch;
        multiply(packing.pool, call, &operands, &rows, &mut y, scratch);
    }
}

/// Runs a GEMM of quantized activations. As [`run`].
pub(super) fn run_quantized(
    packing: &Packing<'_>,
    call: &Call<'_>,
    activations: &QuantizedActivations,
    mut y: MatMut<'_, bf16>,
    workspace: &mut Workspace,
) {
    let mut at = ChunkStart::default();
    for rows in chunks(y.rows()) {
        let operands = activations.chunk(&mut at, packing.chunk(rows.len()));
        let scratch = &mut workspace.scratch;
        multiply(packing.pool, call, &operands, &rows, &mut y, scratch);
    }
}

/// The packed activations of a chunk.
pub(super) struct Operands<'a> {
    pub packed: Packed,
    pub words: &'a [u32],
    pub tokens: &'a [TokenParams],
}

/// Multiplies a chunk with W, into the rows `rows` of y.
fn multiply(
    pool: &dyn Pool,
    call: &Call<'_>,
    operands: &Operands<'_>,
    rows: &Range<usize>,
    y: &mut MatMut<'_, bf16>,
    scratch: &mut [Scratch],
) {
    let (n, packed) = (call.w.n(), &operands.packed);
    let y_stride = y.stride();
    // SAFETY: `y` is borrowed mutably for the whole call, and the rows `rows` span these elements.
    let y = unsafe {
        std::slice::from_raw_parts_mut(
            y.as_mut_ptr().add(rows.start * y_stride),
            (rows.len() - 1) * y_stride + n,
        )
    };
    let job = Job {
        call,
        layout: packed.layout,
        words: operands.words,
        tokens: operands.tokens,
        y: Disjoint::new(y),
        y_stride,
    };
    let units = n.div_ceil(if packed.gemv { TILE_N } else { NR });
    let threads = pool.threads().min(scratch.len());
    let products = rows.len().saturating_mul(n).saturating_mul(call.w.k());
    let queue = WorkQueue::new(units, threads, products / MIN_PRODUCTS_PER_THREAD);
    let scratch = Disjoint::new(scratch);
    run_pieces(pool, queue.pieces, &|piece| {
        // SAFETY: no two pieces have the same number.
        let scratch = unsafe { &mut scratch.slice(piece..piece + 1)[0] };
        let job = &job;
        queue.each(|units| match packed.gemv {
            true => gemv_tiles(packed.isa, job, units),
            false => row_blocks(packed.isa, job, units, scratch),
        });
    });
}
