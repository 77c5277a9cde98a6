//! A GEMM on the CPU, the same for every instruction set.
//!
//! For each chunk of tokens the activations are prepared once, then the threads take runs of rows of W, each read once. Two
//! ways through them: `panels.rs` for many tokens, `stream.rs` for a few.

use super::Isa;
use super::gemv::StreamTiles;
use super::macrokernel::PanelBlocks;
use super::microkernel::{Kernel, STREAM_WORDS, Stream, Token};
use super::pack::{self as operand, Form, Layout};
use super::partition::{Claims, Disjoint, run_pieces, share};
use super::pool::Pool;
use super::workspace::{BLOCK_N, Workspace};
use crate::numerics::round_to_bf16;
use crate::weights::layout::{TILE_K, TILE_N};
use crate::{KOrder, MatMut, MatRef, PackedWeight, Width};
use half::bf16;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// A [`Gemm`](crate::Gemm) whose shapes are checked and whose width is known.
pub(super) struct Call<'a> {
    pub x: MatRef<'a, bf16>,
    pub w: &'a PackedWeight,
    pub width: Width,
    pub bias: Option<&'a [f32]>,
    /// The order of k to gather x into; `None` if x is in the order of the weight.
    pub order: Option<&'a KOrder>,
}

/// An instruction set: its kernels, and how code is compiled for it.
pub(super) trait Arch {
    type Integer: Kernel;
    type Float: Kernel;
    type Stream: Stream;

    /// Runs the task, compiled for the instruction set.
    ///
    /// # Safety
    /// The machine has it.
    unsafe fn enter<T: Task>(task: T) -> T::Output;
}

/// What is compiled once for each instruction set.
pub(super) trait Task {
    type Output;

    /// `#[inline(always)]` in every implementation: it takes the instruction set of the function that it stands in.
    ///
    /// # Safety
    /// The machine has `A`'s instruction set.
    unsafe fn run<A: Arch>(self) -> Self::Output;
}

/// Runs a task with an instruction set that a `Cpu` holds.
fn enter<T: Task>(isa: Isa, task: T) -> T::Output {
    // SAFETY: a `Cpu` holds an instruction set only after `Isa::is_available` said that the machine has it.
    unsafe {
        match isa {
            Isa::Scalar => super::arch::scalar::Scalar::enter(task),
            #[cfg(all(target_arch = "x86_64", not(w4ax_portable)))]
            Isa::Avx2 => super::arch::x86_64::avx2::Avx2::enter(task),
            #[cfg(all(target_arch = "x86_64", not(w4ax_portable)))]
            Isa::Avx512Vnni => super::arch::x86_64::avx512::Avx512Vnni::enter(task),
            #[cfg(all(target_arch = "x86_64", not(w4ax_portable)))]
            Isa::Avx512Bf16 => super::arch::x86_64::avx512::Avx512Bf16::enter(task),
            #[cfg(not(all(target_arch = "x86_64", not(w4ax_portable))))]
            _ => unreachable!("only the scalar path is available here"),
        }
    }
}

/// A chunk's work as the threads see it.
pub(super) struct Job<'a> {
    pub call: &'a Call<'a>,
    pub layout: Layout,
    /// As `layout` has them, or `[tile][token][STREAM_WORDS]`.
    pub words: &'a [u32],
    /// `[group][token]`.
    pub tokens: &'a [Token],
    /// `[token][n]`, a row `y_stride` after the other.
    y: Disjoint<'a, bf16>,
    y_stride: usize,
}

/// Runs a whole GEMM. The shapes fit and the workspace is large enough (`Cpu::run` has checked).
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
        let rows = share(m, chunks, chunk);
        let prepared = prepare(isa, pool, call, &rows, workspace);
        let y_stride = y.stride();
        // SAFETY: `y` is borrowed mutably for the whole call; its rows `rows` span so many elements from here.
        let y = unsafe {
            std::slice::from_raw_parts_mut(
                y.as_mut_ptr().add(rows.start * y_stride),
                (rows.len() - 1) * y_stride + n,
            )
        };
        let layout = prepared.layout;
        let words = match prepared.stream {
            true => layout.tokens * layout.k_padded() / TILE_K * STREAM_WORDS,
            false => layout.tokens * layout.k_padded() / layout.form.k_per_word(),
        };
        let job = Job {
            call,
            layout,
            words: &workspace.words[..words],
            tokens: &workspace.tokens[..layout.tokens * call.w.groups()],
            y: Disjoint::new(y),
            y_stride,
        };
        let units = n.div_ceil(if prepared.stream { TILE_N } else { BLOCK_N });
        let threads = pool.threads().min(workspace.scratch.len());
        let products = rows.len().saturating_mul(n).saturating_mul(call.w.k());
        let claims = Claims::new(units, threads, products / FORK_PRODUCTS);
        let scratch = Disjoint::new(&mut workspace.scratch);
        run_pieces(pool, claims.pieces, &|piece| {
            // SAFETY: no two pieces have the same number.
            let scratch = unsafe { &mut scratch.slice(piece..piece + 1)[0] };
            let job = &job;
            claims.each(|units| match prepared.stream {
                true => enter(prepared.isa, StreamTiles { job, units }),
                false => {
                    let task = PanelBlocks {
                        job,
                        units,
                        scratch,
                    };
                    enter(prepared.isa, task)
                }
            });
        });
    }
}

/// Work below which another thread costs more than it takes off: products, and activations to prepare.
const FORK_PRODUCTS: usize = 1 << 20;
const FORK_ACTIVATIONS: usize = 1 << 15;

/// How a chunk's activations were prepared.
struct Prepared {
    /// What multiplies them.
    isa: Isa,
    layout: Layout,
    stream: bool,
}

/// Prepares the activations of the rows `rows` in the workspace.
fn prepare(
    isa: Isa,
    pool: &dyn Pool,
    call: &Call<'_>,
    rows: &Range<usize>,
    workspace: &mut Workspace,
) -> Prepared {
    let (grouping, k) = (call.w.grouping(), call.w.k());
    let layout = |isa: Isa, form| Layout::new(form, grouping, k, rows.len(), isa.strip());
    let form = match call.width.qmax() {
        Some(qmax) => Form::Codes { qmax },
        None if isa == Isa::Avx512Bf16 => Form::Pairs,
        None => Form::Floats,
    };
    let first = layout(isa, form);
    if let Form::Codes { qmax } = form
        && rows.len() <= isa.stream_tokens()
    {
        let words = &mut workspace.words[..rows.len() * first.k_padded() / TILE_K * STREAM_WORDS];
        let tokens = &mut workspace.tokens[..rows.len() * call.w.groups()];
        enter(
            isa,
            PrepareStream {
                call,
                qmax,
                rows,
                words,
                tokens,
                gathered: &mut workspace.gathered,
            },
        );
        return Prepared {
            isa,
            layout: first,
            stream: true,
        };
    }
    let mut strips = |isa: Isa, layout: &Layout| {
        let exact = AtomicBool::new(true);
        let words = Disjoint::new(&mut workspace.words);
        let tokens = Disjoint::new(&mut workspace.tokens);
        let gathered = Disjoint::new(&mut workspace.gathered);
        let worth = layout.tokens * k / FORK_ACTIVATIONS;
        let claims = Claims::new(layout.strips, pool.threads(), worth);
        run_pieces(pool, claims.pieces, &|_| {
            let (words, tokens, gathered) = (&words, &tokens, &gathered);
            claims.each(|strips| {
                for strip in strips {
                    let task = PrepareStrip {
                        call,
                        rows,
                        layout,
                        strip,
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
    };
    if strips(isa, &first) {
        return Prepared {
            isa,
            layout: first,
            stream: false,
        };
    }
    // A token with values that BF16 products cannot take exactly: this chunk goes by f32, to the same bits.
    let isa = Isa::Avx512Vnni;
    let layout = layout(isa, Form::Floats);
    strips(isa, &layout);
    Prepared {
        isa,
        layout,
        stream: false,
    }
}

struct PrepareStream<'a> {
    call: &'a Call<'a>,
    qmax: u8,
    rows: &'a Range<usize>,
    words: &'a mut [u32],
    tokens: &'a mut [Token],
    /// At least `[token][k]` if the call has an order.
    gathered: &'a mut [bf16],
}

impl Task for PrepareStream<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<A: Arch>(self) {
        let (grouping, count) = (self.call.w.grouping(), self.rows.len());
        let (k, from) = (self.call.w.k(), self.rows.start);
        if let Some(order) = self.call.order {
            for (token, gathered) in self.gathered.chunks_exact_mut(k).take(count).enumerate() {
                order.gather_row(self.call.x.row(from + token), gathered);
            }
        }
        let row = |token: usize| match self.call.order {
            Some(_) => &self.gathered[token * k..][..k],
            None => self.call.x.row(from + token),
        };
        operand::stream(grouping, self.qmax, count, row, self.words, self.tokens);
    }
}

struct PrepareStrip<'a, 'w> {
    call: &'a Call<'a>,
    rows: &'a Range<usize>,
    layout: &'a Layout,
    strip: usize,
    words: &'a Disjoint<'w, u32>,
    tokens: &'a Disjoint<'w, Token>,
    /// `[token][k]` if the call has an order.
    gathered: &'a Disjoint<'w, bf16>,
}

impl Task for PrepareStrip<'_, '_> {
    type Output = bool;

    #[inline(always)]
    unsafe fn run<A: Arch>(self) -> bool {
        let tokens = self.layout.strip(self.strip);
        let k = self.call.w.k();
        // Called once for each token.
        let row = |token: usize| -> &[bf16] {
            let x = self.call.x.row(self.rows.start + token);
            let Some(order) = self.call.order else {
                return x;
            };
            // SAFETY: each strip is prepared by one thread, and no two tokens share a row.
            let gathered = unsafe { self.gathered.slice(token * k..(token + 1) * k) };
            order.gather_row(x, gathered);
            gathered
        };
        // SAFETY: each strip is prepared by one thread, the words and groups of two strips do not overlap, and
        // `operand::strip` holds one slice at a time.
        let words = |range| unsafe { self.words.slice(range) };
        // SAFETY: as above.
        let groups = |range| unsafe { self.tokens.slice(range) };
        operand::strip(self.layout, tokens, row, words, groups)
    }
}

/// Writes a token's results for the rows `rows` of W.
#[inline(always)]
pub(super) fn write(job: &Job<'_>, token: usize, rows: Range<usize>, acc: &[f32]) {
    let at = token * job.y_stride;
    // SAFETY: only the thread that works on these rows of W writes them, that is these columns of y.
    let y = unsafe { job.y.slice(at + rows.start..at + rows.end) };
    match job.call.bias {
        None => (y.iter_mut().zip(acc)).for_each(|(y, acc)| *y = round_to_bf16(*acc)),
        Some(bias) => {
            for ((y, acc), bias) in y.iter_mut().zip(acc).zip(&bias[rows]) {
                *y = round_to_bf16(acc + bias);
            }
        }
    }
}
