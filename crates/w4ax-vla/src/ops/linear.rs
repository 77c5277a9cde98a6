//! The linear layer with an unquantized weight.

use super::cast::widen_here;
use super::matmul::{Matrix, matmul, with_scratch};
use super::shared::SharedOutput;
use super::simd::{dot, vectorized};
use super::value::{Value, to_f32, with_values};
use super::{by_type, expect_dims, generic, on_cpu};
use crate::{Result, VlaError};
use candle_core::{D, DType, Tensor};
use half::bf16;
use rayon::prelude::*;

/// Rows of the weight of one task.
const CHUNK: usize = 128;
/// The most rows of x for which inner products are quicker than a GEMM, which packs its operands.
const FEW_ROWS: usize = 4;

/// A linear layer `y[.., N] = x[.., K] * W[N, K]^T + bias[N]` with a weight in F32 or BF16.
///
/// The weight keeps its type in memory. Each task widens 128 of its rows to F32. Sums and the bias
/// are in F32, and y is rounded once.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,             // [N, K]
    bias: Option<Tensor>,       // [N]
    bias_f32: Option<Vec<f32>>, // [N], on the CPU
    n: usize,
    k: usize,
}

impl Linear {
    /// Creates a layer. The tensors are on the device of x.
    ///
    /// # Errors
    /// If the weight is not a matrix of F32 or BF16, or the shape of the bias is not `[N]`.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        let (n, k) = weight.dims2()?;
        let cpu = on_cpu("weight of a linear layer", &weight)?;
        if let Some(bias) = &bias {
            expect_dims("bias of a linear layer", bias, &[n])?;
        }
        let bias_f32 = match &bias {
            Some(bias) if cpu => Some(to_f32(bias)?),
            _ => None,
        };
        Ok(Self {
            weight: weight.contiguous()?,
            bias,
            bias_f32,
            n,
            k,
        })
    }

    /// Returns N, the number of output channels.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Returns K, the number of inputs.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Returns the weight, `[N, K]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// Returns the bytes of the weight and the bias.
    pub fn bytes(&self) -> usize {
        let bytes = |t: &Tensor| t.elem_count() * t.dtype().size_in_bytes();
        bytes(&self.weight) + self.bias.as_ref().map_or(0, bytes)
    }

    /// Returns `y[.., N]` of `x[.., K]`, in the type of x.
    ///
    /// # Errors
    /// If x is neither F32 nor BF16, or its last dimension is not K.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if x.rank() == 0 || x.dim(D::Minus1)? != self.k {
            return Err(VlaError::Input {
                what: "input of a linear layer",
                got: format!("a tensor of shape {:?}", x.dims()),
                expected: format!("[.., {}]", self.k),
            });
        }
        if !on_cpu("input of a linear layer", x)? {
            return generic::linear(x, &self.weight, self.bias.as_ref());
        }
        let y = match self.weight.dtype() {
            DType::F32 => by_type!(x, forward_f32(self, x)),
            _ => by_type!(x, forward_bf16(self, x)),
        }?;
        let mut dims = x.dims().to_vec();
        dims[x.rank() - 1] = self.n;
        Ok(y.reshape(dims)?)
    }
}

fn forward_f32<T: Value>(layer: &Linear, x: &Tensor) -> Result<Tensor> {
    forward::<T, f32>(layer, x)
}

fn forward_bf16<T: Value>(layer: &Linear, x: &Tensor) -> Result<Tensor> {
    forward::<T, bf16>(layer, x)
}

/// Returns `y[M, N]` of T for a weight of W.
fn forward<T: Value, W: Value>(layer: &Linear, x: &Tensor) -> Result<Tensor> {
    let (n, k) = (layer.n, layer.k);
    let m = x.elem_count() / k.max(1);
    let mut y = vec![T::zero(); m * n]; // [M, N]
    let task = Task {
        m,
        n,
        k,
        bias: layer.bias_f32.as_deref(),
    };
    with_values(x, |x: &[T]| {
        let x = T::widened(x); // [M, K]
        with_values(&layer.weight, |weight: &[W]| {
            let output = SharedOutput::new(&mut y);
            (0..n.div_ceil(CHUNK)).into_par_iter().for_each(|chunk| {
                let first = chunk * CHUNK;
                let rows = CHUNK.min(n - first);
                let weight = &weight[first * k..(first + rows) * k]; // [rows, K]
                // SAFETY: this task writes the columns first..first + rows of y and no other.
                unsafe {
                    if m <= FEW_ROWS {
                        task.by_dots(&output, &x, weight, first);
                    } else {
                        task.by_gemm(&output, &x, weight, first);
                    }
                }
            });
            Ok(())
        })
    })?;
    Ok(Tensor::from_vec(y, (m, n), x.device())?)
}

/// What the tasks of one call share.
struct Task<'a> {
    m: usize,
    n: usize,
    k: usize,
    bias: Option<&'a [f32]>,
}

impl Task<'_> {
    fn bias(&self, channel: usize) -> f32 {
        self.bias.map_or(0.0, |bias| bias[channel])
    }

    /// Writes the columns of y that belong to these rows of the weight, one inner product each.
    ///
    /// # Safety
    /// No other thread may use these columns of y.
    unsafe fn by_dots<T: Value, W: Value>(
        &self,
        y: &SharedOutput<'_, T>,
        x: &[f32],
        weight: &[W],
        first: usize,
    ) {
        vectorized(|| {
            for (row, weight) in weight.chunks_exact(self.k).enumerate() {
                let bias = self.bias(first + row);
                for (i, x) in x.chunks_exact(self.k).enumerate() {
                    // SAFETY: by the contract of this function.
                    let y = unsafe { y.part(i * self.n + first + row, 1) };
                    y[0] = T::round(dot(weight, x) + bias);
                }
            }
        });
    }

    /// Writes the same columns by one GEMM.
    ///
    /// # Safety
    /// As [`by_dots`](Self::by_dots).
    unsafe fn by_gemm<T: Value, W: Value>(
        &self,
        y: &SharedOutput<'_, T>,
        x: &[f32],
        weight: &[W],
        first: usize,
    ) {
        let (m, k) = (self.m, self.k);
        let rows = weight.len() / k;
        with_scratch(rows * k + m * rows, |scratch| {
            let (wide, tile) = scratch.split_at_mut(rows * k); // [rows, K], [M, rows]
            widen_here(weight, wide);
            matmul(
                tile,
                Matrix::new(x, m, k, k),
                Matrix::new(wide, rows, k, k).t(),
            );
            vectorized(|| {
                for (i, tile) in tile.chunks_exact(rows).enumerate() {
                    // SAFETY: by the contract of this function.
                    let y = unsafe { y.part(i * self.n + first, rows) };
                    match self.bias {
                        Some(bias) => y
                            .iter_mut()
                            .zip(tile)
                            .zip(&bias[first..])
                            .for_each(|((y, sum), bias)| *y = T::round(sum + bias)),
                        None => y
                            .iter_mut()
                            .zip(tile)
                            .for_each(|(y, sum)| *y = T::round(*sum)),
                    }
                }
            });
        });
    }
}
