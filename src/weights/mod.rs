//! INT4 weights: quantized, packed once, unpacked, saved and loaded.
//!
//! A weight is `W[N, K]`, like `nn.Linear`: N output channels, K inputs. [`PackedWeight`] holds its
//! INT4 values `qw` in [-8, 7] in the layout of [`layout`], which every backend reads directly. The
//! parameters of a group of k ([`Grouping`]) depend on the [`Scheme`]:
//!
//! - [`Scheme::Grouped`]: a value is `(qw - zw) * sw`, with an integer zero point `zw` in [-8, 8]
//!   (0 when symmetric) and a scale `sw` for each output channel and group.
//! - [`Scheme::TwoLevel`]: a value is `w8 * sw` with `w8 = (qw - zg) * sg`. The zero point `zg` in
//!   [-8, 8] and the group step `sg`, an integer in 1..=16, are those of a channel and group; the
//!   scale `sw` is that of a channel.
//!
//! # Ways to a packed weight
//! - [`Quantize`]: round to nearest; [`Gptq`]: GPTQ (arXiv 2210.17323), with a [`Hessian`] of
//!   calibration activations.
//! - [`PackedWeight::from_quantized`]: INT4 values of a checkpoint, unchanged
//!   ([`crate::checkpoint`]).
//! - [`PackedWeight::from_two_level`]: INT4 values, group steps and scales of a two-level weight.
//! - [`PackedFile`]: a file of this crate, all in memory; [`PackedReader`], [`PackedWriter`]: one
//!   weight at a time.

mod file;
mod format;
mod gptq;
mod grouping;
pub mod layout;
mod order;
mod pack;
mod packed;
mod quantize;
mod reader;
mod scales;
mod scheme;
mod sums;
mod writer;

pub use file::PackedFile;
pub use gptq::{Gptq, Hessian};
pub use grouping::Grouping;
pub use order::KOrder;
pub use packed::PackedWeight;
pub use quantize::{Clipping, Quantize, Symmetry};
pub use reader::PackedReader;
pub use scales::{ScaleType, Scales};
pub use scheme::Scheme;

/// The version of safetensors whose [`TensorView`](safetensors::tensor::TensorView)
/// [`PackedWriter::tensor`] takes.
pub use safetensors;
pub(crate) use sums::GroupSums;
pub use writer::PackedWriter;

/// The largest K of a per-channel or two-level weight: its integer sums must fit 32 bits.
pub const MAX_PER_CHANNEL_K: usize = 65_536;
