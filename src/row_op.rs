//! The row operations whose results are activations of GEMMs: RMSNorm, alone or after a residual
//! connection, and `silu(gate) * up`.
//!
//! A backend computes one of them in two ways, with the same bits ([`crate::numerics`]): to BF16
//! rows, or quantized at once for the GEMMs that read the rows
//! ([`Cpu::rms_norm_quantize`](crate::cpu::Cpu::rms_norm_quantize),
//! [`Cpu::silu_mul_quantize`](crate::cpu::Cpu::silu_mul_quantize)).

use crate::{Error, MatMut, MatRef, Result};
use half::bf16;

/// The rows that an RMSNorm reads, `[M, K]`: the hidden state of a decoder.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum HiddenState<'a> {
    /// In BF16.
    Bf16(MatRef<'a, bf16>),
    /// In f32.
    F32(MatRef<'a, f32>),
}

impl HiddenState<'_> {
    /// Returns M and K.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Self::Bf16(x) => (x.rows(), x.cols()),
            Self::F32(x) => (x.rows(), x.cols()),
        }
    }
}

impl<'a> From<MatRef<'a, bf16>> for HiddenState<'a> {
    fn from(x: MatRef<'a, bf16>) -> Self {
        Self::Bf16(x)
    }
}

impl<'a> From<MatRef<'a, f32>> for HiddenState<'a> {
    fn from(x: MatRef<'a, f32>) -> Self {
        Self::F32(x)
    }
}

/// An RMSNorm, `y = x / sqrt(mean(x^2) + eps) * weight` of each row of `x[M, K]`.
#[derive(Clone, Copy, Debug)]
pub struct RmsNorm<'a> {
    x: HiddenState<'a>,
    weight: &'a [bf16],
    eps: f32,
}

impl<'a> RmsNorm<'a> {
    /// An RMSNorm of `x[M, K]`, BF16 or f32, with `weight[K]`.
    ///
    /// Shapes and `eps` are checked when it runs.
    pub fn new(x: impl Into<HiddenState<'a>>, weight: &'a [bf16], eps: f32) -> Self {
        let x = x.into();
        Self { x, weight, eps }
    }

    pub(crate) fn x(&self) -> HiddenState<'a> {
        self.x
    }

    pub(crate) fn weight(&self) -> &'a [bf16] {
        self.weight
    }

    pub(crate) fn eps(&self) -> f32 {
        self.eps
    }

    /// Returns M and K.
    ///
    /// # Errors
    /// [`Error::Shape`] if the weight does not have K values, [`Error::Range`] if `eps` is not
    /// positive and finite.
    pub(crate) fn check(&self) -> Result<(usize, usize)> {
        let (m, k) = self.x.shape();
        check_weight(self.weight, k)?;
        check_eps(self.eps)?;
        Ok((m, k))
    }
}

/// The rows that an [`AddRmsNorm`] reads and writes, `[M, K]`: the hidden state of a decoder.
#[derive(Debug)]
#[non_exhaustive]
pub enum HiddenStateMut<'a> {
    /// In BF16.
    Bf16(MatMut<'a, bf16>),
    /// In f32.
    F32(MatMut<'a, f32>),
}

impl<'a> From<MatMut<'a, bf16>> for HiddenStateMut<'a> {
    fn from(x: MatMut<'a, bf16>) -> Self {
        Self::Bf16(x)
    }
}

impl<'a> From<MatMut<'a, f32>> for HiddenStateMut<'a> {
    fn from(x: MatMut<'a, f32>) -> Self {
        Self::F32(x)
    }
}

/// A residual connection and the RMSNorm after it: `x += addend`, then `y = x / sqrt(mean(x^2) +
/// eps) * weight` of each row of `x[M, K]`.
#[derive(Debug)]
pub struct AddRmsNorm<'a> {
    x: HiddenStateMut<'a>,
    addend: MatRef<'a, bf16>,
    weight: &'a [bf16],
    eps: f32,
}

impl<'a> AddRmsNorm<'a> {
    /// An RMSNorm of `x[M, K]`, BF16 or f32, with `weight[K]`, after `addend[M, K]` has been added
    /// to x.
    ///
    /// Shapes and `eps` are checked when it runs.
    pub fn new(
        x: impl Into<HiddenStateMut<'a>>,
        addend: MatRef<'a, bf16>,
        weight: &'a [bf16],
        eps: f32,
    ) -> Self {
        let x = x.into();
        Self {
            x,
            addend,
            weight,
            eps,
        }
    }

    /// Returns M and K.
    ///
    /// # Errors
    /// [`Error::Shape`] if the addend does not have the shape of x or the weight not K values,
    /// [`Error::Range`] if `eps` is not positive and finite.
    pub(crate) fn check(&self) -> Result<(usize, usize)> {
        let (m, k) = match &self.x {
            HiddenStateMut::Bf16(x) => (x.rows(), x.cols()),
            HiddenStateMut::F32(x) => (x.rows(), x.cols()),
        };
        let got = [self.addend.rows(), self.addend.cols()];
        if got != [m, k] {
            return Err(Error::shape("addend", [m, k], got));
        }
        check_weight(self.weight, k)?;
        check_eps(self.eps)?;
        Ok((m, k))
    }

    /// Calls `add` with x and the addend. [`AddRmsNorm::check`] has passed.
    pub(crate) fn added(
        mut self,
        add: impl FnOnce(&mut HiddenStateMut<'a>, MatRef<'a, bf16>),
    ) -> Added<'a> {
        add(&mut self.x, self.addend);
        Added(self)
    }
}

/// An [`AddRmsNorm`] whose addend has been added.
pub(crate) struct Added<'a>(AddRmsNorm<'a>);

impl Added<'_> {
    /// Returns the RMSNorm of the sum.
    pub fn norm(&self) -> RmsNorm<'_> {
        let x = match &self.0.x {
            HiddenStateMut::Bf16(x) => HiddenState::Bf16(x.as_ref()),
            HiddenStateMut::F32(x) => HiddenState::F32(x.as_ref()),
        };
        RmsNorm::new(x, self.0.weight, self.0.eps)
    }
}

/// Checks that the weight of an RMSNorm has K values.
fn check_weight(weight: &[bf16], k: usize) -> Result<()> {
    match weight.len() == k {
        true => Ok(()),
        false => Err(Error::shape("weight of an RMSNorm", [k], [weight.len()])),
    }
}

/// Checks that the `eps` of an RMSNorm is positive and finite.
pub(crate) fn check_eps(eps: f32) -> Result<()> {
    if eps.is_finite() && eps > 0.0 {
        return Ok(());
    }
    Err(Error::Range {
        what: "eps of an RMSNorm",
        value: eps.to_string(),
        range: "positive and finite",
    })
}

/// `y = silu(gate) * up` of `gate[M, K]` and `up[M, K]`, with `silu(x) = x / (1 + e^-x)`.
#[derive(Clone, Copy, Debug)]
pub struct SiluMul<'a> {
    gate: MatRef<'a, bf16>,
    up: MatRef<'a, bf16>,
}

impl<'a> SiluMul<'a> {
    /// The product of `silu(gate[M, K])` and `up[M, K]`.
    ///
    /// The shapes are checked when it runs.
    pub fn new(gate: MatRef<'a, bf16>, up: MatRef<'a, bf16>) -> Self {
        Self { gate, up }
    }

    pub(crate) fn gate(&self) -> MatRef<'a, bf16> {
        self.gate
    }

    pub(crate) fn up(&self) -> MatRef<'a, bf16> {
        self.up
    }

    /// Returns M and K.
    ///
    /// # Errors
    /// [`Error::Shape`] if `up` does not have the shape of `gate`.
    pub(crate) fn check(&self) -> Result<(usize, usize)> {
        let shape = (self.gate.rows(), self.gate.cols());
        let got = [self.up.rows(), self.up.cols()];
        if <[usize; 2]>::from(shape) != got {
            return Err(Error::shape("up", <[usize; 2]>::from(shape), got));
        }
        Ok(shape)
    }
}
