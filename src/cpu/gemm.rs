//! The loops of a GEMM on the CPU, the same for every instruction set.
//!
//! For each chunk of tokens the activations are prepared once, then each thread takes a run of rows of W, which no other
//! writes. Two ways through the weights, each read once a chunk:
//! - **panels**: a block of 32 rows goes through its groups in ascending order: unpack a panel of the group into cache,
//!   multiply it with all tokens strip by strip, rescale into the accumulators;
//! - **stream**, for a few quantised tokens: a tile's words go from memory to registers and meet the codes there.

use super::Isa;
use super::kernel::{Beside, Kernel, STREAM_WORDS, Stream, StreamGroup, Strip, Token};
use super::operand::{self, Form, Layout, share};
use super::pool::Pool;
use super::workspace::{BLOCK_N, Scratch, Workspace};
use crate::numerics::round_to_bf16;
use crate::weights::layout::{TILE_K, TILE_N, Tile};
use crate::{Grouping, MatMut, MatRef, PackedWeight, Precision};
use half::bf16;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// What is asked for.
pub(super) struct Call<'a> {
    pub x: MatRef<'a, bf16>,
    pub w: &'a PackedWeight,
    pub precision: Precision,
    pub bias: Option<&'a [f32]>,
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
            Isa::Scalar => super::scalar::Scalar::enter(task),
            #[cfg(all(target_arch = "x86_64", not(w4ax_portable)))]
            Isa::Avx2 => super::avx2::Avx2::enter(task),
            #[cfg(all(target_arch = "x86_64", not(w4ax_portable)))]
            Isa::Avx512Vnni => super::avx512::Avx512Vnni::enter(task),
            #[cfg(all(target_arch = "x86_64", not(w4ax_portable)))]
            Isa::Avx512Bf16 => super::avx512::Avx512Bf16::enter(task),
            #[cfg(not(all(target_arch = "x86_64", not(w4ax_portable))))]
            _ => unreachable!("only the scalar path is available here"),
        }
    }
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
    #[inline(always)]
    #[allow(clippy::mut_from_ref)] // The contract above is what makes it sound.
    unsafe fn slice(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: in bounds by the assertion, unaliased by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

/// A chunk's work as the threads see it.
struct Job<'a> {
    call: &'a Call<'a>,
    layout: Layout,
    /// As `layout` has them, or `[tile][token][STREAM_WORDS]`.
    words: &'a [u32],
    /// `[group][token]`.
    tokens: &'a [Token],
    /// `[token][n]`, a row `y_stride` after the other.
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
        let pieces = pool.threads().min(workspace.scratch.len()).min(units);
        let scratch = Disjoint::new(&mut workspace.scratch);
        pool.run(pieces, &|piece| {
            let units = share(units, pieces, piece);
            if prepared.stream {
                enter(
                    prepared.isa,
                    StreamTiles {
                        job: &job,
                        tiles: units,
                    },
                );
            } else {
                // SAFETY: each piece runs once, with a scratch of its own.
                let scratch = unsafe { &mut scratch.slice(piece..piece + 1)[0] };
                let blocks = units;
                enter(
                    prepared.isa,
                    PanelBlocks {
                        job: &job,
                        blocks,
                        scratch,
                    },
                );
            }
        });
    }
}

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
    let form = match call.precision.qmax() {
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
        let pieces = pool.threads().min(layout.strips);
        pool.run(pieces, &|piece| {
            for strip in share(layout.strips, pieces, piece) {
                let (words, tokens) = (&words, &tokens);
                let task = PrepareStrip {
                    call,
                    rows,
                    layout,
                    strip,
                    words,
                    tokens,
                };
                if !enter(isa, task) {
                    exact.store(false, Ordering::Relaxed);
                }
            }
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
}

impl Task for PrepareStream<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<A: Arch>(self) {
        let (grouping, count) = (self.call.w.grouping(), self.rows.len());
        let row = |token: usize| self.call.x.row(self.rows.start + token);
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
}

impl Task for PrepareStrip<'_, '_> {
    type Output = bool;

    #[inline(always)]
    unsafe fn run<A: Arch>(self) -> bool {
        let tokens = self.layout.strip(self.strip);
        let row = |token: usize| self.call.x.row(self.rows.start + token);
        // SAFETY: each strip is prepared by one thread, the words and groups of two strips do not meet, and
        // `operand::strip` holds one slice at a time.
        let words = |range| unsafe { self.words.slice(range) };
        // SAFETY: as above.
        let groups = |range| unsafe { self.tokens.slice(range) };
        operand::strip(self.layout, tokens, row, words, groups)
    }
}

/// Blocks of 32 rows of the result.
struct PanelBlocks<'a> {
    job: &'a Job<'a>,
    blocks: Range<usize>,
    scratch: &'a mut Scratch,
}

impl Task for PanelBlocks<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<A: Arch>(self) {
        for block in self.blocks {
            // SAFETY: passed on.
            unsafe {
                match self.job.call.precision {
                    Precision::Bf16 => row_block::<A::Float>(self.job, block, self.scratch),
                    _ => row_block::<A::Integer>(self.job, block, self.scratch),
                }
            }
        }
    }
}

/// 32 rows, all tokens of the job.
///
/// # Safety
/// The machine has the kernel's instruction set.
#[inline(always)]
unsafe fn row_block<K: Kernel>(job: &Job<'_>, block: usize, scratch: &mut Scratch) {
    let (w, layout) = (job.call.w, &job.layout);
    debug_assert!(K::K_PER_WORD == layout.form.k_per_word());
    let (k_tiles, row_tiles) = (w.k().div_ceil(TILE_K), w.n().div_ceil(TILE_N));
    let first = 2 * block;
    let count = (row_tiles - first).min(2);
    let tile = |i: usize, k_tile: usize| {
        if i < count {
            &w.tiles()[(first + i) * k_tiles + k_tile]
        } else {
            &Tile::ZERO
        }
    };
    let acc = &mut scratch.acc[..layout.tokens * BLOCK_N];
    acc.fill(0.0);
    let mut beside = Beside::ZERO;
    for g in 0..w.groups() {
        for i in 0..count {
            let at = ((first + i) * w.groups() + g) * TILE_N;
            // SAFETY: passed on.
            unsafe { K::load(&mut beside, w, at, i * TILE_N) };
        }
        let tokens = &job.tokens[g * layout.tokens..][..layout.tokens];
        let mut resume = false;
        let mut panels = layout.panels(g).peekable();
        while let Some(k) = panels.next() {
            let last = panels.peek().is_none();
            let panel = &mut scratch.panel[..k.len() / K::K_PER_WORD * BLOCK_N];
            for (at, panel) in panel
                .chunks_exact_mut(32 / K::K_PER_WORD * BLOCK_N)
                .enumerate()
            {
                let k = k.start + 32 * at;
                let tiles = [tile(0, k / TILE_K), tile(1, k / TILE_K)];
                // SAFETY: passed on.
                unsafe { K::unpack(tiles, k / 32 % 2, &beside, panel) };
            }
            for strip in 0..layout.strips {
                let range = layout.strip(strip);
                // A group of one panel needs its sums only until they are rescaled: one small buffer stays in L1.
                let slot = if resume || !last { range.start } else { 0 };
                let strip = Strip {
                    panel,
                    x: &job.words[layout.words(k.clone(), range.clone())],
                    tokens: &tokens[range.clone()],
                    beside: &beside,
                    sums: &mut scratch.sums[slot * BLOCK_N..][..range.len() * BLOCK_N],
                    resume,
                    last,
                    acc: &mut acc[range.start * BLOCK_N..range.end * BLOCK_N],
                };
                // SAFETY: passed on.
                unsafe { K::multiply(strip) };
            }
            resume = true;
        }
    }
    let rows = first * TILE_N..w.n().min((first + 2) * TILE_N);
    for (token, acc) in acc.chunks_exact(BLOCK_N).enumerate() {
        write(job, token, rows.clone(), acc);
    }
}

/// Writes a token's results for the rows `rows` of W.
#[inline(always)]
fn write(job: &Job<'_>, token: usize, rows: Range<usize>, acc: &[f32]) {
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

/// Tiles of 16 rows of the result, few tokens.
struct StreamTiles<'a> {
    job: &'a Job<'a>,
    tiles: Range<usize>,
}

impl Task for StreamTiles<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<A: Arch>(self) {
        let (job, split) = (self.job, self.job.call.w.grouping() == Grouping::G32);
        // At most three tokens at a time have room in registers; a tile comes from cache the second time.
        let passes = job.layout.tokens.div_ceil(3);
        for tile in self.tiles {
            for pass in 0..passes {
                let tokens = share(job.layout.tokens, passes, pass);
                // SAFETY: passed on.
                unsafe {
                    match (tokens.len(), split) {
                        (1, false) => row_tile::<A::Stream, 1, 1>(job, tile, tokens),
                        (1, true) => row_tile::<A::Stream, 1, 2>(job, tile, tokens),
                        (2, false) => row_tile::<A::Stream, 2, 1>(job, tile, tokens),
                        (2, true) => row_tile::<A::Stream, 2, 2>(job, tile, tokens),
                        (3, false) => row_tile::<A::Stream, 3, 1>(job, tile, tokens),
                        (3, true) => row_tile::<A::Stream, 3, 2>(job, tile, tokens),
                        _ => unreachable!("three at a time"),
                    }
                }
            }
        }
    }
}

/// 16 rows, `TOKENS` tokens. `HALVES` is 2 where a tile holds two groups.
///
/// # Safety
/// The machine has the instruction set.
#[inline(always)]
unsafe fn row_tile<S: Stream, const TOKENS: usize, const HALVES: usize>(
    job: &Job<'_>,
    tile: usize,
    tokens: Range<usize>,
) {
    let (w, count) = (job.call.w, job.layout.tokens);
    let k_tiles = w.k().div_ceil(TILE_K);
    let tiles = &w.tiles()[tile * k_tiles..][..k_tiles];
    let group_tiles = w.grouping().size().map_or(k_tiles, |g| g.div_ceil(TILE_K));
    let stride = count * STREAM_WORDS;
    let mut acc = [[0f32; TILE_N]; TOKENS];
    for (i, tiles) in tiles.chunks(group_tiles).enumerate() {
        let g = i * HALVES;
        let group =
            |g: usize| (g < w.groups()).then(|| &job.tokens[g * count + tokens.start..][..TOKENS]);
        let of = StreamGroup {
            w,
            at: (tile * w.groups() + g) * TILE_N,
            tiles,
            x: &job.words[i * group_tiles * stride + tokens.start * STREAM_WORDS..],
            stride,
            tokens: [group(g), if HALVES == 2 { group(g + 1) } else { None }],
        };
        // SAFETY: passed on.
        unsafe { S::group::<TOKENS, HALVES>(of, &mut acc) };
    }
    for (token, acc) in tokens.zip(&acc) {
        let rows = tile * TILE_N..w.n().min((tile + 1) * TILE_N);
        write(job, token, rows, acc);
    }
}
