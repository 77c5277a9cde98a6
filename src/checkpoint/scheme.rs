//! The storage schemes of checkpoints.

/// How the weights of a checkpoint are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scheme {
    /// BF16, F16 or F32, not quantized.
    Plain,
    /// AutoAWQ's `gemm`.
    Awq {
        /// Number of k per group, or `None` for one group over all of K.
        group: Option<usize>,
    },
    /// GPTQ.
    Gptq {
        /// Number of k per group, or `None` for one group over all of K.
        group: Option<usize>,
        /// The encoding of zero points.
        zeros: GptqZeros,
        /// Whether the groups are in activation order, which requires `g_idx`.
        desc_act: bool,
    },
    /// compressed-tensors' `pack-quantized`.
    CompressedTensors {
        /// Number of k per group, or `None` for one group over all of K.
        group: Option<usize>,
        /// Whether the weights have no zero points.
        symmetric: bool,
        /// Whether `weight_g_idx` assigns each k to a group.
        act_order: bool,
    },
}

/// The encoding of a GPTQ zero point z.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GptqZeros {
    /// Version 1, with a nibble of `z - 1` and z from 1 to 16: AutoGPTQ and its derivatives.
    ///
    /// Its unpackers for activation order, Triton, Marlin and ExLlama add 1 to the nibble, so z may
    /// be 16. The unpacker for old CUDA kernels (`qlinear_cuda_old` of 0.7.1) wraps z = 16 to 0.
    V1Nibbles,
    /// Version 1 as written by GPTQModel, with z from 0 to 15.
    ///
    /// It subtracts 0x11111111 from the word of eight zero points and adds it when it reads, so a
    /// zero point of 0 borrows from the next nibble.
    V1Words,
    /// Version 2, with a nibble of z.
    V2,
}
