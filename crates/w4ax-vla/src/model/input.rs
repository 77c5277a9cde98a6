//! The input of linear layers: rows, or rows that are quantized once for all layers that read them.

use super::AnyLinear;
use crate::{Result, ops};
use candle_core::{DType, Tensor};
use w4ax::Width;
use w4ax::candle::{Linear, QuantizedInput};

/// The input of some linear layers.
pub(super) enum LinearInput {
    /// `[M, K]`. A packed layer quantizes them itself.
    Rows(Tensor),
    /// Quantized once at the width of the pass.
    Quantized(QuantizedInput),
}

impl LinearInput {
    /// Returns RMSNorm of `x[M, K]`, quantized at once if all layers can read it.
    pub fn rms_norm(
        x: &Tensor,
        weight: &Tensor,
        eps: f64,
        layers: &[&AnyLinear],
        width: Width,
    ) -> Result<Self> {
        match sharing(layers, width, x.dtype()) {
            Some(layer) => Ok(Self::Quantized(layer.rms_norm_quantize(
                &x.contiguous()?,
                weight,
                eps,
                width,
            )?)),
            None => Ok(Self::Rows(ops::rms_norm(x, weight, eps)?)),
        }
    }

    /// Returns the type in which [`LinearInput::add_rms_norm`] reads the result of `of`: BF16 if it
    /// adds and quantizes for the layers at once, otherwise that of the hidden state.
    pub fn addend_type(
        of: &AnyLinear,
        layers: &[&AnyLinear],
        width: Width,
        hidden: DType,
    ) -> DType {
        match (of, sharing(layers, width, hidden)) {
            (AnyLinear::Packed(_), Some(_)) => DType::BF16,
            _ => hidden,
        }
    }

    /// Returns `h = x + addend` of `[M, K]`, with the addend in the type of
    /// [`LinearInput::addend_type`], and RMSNorm of `h` as [`LinearInput::rms_norm`].
    pub fn add_rms_norm(
        x: &Tensor,
        addend: &Tensor,
        (weight, eps): (&Tensor, f64),
        layers: &[&AnyLinear],
        width: Width,
    ) -> Result<(Tensor, Self)> {
        match sharing(layers, width, x.dtype()) {
            Some(layer) if addend.dtype() == DType::BF16 => {
                let (x, addend) = (x.contiguous()?, addend.contiguous()?);
                let (sum, input) = layer.add_rms_norm_quantize(&x, &addend, weight, eps, width)?;
                Ok((sum, Self::Quantized(input)))
            }
            _ => {
                let sum = (x + addend)?;
                let input = Self::rms_norm(&sum, weight, eps, layers, width)?;
                Ok((sum, input))
            }
        }
    }

    /// Returns the type in which [`LinearInput::swiglu`] reads the results of gate and up: BF16 if
    /// it quantizes them for down, otherwise that of the hidden state. Results of packed layers are
    /// exact in BF16.
    pub fn swiglu_type([gate, up, down]: [&AnyLinear; 3], width: Width, hidden: DType) -> DType {
        let packed = |layer| matches!(layer, &AnyLinear::Packed(_));
        match sharing(&[down], width, hidden) {
            Some(_) if packed(gate) && packed(up) => DType::BF16,
            _ => hidden,
        }
    }

    /// Returns `silu(gate) * up` of `[M, K]`, in the type of [`LinearInput::swiglu_type`],
    /// quantized at once if the layer can read it.
    pub fn swiglu(
        gate: &Tensor,
        up: &Tensor,
        layer: &AnyLinear,
        width: Width,
        hidden: DType,
    ) -> Result<Self> {
        match sharing(&[layer], width, hidden) {
            Some(layer) if gate.dtype() == DType::BF16 => {
                let input = layer.silu_mul_quantize(gate, up, width)?;
                Ok(Self::Quantized(input))
            }
            _ => Ok(Self::Rows(ops::swiglu(gate, up)?)),
        }
    }

    /// Returns `y[M, N]` of a layer in the type `dtype`.
    pub fn forward(&self, layer: &AnyLinear, width: Width, dtype: DType) -> Result<Tensor> {
        match (self, layer) {
            (Self::Quantized(input), AnyLinear::Packed(layer)) => {
                ops::cast(&layer.forward_quantized(input)?, dtype)
            }
            (Self::Rows(x), layer) => ops::cast(&layer.forward_at(x, width)?, dtype),
            (Self::Quantized(_), AnyLinear::Plain(_)) => {
                unreachable!("only packed layers share a quantized input")
            }
        }
    }
}

/// Returns the first of the layers if all of them are packed and can share a quantized input.
///
/// The hidden state of packed layers is F32. In BF16 the reference rounds in between, which the
/// fused operations do not.
fn sharing<'a>(layers: &[&'a AnyLinear], width: Width, hidden: DType) -> Option<&'a Linear> {
    let AnyLinear::Packed(first) = layers.first()? else {
        return None;
    };
    let shares = |layer: &&AnyLinear| match layer {
        AnyLinear::Packed(layer) => first.shares_input(layer),
        AnyLinear::Plain(_) => false,
    };
    let quantized = width != Width::Bf16 && hidden == DType::F32;
    (quantized && layers.iter().all(shares)).then_some(first)
}
