//! The driver of a GEMM, common to all instruction sets.
//!
//! For each chunk of tokens it packs the activations once. The threads then claim rows of W, each
//! of which is read once, and compute them by the macrokernel, or by the GEMV path for a few
//! quantized tokens.

use super::dispatch::{Isa, enter};
use super::gemv::gemv_tiles;
use super::job::{Call, Job};
use super::macrokernel::row_blocks;
use super::microkernel::{Arch, GEMV_WORDS, NR, Task};
use super::pack::{self, PackLayout, WordFormat};
use super::params::TokenParams;
use super::partition::{Disjoint, WorkQueue, run_pieces, split};
use super::pool::Pool;
use super::workspace::Workspace;
use crate::MatMut;
use crate::weights::layout::{TILE_K, TILE_N};
use half::bf16;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Multiply-adds below which another thread costs more than it saves.
const MIN_PRODUCTS_PER_THREAD: usize = 1 << 20;
/// Activations to pack below which another thread costs more than it saves.
const MIN_PACKED_PER_THREAD: usize = 1 << 15;

/// Runs a GEMM. The shapes fit and the workspace is large enough, as `Cpu::run` has checked.
pub(super) fn run(
    isa: Isa,
    pool: &dyn Pool,
    call: &Call<'_>,
    mut y: MatMut<'_, bf16>,
    workspace: &mut Workspace,
) {
    let (m, n) = (call.x.rows(), call.w.n());
    let chunks = m.div_ceil(Workspace::MAX_CHUNK);
    for chunk in 0..chunks {
        let rows = split(m, chunks, chunk);
        let packed = pack(isa, pool, call, &rows, workspace);
        let y_stride = y.stride();
        // SAFETY: `y` is borrowed mutably for the whole call, and the rows `rows` span these
        // elements.
        let y = unsafe {
            std::slice::from_raw_parts_mut(
                y.as_mut_ptr().add(rows.start * y_stride),
                (rows.len() - 1) * y_stride + n,
            )
        };
        let layout = packed.layout;
        let (words, groups) = match packed.gemv {
            true => (
                layout.tokens * layout.k_padded() / TILE_K * GEMV_WORDS,
                call.w.groups(),
            ),
            false => (
                layout.tokens * layout.k_padded() / layout.format.k_per_word(),
                layout.grouping.groups(layout.k),
            ),
        };
        let job = Job {
            call,
            layout,
            words: &workspace.words[..words],
            tokens: &workspace.tokens[..layout.tokens * groups],
            y: Disjoint::new(y),
            y_stride,
        };
        let units = n.div_ceil(if packed.gemv { TILE_N } else { NR });
        let threads = pool.threads().min(workspace.scratch.len());
        let products = rows.len().saturating_mul(n).saturating_mul(call.w.k());
        let queue = WorkQueue::new(units, threads, products / MIN_PRODUCTS_PER_THREAD);
        let scratch = Disjoint::new(&mut workspace.scratch);
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
}

/// The packed activations of a chunk.
struct Packed {
    /// The instruction set that multiplies them.
    isa: Isa,
    layout: PackLayout,
    /// Whether they are packed for the GEMV path.
    gemv: bool,
}

/// Packs the activations of the tokens `rows` into the workspace.
fn pack(
    isa: Isa,
    pool: &dyn Pool,
    call: &Call<'_>,
    rows: &Range<usize>,
    workspace: &mut Workspace,
) -> Packed {
    let (grouping, k) = (call.w.activation_grouping(), call.w.k());
    let layout = |isa: Isa, format| PackLayout::new(format, grouping, k, rows.len(), isa.mr());
    let format = match call.width.qmax() {
        Some(qmax) => WordFormat::Codes { qmax },
        None if isa == Isa::Avx512Bf16 => WordFormat::Bf16Pairs,
        None => WordFormat::F32,
    };
    let first = layout(isa, format);
    if let WordFormat::Codes { qmax } = format
        && rows.len() <= isa.max_gemv_tokens()
    {
        let words = rows.len() * first.k_padded() / TILE_K * GEMV_WORDS;
        let task = PackGemv {
            call,
            qmax,
            rows,
            words: &mut workspace.words[..words],
            tokens: &mut workspace.tokens[..rows.len() * call.w.groups()],
            gathered: &mut workspace.gathered,
        };
        enter(isa, task);
        return Packed {
            isa,
            layout: first,
            gemv: true,
        };
    }
    if pack_micro_panels(isa, pool, call, rows, &first, workspace) {
        return Packed {
            isa,
            layout: first,
            gemv: false,
        };
    }
    // A token has values whose BF16 products would not be exact. The chunk is computed in f32, with
    // the same bits.
    let isa = Isa::Avx512Vnni;
    let layout = layout(isa, WordFormat::F32);
    pack_micro_panels(isa, pool, call, rows, &layout, workspace);
    Packed {
        isa,
        layout,
        gemv: false,
    }
}

/// Packs all micro-panels of a chunk. Returns false if the format cannot hold a token exactly.
fn pack_micro_panels(
    isa: Isa,
    pool: &dyn Pool,
    call: &Call<'_>,
    rows: &Range<usize>,
    layout: &PackLayout,
    workspace: &mut Workspace,
) -> bool {
    let exact = AtomicBool::new(true);
    let words = &Disjoint::new(&mut workspace.words);
    let tokens = &Disjoint::new(&mut workspace.tokens);
    let gathered = &Disjoint::new(&mut workspace.gathered);
    let worth = layout.tokens * layout.k / MIN_PACKED_PER_THREAD;
    let queue = WorkQueue::new(layout.micro_panels, pool.threads(), worth);
    run_pieces(pool, queue.pieces, &|_| {
        queue.each(|micro_panels| {
            for micro_panel in micro_panels {
                let task = PackMicroPanel {
                    call,
                    rows,
                    layout,
                    micro_panel,
                    words,
                    tokens,
                    gathered,
                };
                if !enter(isa, task) {
                    exact.store(false, Ordering::Relaxed);
                }
            }
        });
    });
    exact.into_inner()
}

struct PackGemv<'a> {
    call: &'a Call<'a>,
    qmax: u8,
    rows: &'a Range<usize>,
    /// `[tile][token][GEMV_WORDS]`.
    words: &'a mut [u32],
    /// `[group][token]`.
    tokens: &'a mut [TokenParams],
    /// At least `[token][k]` if the call has an order.
    gathered: &'a mut [bf16],
}

impl Task for PackGemv<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<A: Arch>(self) {
        let (w, count) = (self.call.w, self.rows.len());
        let (k, from) = (w.k(), self.rows.start);
        if let Some(order) = self.call.order {
            for (token, gathered) in self.gathered.chunks_exact_mut(k).take(count).enumerate() {
                order.gather_row(self.call.x.row(from + token), gathered);
            }
        }
        let row = |token: usize| match self.call.order {
            Some(_) => &self.gathered[token * k..][..k],
            None => self.call.x.row(from + token),
        };
        pack::pack_gemv(w, self.qmax, count, row, self.words, self.tokens);
    }
}

struct PackMicroPanel<'a, 'w> {
    call: &'a Call<'a>,
    rows: &'a Range<usize>,
    layout: &'a PackLayout,
    micro_panel: usize,
    words: &'a Disjoint<'w, u32>,
    /// `[group][token]`.
    tokens: &'a Disjoint<'w, TokenParams>,
    /// `[token][k]` if the call has an order.
    gathered: &'a Disjoint<'w, bf16>,
}

impl Task for PackMicroPanel<'_, '_> {
    type Output = bool;

    #[inline(always)]
    unsafe fn run<A: Arch>(self) -> bool {
        let tokens = self.layout.micro_panel(self.micro_panel);
        let k = self.call.w.k();
        // Called once for each token.
        let row = |token: usize| -> &[bf16] {
            let x = self.call.x.row(self.rows.start + token);
            let Some(order) = self.call.order else {
                return x;
            };
            // SAFETY: one thread packs a micro-panel, and no two tokens share a row.
            let gathered = unsafe { self.gathered.slice(token * k..(token + 1) * k) };
            order.gather_row(x, gathered);
            gathered
        };
        // SAFETY: one thread packs a micro-panel, the words and parameters of two micro-panels do
        // not overlap, and `pack_micro_panel` holds one slice at a time.
        let words = |range| unsafe { self.words.slice(range) };
        // SAFETY: as above.
        let params = |range| unsafe { self.tokens.slice(range) };
        pack::pack_micro_panel(self.layout, tokens, row, words, params)
    }
}
