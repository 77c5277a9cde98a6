//! The types of weights and activations.

use crate::checkpoint::{StoredWeight, WeightSource, pack};
use crate::{Result, VlaError};
use candle_core::{DType, Tensor};
use w4ax::Quantize;

/// The types that a model computes in.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Numerics {
    /// The weights of the language model are packed INT4, and the activations of its linear layers
    /// have the width of the step. Plain weights are quantized as given; weights that are packed
    /// already keep their values. The hidden state is F32. Vision towers, projector and heads are
    /// BF16.
    Quantized(Quantize),
    /// Unquantized, as the model is deployed: weights and activations are BF16, sums are F32.
    Bf16,
    /// Unquantized: the stored weights, and F32 for everything else. The oracle of the checks.
    F32,
}

impl Numerics {
    /// Returns the type of the hidden state of the language model.
    pub(super) fn hidden_type(self) -> DType {
        match self {
            Self::Bf16 => DType::BF16,
            Self::F32 | Self::Quantized(_) => DType::F32,
        }
    }

    /// Returns the type of the activations of vision towers, projector and heads, and of the cache.
    pub(super) fn plain_type(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 | Self::Quantized(_) => DType::BF16,
        }
    }

    /// Returns how plain weights are quantized, if they are.
    pub(super) fn quantize(self) -> Option<Quantize> {
        match self {
            Self::Quantized(quantize) => Some(quantize),
            Self::Bf16 | Self::F32 => None,
        }
    }
}

/// A source whose weights have the types of a model.
pub(super) struct TypedSource<'a> {
    pub source: &'a dyn WeightSource,
    pub numerics: Numerics,
    /// How the plain weights of linear layers are quantized; `None` if they stay plain.
    pub pack: Option<Quantize>,
}

impl TypedSource<'_> {
    /// Rounds to BF16, unless the model is F32.
    fn typed(&self, tensor: Tensor) -> Result<Tensor> {
        match self.numerics {
            Numerics::F32 => Ok(tensor),
            Numerics::Bf16 | Numerics::Quantized(_) => Ok(tensor.to_dtype(DType::BF16)?),
        }
    }
}

impl WeightSource for TypedSource<'_> {
    fn name(&self) -> String {
        self.source.name()
    }

    fn shape(&self, tensor: &str) -> Option<Vec<usize>> {
        self.source.shape(tensor)
    }

    fn tensor(&self, tensor: &str, shape: &[usize]) -> Result<Tensor> {
        self.typed(self.source.tensor(tensor, shape)?)
    }

    fn weight(&self, module: &str, n: usize, k: usize) -> Result<StoredWeight> {
        match (self.source.weight(module, n, k)?, self.numerics, self.pack) {
            (plain @ StoredWeight::Plain(_), _, Some(quantize)) => {
                Ok(StoredWeight::Packed(pack(module, plain, &quantize)?))
            }
            (StoredWeight::Plain(weight), _, None) => Ok(StoredWeight::Plain(self.typed(weight)?)),
            (packed, Numerics::Quantized(_), _) => Ok(packed),
            (StoredWeight::Packed(_), _, _) => Err(VlaError::InvalidState {
                call: "load",
                reason: format!("`{module}` is packed: an unquantized model needs plain weights"),
            }),
        }
    }
}
