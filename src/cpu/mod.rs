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
//! cache; for a few quantized tokens the GEMV path multiplies the tiles directly. A two-level weight
//! is a per-channel weight whose panels hold `w8` in place of INT4 values. `gemm.rs` drives
//! the call, `macrokernel.rs` and `gemv.rs` hold the loops, and `arch/` the microkernels of each
//! instruction set. Modules import downwards only:
//!
//! ```text
//! gemm -> { macrokernel, gemv } -> job -> pack -> microkernel -> params
//! gemm -> dispatch -> arch -> microkernel
//! ```
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

mod arch;
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
mod workspace;

pub use dispatch::Isa;
pub use pool::{Pool, Rayon, Serial};
pub use workspace::Workspace;

use crate::gemm::check_shapes;
use crate::{Error, Gemm, MatMut, Result};
use half::bf16;
use job::Call;
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
        if (y.rows(), y.cols()) != (x.rows(), w.n()) {
            let expected = [x.rows(), w.n()];
            return Err(Error::shape("y", expected, [y.rows(), y.cols()]));
        }
        workspace.check(x.rows(), x.cols())?;
        let width = gemm
            .width()
            .on_host()
            .ok_or_else(|| Error::DeviceMismatch {
                what: "width",
                expected: "a width that the CPU can read".into(),
                got: "a latch in device memory".into(),
            })?;
        let order = w.order().filter(|_| !gemm.is_gathered());
        let call = Call {
            x,
            w,
            width,
            bias,
            order,
        };
        gemm::run(self.isa, self.pool.as_ref(), &call, y, workspace);
        Ok(())
    }
}

impl std::fmt::Debug for Cpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cpu")
            .field("isa", &self.isa)
            .field("threads", &self.pool.threads())
            .finish()
    }
}
