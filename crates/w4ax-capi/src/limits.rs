//! The limits and other constants of the headers.

use w4ax::dispatch::{
    ACTION_DIM, ConsistencyConfig, DispatchConfig, MAX_ACTION, UncertaintyQuantiles,
};
use w4ax::weights::MAX_PER_CHANNEL_K;

use super::version::VERSION;

/// `W4AX_MAX_THREADS`.
pub const MAX_THREADS: u32 = 1024;
/// `W4AX_WIDTHS`.
pub const WIDTHS: usize = w4ax::Width::ALL.len();
/// `W4AX_GATHERED`, a bit of the flags of a GEMM.
pub const GATHERED: u32 = 1;
/// `W4AX_GPU_PDL`, a bit of the flags of launches.
pub const GPU_PDL: u32 = 1;
/// `W4AX_GPU_GATHERED`, a bit of the flags of a GEMM.
pub const GPU_GATHERED: u32 = 2;
/// `W4AX_GPU_MAX_EXTENT`.
pub const GPU_MAX_EXTENT: usize = 8_388_608;
/// `W4AX_GPU_MAX_STRIDE`.
pub const GPU_MAX_STRIDE: usize = 536_870_912;
/// `W4AX_GPU_DECODE_MAX_M`.
pub const GPU_DECODE_MAX_M: usize = 16;
/// `W4AX_GPU_ALIGNMENT`.
pub const GPU_ALIGNMENT: usize = 128;

/// Every constant of the headers that is not an enumerator, with its name in C.
pub const TABLE: &[(&str, u64)] = &[
    ("W4AX_VERSION", VERSION as u64),
    ("W4AX_MAX_THREADS", MAX_THREADS as u64),
    ("W4AX_MAX_PER_CHANNEL_K", MAX_PER_CHANNEL_K as u64),
    ("W4AX_ACTION_DIM", ACTION_DIM as u64),
    ("W4AX_MAX_ACTION", MAX_ACTION as u64),
    ("W4AX_MAX_WINDOW", DispatchConfig::MAX_WINDOW as u64),
    ("W4AX_MAX_CHUNK", ConsistencyConfig::MAX_CHUNK as u64),
    ("W4AX_QUANTILES", UncertaintyQuantiles::POINTS as u64),
    ("W4AX_WIDTHS", WIDTHS as u64),
    ("W4AX_GATHERED", GATHERED as u64),
    ("W4AX_GPU_MAX_EXTENT", GPU_MAX_EXTENT as u64),
    ("W4AX_GPU_MAX_STRIDE", GPU_MAX_STRIDE as u64),
    ("W4AX_GPU_DECODE_MAX_M", GPU_DECODE_MAX_M as u64),
    ("W4AX_GPU_ALIGNMENT", GPU_ALIGNMENT as u64),
    ("W4AX_GPU_PDL", GPU_PDL as u64),
    ("W4AX_GPU_GATHERED", GPU_GATHERED as u64),
];
