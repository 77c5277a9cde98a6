//! The CPU backend: GEMMs that read the packed tiles of W.
//!
//! # Order of calls
//! [`Cpu::new`], then [`Cpu::workspace`] once, then [`Cpu::run`] for each [`Gemm`].
//!
//! # Data flow
//! ```text
//! x --pack--> micro-panels [MR tokens] --+
//!                                        +--> microkernel --> group sums --> accumulators --> y
//! W --unpack--> panels [KC k][NR rows] --+
//! ```
//!
//! The vocabulary is that of BLIS (Van Zee and van de Geijn, ACM TOMS 41(3), 2015). Activations are
//! quantized, or widened, and packed once per call. Weights are unpacked into panels that stay in
//! cache; for a few quantized tokens the GEMV path multiplies the tiles directly. A two-level
//! weight is a per-channel weight whose panels hold `w8` in place of INT4 values. `gemm.rs` drives
//! the call, `macrokernel.rs` and `gemv.rs` hold the loops, and `arch/` the microkernels of each
//! instruction set. Modules import downwards only:
//!
//! ```text
//! gemm -> { macrokernel, gemv } -> job -> pack -> microkernel -> params
//! gemm -> chunk -> { pack, rows }
//! gemm -> dispatch -> arch -> microkernel
//! ```
//!
//! # Activations of several GEMMs
//! [`Cpu::quantize`] packs x once for all GEMMs that read it, and [`Cpu::run_quantized`] computes
//! one of them. [`Cpu::rms_norm_quantize`] and [`Cpu::silu_mul_quantize`] compute x too, one row at
//! a time, so that no row of x is stored. Their unfused counterparts are [`Cpu::rms_norm`] and
//! [`Cpu::silu_mul`]; both ways have the same bits. In [`Cpu::add_rms_norm`] and
//! [`Cpu::add_rms_norm_quantize`] a residual connection comes first.
//!
//! # Results
//! Every instruction set computes the bits of [`crate::numerics`], whatever the number of threads.
//!
//! # Failure
//! Shapes are checked before anything is written. The instruction set is checked when a [`Cpu`] is
//! made.
//!
//! # Cost
//! A call allocates nothing (see [`Cpu::run`] for pools). Each chunk of [`Workspace::MAX_CHUNK`]
//! tokens reads W once.

mod activations;
mod arch;
mod chunk;
mod dispatch;
mod gemm;
mod gemv;
mod job;
mod macrokernel;
mod microkernel;
mod pack;
mod params;
mod partition;
mod pool;
mod quantize;
mod row_op;
mod rows;
mod workspace;

pub use activations::{ActivationLayout, QuantizedActivations};
pub use dispatch::Isa;
pub use pool::{Pool, Rayon, Serial};
pub use workspace::Workspace;

use crate::gemm::{check_bias, check_shapes};
use crate::{Error, Gemm, MatMut, PackedWeight, Result, Width, WidthSource};
use chunk::Packing;
use half::bf16;
use job::Call;
use rows::Input;
use std::sync::Arc;

/// The CPU backend: an instruction set and a pool of threads.
///
/// ```
/// use half::bf16;
/// use w4ax::{Gemm, Grouping, MatMut, MatRef, Width, Quantize, cpu::Cpu};
/// # fn main() -> w4ax::Result<()> {
/// let (m, n, k) = (3, 100, 300);
/// let plain: Vec<f32> = (0..n * k).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect();
/// let weight = Quantize::new(Grouping::G64).pack(MatRef::new(&plain, n, k)?)?;
///
/// let cpu = Cpu::new()?;
/// let mut workspace = cpu.workspace(m, k)?;
/// let x = vec![bf16::from_f32(0.25); m * k]; // [m, k]
/// let mut y = vec![bf16::ZERO; m * n]; // [m, n]
/// let gemm = Gemm::new(MatRef::new(&x, m, k)?, &weight, Width::A8);
/// cpu.run(&gemm, MatMut::new(&mut y, m, n)?, &mut workspace)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Cpu {
    isa: Isa,
    pool: Arc<dyn Pool>,
}

impl Cpu {
    /// A backend with the fastest instruction set of this machine, and rayon's current pool.
    ///
    /// The environment variable `W4AX_CPU` selects another instruction set: `scalar`, `avx2`,
    /// `avx512vnni` or `avx512bf16`.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if `W4AX_CPU` names an instruction set that this machine, or this
    /// crate, does not support.
    pub fn new() -> Result<Self> {
        Ok(Self {
            isa: Isa::from_env()?,
            pool: Arc::new(Rayon),
        })
    }

    /// A backend with a given instruction set, and rayon's current pool.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if this machine does not support it.
    pub fn with_isa(isa: Isa) -> Result<Self> {
        isa.check()?;
        Ok(Self {
            isa,
            pool: Arc::new(Rayon),
        })
    }

    /// The same backend on another pool: [`Serial`], [`Rayon`], a `rayon::ThreadPool` or a pool of
    /// the caller.
    pub fn with_pool(mut self, pool: impl Pool + 'static) -> Self {
        self.pool = Arc::new(pool);
        self
    }

    /// Returns the instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Allocates the scratch memory for GEMMs with up to `max_m` tokens and `max_k` inputs, any N.
    ///
    /// Its size is bounded in M: a GEMM with more than [`Workspace::MAX_CHUNK`] tokens runs in
    /// chunks. It has scratch memory for as many threads as this backend has: a backend with more
    /// threads uses only that many with it.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the allocation fails or the sizes do not fit the address space.
    pub fn workspace(&self, max_m: usize, max_k: usize) -> Result<Workspace> {
        Workspace::new(max_m, max_k, self.pool.threads())
    }

    /// Computes `y[M, N] = x[M, K] * W[N, K]^T + bias[N]` with the arithmetic of
    /// [`crate::numerics`].
    ///
    /// Reads the width's flag, if it has one, when it is called. Only the [`Pool`] allocates:
    /// [`Rayon`] called from outside of its pool allocates a few bytes for each piece but the
    /// first. M = 0 is allowed and does nothing.
    ///
    /// # Errors
    /// [`Error::Shape`] if `x` does not have K columns, `y` is not `[M, N]` or `bias` does not have
    /// N values; [`Error::Buffer`] if the workspace was made for fewer tokens or inputs;
    /// [`Error::DeviceMismatch`] if the width is that of a latch, which is in device memory.
    pub fn run(
        &self,
        gemm: &Gemm<'_>,
        y: MatMut<'_, bf16>,
        workspace: &mut Workspace,
    ) -> Result<()> {
        let (x, w, bias) = (gemm.x(), gemm.weight(), gemm.bias_values());
        check_shapes(&x, w, bias)?;
        check_y(&y, [x.rows(), w.n()])?;
        workspace.check(x.rows(), x.cols())?;
        let width = host_width(gemm.width())?;
        let order = w.order().filter(|_| !gemm.is_gathered());
        let packing = self.packing(ActivationLayout::of(w), width, w.k());
        let call = Call { w, width, bias };
        gemm::run(&packing, &call, &Input { x, order }, y, workspace);
        Ok(())
    }

    /// Computes `y[M, N] = x[M, K] * W[N, K]^T + bias[N]` of quantized activations, with the bits
    /// that [`Cpu::run`] computes from the BF16 rows at their width.
    ///
    /// Allocates as [`Cpu::run`]. M is that of the activations.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the activations are empty, or were quantized for other groups,
    /// another arithmetic or another order of k than those of the weight, or by another
    /// instruction set; otherwise as [`Cpu::run`].
    pub fn run_quantized(
        &self,
        activations: &QuantizedActivations,
        weight: &PackedWeight,
        bias: Option<&[f32]>,
        y: MatMut<'_, bf16>,
        workspace: &mut Workspace,
    ) -> Result<()> {
        let (m, width) = activations.check_weight(self.isa, weight)?;
        check_bias(weight, bias)?;
        check_y(&y, [m, weight.n()])?;
        workspace.check(m, weight.k())?;
        let packing = self.packing(ActivationLayout::of(weight), width, weight.k());
        let w = weight;
        let call = Call { w, width, bias };
        gemm::run_quantized(&packing, &call, activations, y, workspace);
        Ok(())
    }

    fn packing(&self, layout: ActivationLayout, width: Width, k: usize) -> Packing<'_> {
        Packing {
            isa: self.isa,
            pool: self.pool.as_ref(),
            layout,
            width,
            k,
        }
    }
}

/// Reads a width that is on the host.
///
/// # Errors
/// [`Error::DeviceMismatch`] for that of a latch.
fn host_width(width: WidthSource<'_>) -> Result<Width> {
    width.on_host().ok_or_else(|| Error::DeviceMismatch {
        what: "width",
        expected: "a width that the CPU can read".into(),
        got: "a latch in device memory".into(),
    })
}

/// Checks that y has the shape of a result.
fn check_y(y: &MatMut<'_, bf16>, expected: [usize; 2]) -> Result<()> {
    let got = [y.rows(), y.cols()];
    if got == expected {
        return Ok(());
    }
    Err(Error::shape("y", expected, got))
}

impl std::fmt::Debug for Cpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cpu")
            .field("isa", &self.isa)
            .field("threads", &self.pool.threads())
            .finish()
    }
}
