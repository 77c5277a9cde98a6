//! Quantized activations in plain order, to inspect what the backends compute with.

use crate::numerics::{TokenGroup, quantize_group};
use crate::weights::MAX_PER_CHANNEL_K;
use crate::{Error, Grouping, MatRef, Result, Width};
use half::bf16;

/// Activations `x[M, K]` quantized per token and group (per token with [`Grouping::PerChannel`]),
/// by the formulas of [`crate::numerics`]. The grouping for a weight is
/// [`PackedWeight::activation_grouping`](crate::PackedWeight::activation_grouping).
///
/// `cuda::QuantizedActivations` holds the same values in device memory, in the layout of the
/// kernels.
///
/// ```
/// use half::bf16;
/// use w4ax::reference::QuantizedMatrix;
/// use w4ax::{Grouping, MatRef, Width};
/// # fn main() -> w4ax::Result<()> {
/// let x = [-1.0, 0.0, 0.5, 2.0].map(bf16::from_f32); // [1, 4]
/// let x = MatRef::new(&x, 1, 4)?;
/// let quantized = QuantizedMatrix::new(x, Width::A2, Grouping::G32)?;
/// assert_eq!((quantized.groups()[0].scale, quantized.groups()[0].zero), (1.0, 1));
/// assert_eq!(quantized.values(), [0, 1, 1, 3]);
/// assert_eq!(quantized.dequantize(), [-1.0, 0.0, 0.0, 2.0]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedMatrix {
    m: usize,
    k: usize,
    grouping: Grouping,
    values: Vec<u8>,
    groups: Vec<TokenGroup>,
}

impl QuantizedMatrix {
    /// Quantizes `x[M, K]` to 2, 4 or 8 bits.
    ///
    /// # Errors
    /// [`Error::Range`] for [`Width::Bf16`], which is not quantized, for K = 0, and per channel for
    /// K above [`MAX_PER_CHANNEL_K`], whose sums could overflow.
    pub fn new(x: MatRef<'_, bf16>, width: Width, grouping: Grouping) -> Result<Self> {
        let qmax = width.qmax().ok_or_else(|| Error::Range {
            what: "width of quantized activations",
            value: width.to_string(),
            range: "a2, a4, a8",
        })?;
        let (m, k) = (x.rows(), x.cols());
        if k == 0 || grouping == Grouping::PerChannel && k > MAX_PER_CHANNEL_K {
            return Err(Error::Range {
                what: "K of quantized activations",
                value: k.to_string(),
                range: "1.. (1..=65536 per channel)",
            });
        }
        let mut values = vec![0; m * k];
        let mut groups = Vec::with_capacity(m * grouping.groups(k));
        for row in 0..m {
            let values = &mut values[row * k..][..k];
            for g in 0..grouping.groups(k) {
                let range = grouping.range(g, k);
                groups.push(quantize_group(
                    &x.row(row)[range.clone()],
                    qmax,
                    &mut values[range],
                ));
            }
        }
        Ok(Self {
            m,
            k,
            grouping,
            values,
            groups,
        })
    }

    /// Returns M, the number of tokens.
    pub fn m(&self) -> usize {
        self.m
    }

    /// Returns K, the number of inputs.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Returns the codes `qa`, row-major `[M, K]`.
    pub fn values(&self) -> &[u8] {
        &self.values
    }

    /// Returns the parameters of each token and group, row-major `[M, groups]`.
    pub fn groups(&self) -> &[TokenGroup] {
        &self.groups
    }

    /// Returns `(qa - za) * sa`, rounded once, row-major `[M, K]`. Values near the end of the range
    /// of f32 may round to an infinity.
    pub fn dequantize(&self) -> Vec<f32> {
        let per_row = self.grouping.groups(self.k);
        let mut out = vec![0.0; self.m * self.k];
        for (at, group) in self.groups.iter().enumerate() {
            let start = at / per_row * self.k;
            for k in self.grouping.range(at % per_row, self.k) {
                let code = i32::from(self.values[start + k]) - group.zero;
                out[start + k] = code as f32 * group.scale;
            }
        }
        out
    }
}
