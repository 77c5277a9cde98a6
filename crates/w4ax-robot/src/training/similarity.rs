//! How much each layer changes its input, by which static layers are selected.

use candle_core::{D, DType, Result};

use super::batches;
use super::frozen::Frozen;
use crate::shapes::INPUT;

/// One row in this many is enough for a mean.
const EVERY: usize = 8;

/// Returns each layer's mean cosine similarity of input and output over some of the rows, `[n]`. It
/// is [`Layers::cosine_similarity`](w4ax::skip::Layers::cosine_similarity) in f32: the files in
/// `tests/data` have these figures.
///
/// # Errors
/// Those of candle.
pub fn of(frozen: &Frozen, inputs: &[[f32; INPUT]]) -> Result<Vec<f64>> {
    let some: Vec<_> = inputs.iter().copied().step_by(EVERY).collect();
    let states = frozen.states(&batches::tensor(&some, DType::F32)?)?;
    let mean = |pair: &[candle_core::Tensor]| {
        let dot = (&pair[0] * &pair[1])?.sum(D::Minus1)?;
        let norm = |x: &candle_core::Tensor| x.sqr()?.sum(D::Minus1)?.sqrt();
        let norms = (norm(&pair[0])? * norm(&pair[1])?)?;
        let cosine = (dot / norms.maximum(f32::MIN_POSITIVE)?)?;
        cosine.to_dtype(DType::F64)?.mean_all()?.to_scalar()
    };
    states.windows(2).map(mean).collect()
}
