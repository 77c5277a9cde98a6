//! Where the weights of a model come from.

use crate::{Result, VlaError};
use candle_core::Tensor;
use w4ax::PackedWeight;

/// The weight `[N, K]` of a linear layer, as a checkpoint stores it.
#[derive(Debug)]
pub enum StoredWeight {
    /// An unquantized weight, `[N, K]`, BF16 or F32, on the CPU.
    Plain(Tensor),
    /// A packed weight.
    Packed(PackedWeight),
}

/// The tensors of a model by name.
///
/// The folder of a checkpoint reads them from its files, one at a time. A benchmark makes random
/// ones.
pub trait WeightSource {
    /// Returns the name of the source for errors: a file or a folder.
    fn name(&self) -> String;

    /// Returns the shape of a plain tensor, or `[N, K]` of the packed weight of tensor
    /// `x.weight`. `None` if neither exists.
    fn shape(&self, tensor: &str) -> Option<Vec<usize>>;

    /// Reads a plain tensor of this shape. It is on the CPU and has its stored type, BF16 or F32;
    /// F16 is widened to F32.
    ///
    /// # Errors
    /// [`MissingTensor`](crate::VlaError::MissingTensor),
    /// [`TensorShape`](crate::VlaError::TensorShape),
    /// [`TensorType`](crate::VlaError::TensorType), and errors of the file.
    fn tensor(&self, tensor: &str, shape: &[usize]) -> Result<Tensor>;

    /// Reads the weight `[n, k]` of the linear layer `module`: the packed weight `module`, or the
    /// tensor `module.weight`.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    fn weight(&self, module: &str, n: usize, k: usize) -> Result<StoredWeight>;
}

/// Checks the shape of a tensor, which must exist. `file` is the name of the source in errors.
pub(super) fn check_shape(
    file: impl Fn() -> String,
    tensor: &str,
    got: Option<Vec<usize>>,
    expected: &[usize],
) -> Result<()> {
    match got {
        Some(got) if got == expected => Ok(()),
        Some(got) => Err(VlaError::TensorShape {
            file: file(),
            name: tensor.into(),
            expected: expected.to_vec(),
            got,
        }),
        None => Err(VlaError::MissingTensor {
            file: file(),
            name: tensor.into(),
        }),
    }
}
