//! Converts a checkpoint to this crate's packed file, one tensor at a time.

use super::Checkpoint;
use super::plan::ConvertJob;
use crate::weights::PackedWriter;
use crate::{Error, Grouping, KOrder, MatMut, MatRef, PackedWeight, Quantize, Result, ScaleType};
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::tensor::Dtype;
use std::path::Path;

/// The conversion of a checkpoint to a packed file.
///
/// A quantized module `x` becomes the packed weight `x` with the same values, unless
/// [`requantize`](Self::requantize) is set. In a plain
/// checkpoint, a matrix `x.weight` is quantized and becomes the weight `x`, except for modules that
/// stay plain: `lm_head`, `wte`, `wpe`, modules with `embed` in a part of their name, those that
/// the model's kind keeps plain ([`Checkpoint::kind`]), and those of [`keep`](Self::keep). All
/// other tensors are copied.
///
/// `w4ax convert` runs this conversion on the command line.
///
/// ```
/// use w4ax::checkpoint::{Checkpoint, Convert};
/// use w4ax::{Grouping, PackedFile, Quantize};
/// # fn main() -> w4ax::Result<()> {
/// # let folder = std::env::temp_dir().join(format!("w4ax-convert-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// # let output = folder.join("packed.safetensors");
/// let checkpoint = Checkpoint::open("tests/data/checkpoints/awq_gemm")?;
/// let convert = Convert::new(Quantize::new(Grouping::G128)); // The grouping of plain weights.
/// let summary = convert.run(&checkpoint, &output, |progress| {
///     let percent = 100 * progress.done / progress.total;
///     println!("{percent} %, {}: {:?}", progress.name, progress.outcome);
/// })?;
/// assert_eq!((summary.repacked, summary.quantized), (2, 0));
/// assert_eq!(PackedFile::load(&output)?.get("model.a")?.k(), 192);
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Convert {
    pub(super) quantize: Quantize,
    pub(super) requantize: bool,
    pub(super) keep: Vec<String>,
    pub(super) also: Vec<String>,
}

/// What happened to a weight or a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum ConvertOutcome {
    /// A quantized weight was packed without a change of its values.
    Repacked(RepackedWeight),
    /// A quantized weight was quantized again. The error is that against its values before.
    Requantized(QuantizedMatrix),
    /// A plain weight was quantized.
    Quantized(QuantizedMatrix),
    /// A tensor of this many bytes was copied.
    Copied(u64),
}

/// A quantized weight that was packed without a change of its values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RepackedWeight {
    /// Output channels, N.
    pub n: usize,
    /// Inputs, K.
    pub k: usize,
    /// The grouping of the packed weight.
    pub grouping: Grouping,
    /// The type of the scales.
    pub scale_type: ScaleType,
    /// Whether the weight has no zero points.
    pub symmetric: bool,
    /// Whether the k of the weight are in activation order.
    pub act_order: bool,
}

/// A matrix that was quantized.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantizedMatrix {
    /// Output channels, N.
    pub n: usize,
    /// Inputs, K.
    pub k: usize,
    /// `|W - W'| / |W|` in the Frobenius norm, or 0 for a zero matrix.
    pub relative_error: f64,
    /// The largest `|w - w'|`.
    pub largest_error: f64,
}

/// The progress of a conversion after one weight or tensor.
#[derive(Clone, Copy, Debug)]
pub struct ConvertProgress<'a> {
    /// The name of the packed module or the copied tensor.
    pub name: &'a str,
    /// What happened to it.
    pub outcome: ConvertOutcome,
    /// Bytes of the checkpoint that are converted.
    pub done: u64,
    /// Bytes of the checkpoint.
    pub total: u64,
}

/// The result of a conversion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConvertSummary {
    /// Number of weights that were packed without a change of their values.
    pub repacked: usize,
    /// Number of quantized weights that were quantized again.
    pub requantized: usize,
    /// Number of plain weights that were quantized.
    pub quantized: usize,
    /// Number of tensors that were copied.
    pub copied: usize,
    /// Bytes of the checkpoint's tensors.
    pub bytes_read: u64,
}

impl Convert {
    /// Creates a conversion that quantizes plain weights as `quantize` does.
    pub fn new(quantize: Quantize) -> Self {
        Self {
            quantize,
            requantize: false,
            keep: Vec::new(),
            also: Vec::new(),
        }
    }

    /// Sets whether quantized weights are dequantized and quantized again, as plain ones are. An
    /// activation order stays, so that a group has the same inputs if the grouping is the same.
    /// Weights of plain checkpoints are not affected.
    #[must_use]
    pub fn requantize(mut self, requantize: bool) -> Self {
        self.requantize = requantize;
        self
    }

    /// Sets the modules that stay plain. An entry is a module's name or some of its consecutive
    /// dotted parts.
    #[must_use]
    pub fn keep<S: Into<String>>(mut self, modules: impl IntoIterator<Item = S>) -> Self {
        self.keep = modules.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the modules that are quantized although the model's kind ([`Checkpoint::kind`]) keeps
    /// them plain. Entries are as for [`keep`](Self::keep), which prevails. Embeddings and
    /// `lm_head` stay plain.
    #[must_use]
    pub fn also<S: Into<String>>(mut self, modules: impl IntoIterator<Item = S>) -> Self {
        self.also = modules.into_iter().map(Into::into).collect();
        self
    }

    /// Converts `checkpoint` to the file `output` and calls `progress` after each weight or tensor.
    ///
    /// The memory in use is that of one weight. `output` is written atomically: it is unchanged
    /// unless the conversion succeeds.
    ///
    /// # Errors
    /// - As [`Checkpoint::weight`] and [`Quantize::pack`], with the name of the tensor.
    /// - [`Error::Io`] if writing fails.
    /// - [`Error::Config`] if `output` is a file of the checkpoint, or an entry of
    ///   [`keep`](Self::keep) matches no module or a module that is already packed, or one of
    ///   [`also`](Self::also) no module that would stay plain.
    /// - [`Error::Config`] if the checkpoint is quantized, the weights are to be of
    ///   [`Scheme::TwoLevel`](crate::Scheme::TwoLevel), which cannot hold floating-point group
    ///   scales without loss, and [`requantize`](Self::requantize) is not set.
    /// - [`Error::Format`] if the model is of a known kind, but has no module to quantize.
    pub fn run(
        &self,
        checkpoint: &Checkpoint,
        output: impl AsRef<Path>,
        mut progress: impl FnMut(ConvertProgress<'_>),
    ) -> Result<ConvertSummary> {
        let output = output.as_ref();
        let config = Path::new(&checkpoint.config.file);
        if let Ok(target) = output.canonicalize()
            && (checkpoint
                .shards
                .paths()
                .chain(config.is_file().then_some(config)))
            .any(|path| path.canonicalize().is_ok_and(|path| path == target))
        {
            return Err(Error::Config {
                field: "output",
                reason: format!(
                    "is {}, a file of the checkpoint: expected another file",
                    output.display()
                ),
            });
        }
        let plan = self.plan(checkpoint)?;
        let (weights, others) = plan.counts();
        let mut writer = PackedWriter::create(output, weights, others, plan.name_bytes())?;
        let mut summary = ConvertSummary::default();
        for job in &plan.jobs {
            let outcome = match job {
                ConvertJob::Repack { module } if self.requantize => {
                    self.quantize_again(checkpoint, module, &mut writer)?
                }
                ConvertJob::Repack { module } => Self::repack(checkpoint, module, &mut writer)?,
                ConvertJob::Quantize { module, tensor } => {
                    self.quantize(checkpoint, module, tensor, &mut writer)?
                }
                ConvertJob::Copy { tensor } => Self::copy(checkpoint, tensor, &mut writer)?,
            };
            match outcome {
                ConvertOutcome::Repacked(_) => summary.repacked += 1,
                ConvertOutcome::Requantized(_) => summary.requantized += 1,
                ConvertOutcome::Quantized(_) => summary.quantized += 1,
                ConvertOutcome::Copied(_) => summary.copied += 1,
            }
            summary.bytes_read += job.bytes(checkpoint);
            progress(ConvertProgress {
                name: job.name(),
                outcome,
                done: summary.bytes_read,
                total: plan.bytes,
            });
        }
        writer.finish()?;
        Ok(summary)
    }

    fn repack(
        checkpoint: &Checkpoint,
        module: &str,
        writer: &mut PackedWriter,
    ) -> Result<ConvertOutcome> {
        let weight = checkpoint.weight(module)?;
        writer.weight(module, &weight)?;
        Ok(ConvertOutcome::Repacked(RepackedWeight {
            n: weight.n(),
            k: weight.k(),
            grouping: weight.grouping(),
            scale_type: weight.tiled_scales().scale_type(),
            symmetric: weight.is_symmetric(),
            act_order: weight.order().is_some(),
        }))
    }

    fn quantize_again(
        &self,
        checkpoint: &Checkpoint,
        module: &str,
        writer: &mut PackedWriter,
    ) -> Result<ConvertOutcome> {
        let weight = checkpoint.weight(module)?;
        let plain = weight.dequantize();
        let packed = self.pack(&plain, weight.n(), weight.k(), weight.order());
        let shards = &checkpoint.shards;
        let (weight, error) = packed.map_err(|e| shards.tensor_error(module, e.to_string()))?;
        writer.weight(module, &weight)?;
        Ok(ConvertOutcome::Requantized(error))
    }

    fn quantize(
        &self,
        checkpoint: &Checkpoint,
        module: &str,
        tensor: &str,
        writer: &mut PackedWriter,
    ) -> Result<ConvertOutcome> {
        let shards = &checkpoint.shards;
        let shape = checkpoint.matrix(tensor);
        let (dtype, n, k) =
            shape.ok_or_else(|| shards.tensor_error(tensor, "expected a floating-point matrix"))?;
        let (weight, quantized) = match dtype {
            Dtype::BF16 => self.pack::<bf16>(&shards.read(tensor)?, n, k, None),
            Dtype::F16 => self.pack::<f16>(&shards.read(tensor)?, n, k, None),
            _ => self.pack::<f32>(&shards.read(tensor)?, n, k, None),
        }
        .map_err(|e| shards.tensor_error(tensor, e.to_string()))?;
        writer.weight(module, &weight)?;
        Ok(ConvertOutcome::Quantized(quantized))
    }

    fn copy(
        checkpoint: &Checkpoint,
        tensor: &str,
        writer: &mut PackedWriter,
    ) -> Result<ConvertOutcome> {
        let shards = &checkpoint.shards;
        writer.tensor_by(tensor, shards.expect(tensor)?, |to, written| {
            shards.copy(tensor, to, written)
        })?;
        Ok(ConvertOutcome::Copied(checkpoint.tensor_bytes(tensor)))
    }

    /// Packs `values` `[N, K]`, with an order of k, and measures the error of quantization.
    fn pack<T>(
        &self,
        values: &[T],
        n: usize,
        k: usize,
        order: Option<&KOrder>,
    ) -> Result<(PackedWeight, QuantizedMatrix)>
    where
        T: Copy + Into<f32> + Sync,
    {
        let plain = MatRef::new(values, n, k)?;
        let weight = match order {
            None => self.quantize.pack(plain)?,
            Some(order) => {
                let mut gathered = values.to_vec();
                order.gather(plain, MatMut::new(&mut gathered, n, k)?)?;
                let weight = self.quantize.pack(MatRef::new(&gathered, n, k)?)?;
                weight.with_order(order.clone())?
            }
        };
        // The rows are summed in order, so the result does not depend on the number of threads.
        let of_row = |back: &mut Vec<f32>, row: usize| {
            weight.dequantize_row(row, back);
            let (mut errors, mut squares, mut largest) = (0f64, 0f64, 0f64);
            for (&w, &b) in plain.row(row).iter().zip(back.iter()) {
                let w = f64::from(w.into());
                let error = (w - f64::from(b)).abs();
                errors += error * error;
                squares += w * w;
                largest = largest.max(error);
            }
            (errors, squares, largest)
        };
        let rows: Vec<(f64, f64, f64)> = (0..n)
            .into_par_iter()
            .map_init(|| vec![0f32; k], of_row)
            .collect();
        let (errors, squares, largest) = rows
            .into_iter()
            .reduce(|a, b| (a.0 + b.0, a.1 + b.1, a.2.max(b.2)))
            .unwrap_or_default();
        let relative_error = if squares > 0.0 {
            (errors / squares).sqrt()
        } else {
            0.0
        };
        let quantized = QuantizedMatrix {
            n,
            k,
            relative_error,
            largest_error: largest,
        };
        Ok((weight, quantized))
    }
}
