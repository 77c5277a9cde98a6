//! The CPU backend: GEMMs that read the packed tiles as they are.
//!
//! Data flows `x -> operand (activations quantized or widened, once a call, in the order that the kernels read) -> panels
//! (a group's weights of 32 rows, unpacked in cache) or, for a few tokens, the tiles themselves -> accumulators -> y`. One
//! driver (`gemm.rs`, `panels.rs`, `stream.rs`) owns the loops; an instruction set brings the inner steps (`kernel.rs`). The bits are those of
//! [`crate::numerics`] from each of them.

#[cfg(all(target_arch = "x86_64", not(w4ax_portable)))]
mod avx2;
#[cfg(all(target_arch = "x86_64", not(w4ax_portable)))]
mod avx512;
mod gemm;
mod isa;
mod kernel;
mod operand;
mod panels;
mod pool;
mod scalar;
mod share;
mod stream;
mod workspace;

pub use isa::Isa;
pub use pool::{Pool, Rayon, Serial};
pub use workspace::Workspace;

use crate::matrix::check_shapes;
use crate::weights::ActOrderWeight;
use crate::{Error, MatMut, MatRef, PackedWeight, Result, Width};
use half::bf16;
use std::sync::Arc;

/// The CPU backend: an instruction set and a pool of threads.
///
/// ```
/// use half::bf16;
/// use w4ax::{Grouping, MatMut, MatRef, Width, Quantize, cpu::Cpu};
/// # fn main() -> w4ax::Result<()> {
/// let (m, n, k) = (3, 100, 300);
/// let plain: Vec<f32> = (0..n * k).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect();
/// let weight = Quantize::new(Grouping::G64).pack(MatRef::new(&plain, n, k)?)?;
///
/// let cpu = Cpu::new()?;
/// let mut workspace = cpu.workspace(m, k);
/// let x = vec![bf16::from_f32(0.25); m * k];
/// let mut y = vec![bf16::ZERO; m * n];
/// cpu.gemm(
///     MatRef::new(&x, m, k)?,
///     &weight,
///     Width::A8,
///     None,
///     MatMut::new(&mut y, m, n)?,
///     &mut workspace,
/// )?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Cpu {
    isa: Isa,
    pool: Arc<dyn Pool>,
}

impl Cpu {
    /// The best instruction set of this machine, or the one that the environment variable `W4AX_CPU` names
    /// (`scalar`, `avx2`, `avx512vnni` or `avx512bf16`), with rayon's current pool.
    ///
    /// # Errors
    /// [`Error::Backend`] if `W4AX_CPU` names one that this machine (or this crate) has not.
    pub fn new() -> Result<Self> {
        Ok(Self {
            isa: Isa::from_env()?,
            pool: Arc::new(Rayon),
        })
    }

    /// One given instruction set, with rayon's current pool.
    ///
    /// # Errors
    /// [`Error::Backend`] if this machine has it not.
    pub fn with_isa(isa: Isa) -> Result<Self> {
        isa.check()?;
        Ok(Self {
            isa,
            pool: Arc::new(Rayon),
        })
    }

    /// The same backend on another pool: [`Serial`], [`Rayon`], a `rayon::ThreadPool` or one of the caller's.
    pub fn with_pool(mut self, pool: impl Pool + 'static) -> Self {
        self.pool = Arc::new(pool);
        self
    }

    /// The instruction set that really runs.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The scratch memory for calls with up to `max_m` tokens and `max_k` inputs, any N.
    ///
    /// It is bounded in M: more than [`Workspace::MAX_CHUNK`] tokens are worked off in chunks.
    ///
    /// It has scratch memory for as many threads as this backend has: another one with more runs on so many of them.
    ///
    /// # Panics
    /// If there is not the memory: [`Cpu::try_workspace`] answers an error.
    pub fn workspace(&self, max_m: usize, max_k: usize) -> Workspace {
        match self.try_workspace(max_m, max_k) {
            Ok(workspace) => workspace,
            Err(error) => panic!("{error}"),
        }
    }

    /// [`Cpu::workspace`], for sizes that somebody else gives.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if there is not the memory, or the sizes do not fit the address space.
    pub fn try_workspace(&self, max_m: usize, max_k: usize) -> Result<Workspace> {
        Workspace::try_new(max_m, max_k, self.pool.threads())
    }

    /// `y[M, N] = x[M, K] * W[N, K]^T + bias[N]`, activations quantized at the given width ([`crate::numerics`]).
    ///
    /// Nothing is allocated but what the [`Pool`] does: [`Rayon`] called from outside of its pool, a few bytes for each piece but
    /// the first. M = 0 is allowed and does nothing.
    ///
    /// # Errors
    /// [`Error::Shape`] if x has not K columns, y is not `[M, N]` or `bias` has not N values; [`Error::Buffer`] if the
    /// workspace was made for fewer tokens or inputs.
    pub fn gemm(
        &self,
        x: MatRef<'_, bf16>,
        w: &PackedWeight,
        width: Width,
        bias: Option<&[f32]>,
        y: MatMut<'_, bf16>,
        workspace: &mut Workspace,
    ) -> Result<()> {
        check_shapes(&x, w, bias)?;
        if (y.rows(), y.cols()) != (x.rows(), w.n()) {
            return Err(Error::Shape {
                what: "y",
                expected: format!("[{}, {}]", x.rows(), w.n()),
                got: format!("[{}, {}]", y.rows(), y.cols()),
            });
        }
        workspace.check(x.rows(), x.cols())?;
        let call = gemm::Call { x, w, width, bias };
        gemm::run(self.isa, self.pool.as_ref(), &call, y, workspace);
        Ok(())
    }

    /// [`Cpu::gemm`] with a weight whose k are in another order (GPTQ's `desc_act`): gathers x into `gathered` first.
    ///
    /// `gathered` is scratch memory of at least `M * K` elements. Allocates as [`Cpu::gemm`] does.
    ///
    /// # Errors
    /// [`Error::Buffer`] if `gathered` is too short; as [`Cpu::gemm`] else.
    #[allow(clippy::too_many_arguments)] // gemm's, and the scratch memory.
    pub fn gemm_act_order(
        &self,
        x: MatRef<'_, bf16>,
        w: &ActOrderWeight,
        width: Width,
        bias: Option<&[f32]>,
        y: MatMut<'_, bf16>,
        gathered: &mut [bf16],
        workspace: &mut Workspace,
    ) -> Result<()> {
        let (m, k) = (x.rows(), x.cols());
        w.order().gather(x, MatMut::new(gathered, m, k)?)?;
        let x = MatRef::new(gathered, m, k)?;
        self.gemm(x, w.weight(), width, bias, y, workspace)
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
