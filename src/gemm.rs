//! The description of a GEMM on the host.

use crate::{Error, MatRef, PackedWeight, Result, WidthSource};
use half::bf16;

/// One GEMM, `y[M, N] = x[M, K] * W[N, K]^T + bias[N]`: its operands and the width of its
/// activations.
///
/// [`Cpu::run`](crate::cpu::Cpu::run) computes it. `cuda::Gemm` is the same description for
/// operands in device memory.
///
/// ```
/// use half::bf16;
/// use w4ax::{Gemm, Grouping, MatMut, MatRef, Quantize, Width, cpu::Cpu};
/// # fn main() -> w4ax::Result<()> {
/// let (m, n, k) = (3, 100, 300);
/// let plain: Vec<f32> = (0..n * k).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect(); // [n, k]
/// let weight = Quantize::new(Grouping::G64).pack(MatRef::new(&plain, n, k)?)?;
/// let (x, bias) = (vec![bf16::ONE; m * k], vec![0.5; n]); // [m, k], [n]
/// let mut y = vec![bf16::ZERO; m * n]; // [m, n]
///
/// let cpu = Cpu::new()?;
/// let mut workspace = cpu.workspace(m, k)?;
/// let gemm = Gemm::new(MatRef::new(&x, m, k)?, &weight, Width::A8).bias(&bias[..]);
/// cpu.run(&gemm, MatMut::new(&mut y, m, n)?, &mut workspace)?;
/// # Ok(())
/// # }
/// ```
///
/// # Weights in another order of k
/// `x` is in the order of the matrix, whatever the order of the weight is
/// ([`PackedWeight::order`]): the backend gathers `x` into its workspace. GEMMs that share an input
/// and an order can share one gather:
///
/// ```
/// # use half::bf16;
/// # use w4ax::{Gemm, Grouping, KOrder, MatMut, MatRef, Quantize, Width, cpu::Cpu};
/// # fn main() -> w4ax::Result<()> {
/// # let (m, n, k) = (1, 16, 64);
/// # let plain = vec![0.5f32; n * k];
/// # let order = KOrder::new((0..k as u32).rev().collect())?;
/// # let quantize = Quantize::new(Grouping::G32);
/// # let pack = || quantize.pack(MatRef::new(&plain, n, k)?)?.with_order(order.clone());
/// # let (gate, up) = (pack()?, pack()?);
/// # let x = vec![bf16::ONE; m * k];
/// # let x = MatRef::new(&x, m, k)?;
/// # let (mut y_gate, mut y_up) = (vec![bf16::ZERO; m * n], vec![bf16::ZERO; m * n]);
/// # let cpu = Cpu::new()?;
/// # let mut workspace = cpu.workspace(m, k)?;
/// let mut gathered = vec![bf16::ZERO; m * k]; // [m, k]
/// order.gather(x, MatMut::new(&mut gathered, m, k)?)?;
/// let x = MatRef::new(&gathered, m, k)?;
/// for (weight, y) in [(&gate, &mut y_gate), (&up, &mut y_up)] {
///     cpu.run(&Gemm::gathered(x, weight, Width::A8), MatMut::new(y, m, n)?, &mut workspace)?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Gemm<'a> {
    x: MatRef<'a, bf16>,
    weight: &'a PackedWeight,
    width: WidthSource<'a>,
    bias: Option<&'a [f32]>,
    gathered: bool,
}

impl<'a> Gemm<'a> {
    /// A GEMM of `x[M, K]` with `weight[N, K]`, without a bias.
    ///
    /// The shapes are checked when the GEMM runs.
    pub fn new(
        x: MatRef<'a, bf16>,
        weight: &'a PackedWeight,
        width: impl Into<WidthSource<'a>>,
    ) -> Self {
        Self {
            x,
            weight,
            width: width.into(),
            bias: None,
            gathered: false,
        }
    }

    /// A GEMM whose `x[M, K]` is already in the weight's order of k
    /// ([`KOrder::gather`](crate::KOrder::gather)).
    ///
    /// Equal to [`Gemm::new`] for a weight without an order.
    pub fn gathered(
        x: MatRef<'a, bf16>,
        weight: &'a PackedWeight,
        width: impl Into<WidthSource<'a>>,
    ) -> Self {
        Self {
            gathered: true,
            ..Self::new(x, weight, width)
        }
    }

    /// Adds `bias[N]` in f32 before the result is rounded. `None` removes the bias.
    pub fn bias(self, bias: impl Into<Option<&'a [f32]>>) -> Self {
        Self {
            bias: bias.into(),
            ..self
        }
    }

    pub(crate) fn x(&self) -> MatRef<'a, bf16> {
        self.x
    }

    pub(crate) fn weight(&self) -> &'a PackedWeight {
        self.weight
    }

    pub(crate) fn width(&self) -> WidthSource<'a> {
        self.width
    }

    pub(crate) fn bias_values(&self) -> Option<&'a [f32]> {
        self.bias
    }

    /// Whether `x` is in the weight's order of k already.
    pub(crate) fn is_gathered(&self) -> bool {
        self.gathered
    }
}

/// Checks that x and bias fit W.
///
/// # Errors
/// [`Error::Shape`] if `x` does not have K columns or `bias` does not have N values.
pub(crate) fn check_shapes(
    x: &MatRef<'_, bf16>,
    w: &PackedWeight,
    bias: Option<&[f32]>,
) -> Result<()> {
    if x.cols() != w.k() {
        return Err(Error::shape("x", [x.rows(), w.k()], [x.rows(), x.cols()]));
    }
    check_bias(w, bias)
}

/// Checks that bias fits W.
///
/// # Errors
/// [`Error::Shape`] if `bias` does not have N values.
pub(crate) fn check_bias(w: &PackedWeight, bias: Option<&[f32]>) -> Result<()> {
    match bias {
        Some(bias) if bias.len() != w.n() => Err(Error::shape("bias", [w.n()], [bias.len()])),
        _ => Ok(()),
    }
}
