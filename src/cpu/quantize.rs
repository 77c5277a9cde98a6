//! Quantization ahead of several GEMMs, of rows that exist or that a row operation computes.

use super::activations::{ActivationLayout, QuantizedActivations};
use super::rows::{Input, Rows};
use super::{Cpu, host_width};
use crate::weights::MAX_PER_CHANNEL_K;
use crate::{AddRmsNorm, Error, Grouping, MatRef, Result, RmsNorm, SiluMul, Width, WidthSource};
use half::bf16;

impl Cpu {
    /// Allocates memory for quantized activations of up to `max_m` tokens and `max_k` inputs, of
    /// every width and layout.
    ///
    /// It has rows for as many threads as this backend has: a backend with more threads uses only
    /// that many with it.
    ///
    /// # Errors
    /// As [`Cpu::workspace`].
    pub fn quantized_activations(
        &self,
        max_m: usize,
        max_k: usize,
    ) -> Result<QuantizedActivations> {
        QuantizedActivations::new(max_m, max_k, self.pool.threads())
    }

    /// Quantizes `x[M, K]` for every GEMM that reads it with this width and layout, such as those
    /// of q, k and v.
    ///
    /// The layout can be a `&PackedWeight` ([`ActivationLayout::of`]). Allocates as [`Cpu::run`].
    ///
    /// ```
    /// use half::bf16;
    /// use w4ax::{Gemm, Grouping, MatMut, MatRef, Quantize, Width, cpu::Cpu};
    /// # fn main() -> w4ax::Result<()> {
    /// let (m, n, k) = (5, 32, 128);
    /// let pack = |v: f32| Quantize::new(Grouping::G64).pack(MatRef::new(&vec![v; n * k], n, k)?);
    /// let (gate, up) = (pack(0.5)?, pack(0.25)?);
    /// let x: Vec<bf16> = (0..m * k).map(|i| bf16::from_f32((i % 7) as f32)).collect(); // [m, k]
    /// let x = MatRef::new(&x, m, k)?;
    ///
    /// let cpu = Cpu::new()?;
    /// let mut workspace = cpu.workspace(m, k)?;
    /// let mut activations = cpu.quantized_activations(m, k)?;
    /// cpu.quantize(x, Width::A8, &gate, &mut activations)?;
    /// for weight in [&gate, &up] {
    ///     let (mut y, mut expected) = (vec![bf16::ZERO; m * n], vec![bf16::ZERO; m * n]);
    ///     let view = MatMut::new(&mut y, m, n)?;
    ///     cpu.run_quantized(&activations, weight, None, view, &mut workspace)?;
    ///     let view = MatMut::new(&mut expected, m, n)?;
    ///     cpu.run(&Gemm::new(x, weight, Width::A8), view, &mut workspace)?;
    ///     assert_eq!(y, expected);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Range`] for BF16, which is not quantized, for K = 0, and, quantized per token, for
    /// K above [`MAX_PER_CHANNEL_K`]; [`Error::Buffer`] if `activations` are too small;
    /// [`Error::DeviceMismatch`] if the width is that of a latch, which is in device memory.
    pub fn quantize<'w>(
        &self,
        x: MatRef<'_, bf16>,
        width: impl Into<WidthSource<'w>>,
        layout: impl Into<ActivationLayout>,
        activations: &mut QuantizedActivations,
    ) -> Result<()> {
        let shape = (x.rows(), x.cols());
        let input = Input { x, order: None };
        self.fill(&input, shape, width.into(), layout.into(), activations)
    }

    /// Quantizes an RMSNorm, as [`Cpu::rms_norm`] and [`Cpu::quantize`] of its result, with the
    /// same bits. No BF16 row is stored.
    ///
    /// # Errors
    /// As [`Cpu::rms_norm`] and [`Cpu::quantize`]; [`Error::Mismatch`] for a layout of gathered
    /// activations.
    pub fn rms_norm_quantize<'w>(
        &self,
        norm: &RmsNorm<'_>,
        width: impl Into<WidthSource<'w>>,
        layout: impl Into<ActivationLayout>,
        activations: &mut QuantizedActivations,
    ) -> Result<()> {
        let (shape, layout) = (norm.check()?, not_gathered(layout.into())?);
        self.fill(norm, shape, width.into(), layout, activations)
    }

    /// Adds to a hidden state, and quantizes an RMSNorm of the sum, as [`Cpu::add_rms_norm`] and
    /// [`Cpu::quantize`] of its result, with the same bits. No BF16 row is stored.
    ///
    /// # Errors
    /// As [`Cpu::add_rms_norm`] and [`Cpu::quantize`]; [`Error::Mismatch`] for a layout of gathered
    /// activations. Nothing is written then.
    pub fn add_rms_norm_quantize<'w>(
        &self,
        norm: AddRmsNorm<'_>,
        width: impl Into<WidthSource<'w>>,
        layout: impl Into<ActivationLayout>,
        activations: &mut QuantizedActivations,
    ) -> Result<()> {
        let (shape, layout) = (norm.check()?, not_gathered(layout.into())?);
        let width = width.into();
        check_fill(shape, width, layout, activations)?;
        self.fill(&self.add(norm).norm(), shape, width, layout, activations)
    }

    /// Quantizes `silu(gate) * up`, as [`Cpu::silu_mul`] and [`Cpu::quantize`] of its result, with
    /// the same bits. No BF16 row is stored.
    ///
    /// # Errors
    /// As [`Cpu::silu_mul`] and [`Cpu::quantize`]; [`Error::Mismatch`] for a layout of gathered
    /// activations.
    pub fn silu_mul_quantize<'w>(
        &self,
        silu: &SiluMul<'_>,
        width: impl Into<WidthSource<'w>>,
        layout: impl Into<ActivationLayout>,
        activations: &mut QuantizedActivations,
    ) -> Result<()> {
        let (shape, layout) = (silu.check()?, not_gathered(layout.into())?);
        self.fill(silu, shape, width.into(), layout, activations)
    }

    fn fill<R: Rows>(
        &self,
        rows: &R,
        (m, k): (usize, usize),
        width: WidthSource<'_>,
        layout: ActivationLayout,
        activations: &mut QuantizedActivations,
    ) -> Result<()> {
        let width = check_fill((m, k), width, layout, activations)?;
        activations.fill(&self.packing(layout, width, k), rows, m);
        Ok(())
    }
}

/// Checks that activations of a shape can be quantized to `activations`. Returns their width.
fn check_fill(
    (m, k): (usize, usize),
    width: WidthSource<'_>,
    layout: ActivationLayout,
    activations: &QuantizedActivations,
) -> Result<Width> {
    let width = host_width(width)?;
    if width.qmax().is_none() {
        return Err(Error::Range {
            what: "width of quantized activations",
            value: width.to_string(),
            range: "a2, a4, a8",
        });
    }
    if k == 0 || layout.grouping() == Grouping::PerChannel && k > MAX_PER_CHANNEL_K {
        return Err(Error::Range {
            what: "K of quantized activations",
            value: k.to_string(),
            range: "1.. (1..=65536 per token)",
        });
    }
    activations.check_size(m, k)?;
    Ok(width)
}

/// Row operations compute rows in the order of the matrix.
fn not_gathered(layout: ActivationLayout) -> Result<ActivationLayout> {
    if !layout.gathered() {
        return Ok(layout);
    }
    Err(Error::Mismatch {
        what: "layout of a row operation",
        expected: "activations in the order of the matrix".into(),
        got: "gathered activations: quantize the gathered BF16 rows instead".into(),
    })
}
