//! A checkpoint to this crate's packed file, one tensor at a time.

use super::{Checkpoint, Scheme};
use crate::weights::PackedWriter;
use crate::{Error, Grouping, MatRef, PackedWeight, Quantize, Result, ScaleType};
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::tensor::Dtype;
use std::path::Path;

/// How a checkpoint becomes a packed file.
///
/// Quantized modules `x` become packed weights `x`, bit for bit. In a plain checkpoint the matrices `x.weight` are quantized
/// and become weights `x`, but for the modules that are to stay plain: `lm_head`, whatever has `embed` in a part of its name,
/// `wte`, `wpe`, and those of `keep`. All other tensors, biases among them, are carried over as they are.
///
/// `w4ax convert` is this with a progress bar.
///
/// ```
/// use w4ax::checkpoint::{Checkpoint, Convert};
/// use w4ax::{Grouping, PackedFile, Quantize};
/// # fn main() -> w4ax::Result<()> {
/// # let folder = std::env::temp_dir().join(format!("w4ax-convert-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).unwrap();
/// # let output = folder.join("packed.safetensors");
/// let checkpoint = Checkpoint::open("tests/data/checkpoints/awq_gemm")?;
/// let convert = Convert::new(Quantize::new(Grouping::G128)); // What plain weights become: here are none.
/// let summary = convert.run(&checkpoint, &output, |step| {
///     println!("{} %, {}: {:?}", 100 * step.done / step.all, step.name, step.outcome);
/// })?;
/// assert_eq!((summary.repacked, summary.quantized), (2, 0));
/// assert_eq!(PackedFile::load(&output)?.get("model.a")?.k(), 192);
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Convert {
    /// How plain weights are quantized.
    pub quantize: Quantize,
    /// Modules that stay plain: a whole name, or some of its dotted parts.
    pub keep: Vec<String>,
}

/// What happened to a weight or a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// A quantized weight was packed as it was.
    Repacked(Repacked),
    /// A plain weight was quantized.
    Quantized(Quantized),
    /// A tensor was carried over, this many bytes of it.
    Carried(u64),
}

/// A quantized weight that was packed as it was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Repacked {
    /// Output channels.
    pub n: usize,
    /// Inputs.
    pub k: usize,
    /// Its groups.
    pub grouping: Grouping,
    /// The type of its scales.
    pub scale_type: ScaleType,
    /// Whether it has no zero points.
    pub symmetric: bool,
    /// Whether its k are in another order.
    pub act_order: bool,
}

/// A plain weight that was quantized.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantized {
    /// Output channels.
    pub n: usize,
    /// Inputs.
    pub k: usize,
    /// `|W - W'| / |W|` over the whole matrix, Frobenius; 0 for a matrix of zeros.
    pub relative_error: f64,
    /// The largest `|w - w'|`.
    pub largest_error: f64,
}

/// A step of a conversion.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The module that was packed, or the tensor that was carried over.
    pub name: &'a str,
    /// What was done.
    pub outcome: Outcome,
    /// Bytes of the checkpoint that are done.
    pub done: u64,
    /// Bytes of the checkpoint in all.
    pub all: u64,
}

/// What a conversion did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Weights that were packed as they were.
    pub repacked: usize,
    /// Weights that were quantized.
    pub quantized: usize,
    /// Tensors that were carried over.
    pub carried: usize,
    /// Bytes of the checkpoint's tensors.
    pub bytes_read: u64,
}

impl Convert {
    /// Plain weights quantized like that, nothing kept beside what always is.
    pub fn new(quantize: Quantize) -> Self {
        Self {
            quantize,
            keep: Vec::new(),
        }
    }

    /// Converts `checkpoint` to the file `output`, in the memory of one weight, and tells `progress` of each step.
    ///
    /// `output` appears whole, when all is done: a run that ends before leaves what was there.
    ///
    /// # Errors
    /// What [`Checkpoint::weight`] and [`Quantize::pack`] give, naming the tensor; [`Error::Io`]; [`Error::Config`] if `output`
    /// is a file of the checkpoint, or an entry of `keep` names nothing, or what is packed already. Nothing stays behind then.
    pub fn run(
        &self,
        checkpoint: &Checkpoint,
        output: impl AsRef<Path>,
        mut progress: impl FnMut(Step<'_>),
    ) -> Result<Summary> {
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
                reason: format!("{} is a file of the checkpoint", output.display()),
            });
        }
        self.check_keep(checkpoint)?;
        let plan = Plan::new(self, checkpoint);
        let (weights, others) = plan.counts();
        let mut writer = PackedWriter::create(output, weights, others, plan.name_bytes())?;
        let mut summary = Summary::default();
        for job in &plan.jobs {
            let outcome = match job {
                Job::Repack { module } => Self::repack(checkpoint, module, &mut writer)?,
                Job::Quantize { module, tensor } => {
                    self.quantize(checkpoint, module, tensor, &mut writer)?
                }
                Job::Carry { tensor } => Self::carry(checkpoint, tensor, &mut writer)?,
            };
            match outcome {
                Outcome::Repacked(_) => summary.repacked += 1,
                Outcome::Quantized(_) => summary.quantized += 1,
                Outcome::Carried(_) => summary.carried += 1,
            }
            summary.bytes_read += job.bytes(checkpoint);
            progress(Step {
                name: job.name(),
                outcome,
                done: summary.bytes_read,
                all: plan.bytes,
            });
        }
        writer.finish()?;
        Ok(summary)
    }

    fn repack(checkpoint: &Checkpoint, module: &str, writer: &mut PackedWriter) -> Result<Outcome> {
        let weight = checkpoint.weight(module)?;
        writer.weight(module, &weight)?;
        Ok(Outcome::Repacked(Repacked {
            n: weight.n(),
            k: weight.k(),
            grouping: weight.grouping(),
            scale_type: weight.tiled_scales().scale_type(),
            symmetric: weight.is_symmetric(),
            act_order: weight.order().is_some(),
        }))
    }

    fn quantize(
        &self,
        checkpoint: &Checkpoint,
        module: &str,
        tensor: &str,
        writer: &mut PackedWriter,
    ) -> Result<Outcome> {
        let shards = &checkpoint.shards;
        let shape = checkpoint.matrix(tensor);
        let (dtype, n, k) = shape.ok_or_else(|| shards.bad(tensor, "it is no matrix"))?;
        let (weight, quantized) = match dtype {
            Dtype::BF16 => self.pack::<bf16>(&shards.read(tensor)?, n, k),
            Dtype::F16 => self.pack::<f16>(&shards.read(tensor)?, n, k),
            _ => self.pack::<f32>(&shards.read(tensor)?, n, k),
        }
        .map_err(|e| shards.bad(tensor, e.to_string()))?;
        writer.weight(module, &weight)?;
        Ok(Outcome::Quantized(quantized))
    }

    /// Copies a tensor as it is.
    fn carry(checkpoint: &Checkpoint, tensor: &str, writer: &mut PackedWriter) -> Result<Outcome> {
        let shards = &checkpoint.shards;
        writer.tensor_by(tensor, shards.expect(tensor)?, |to, written| {
            shards.copy(tensor, to, written)
        })?;
        Ok(Outcome::Carried(size(checkpoint, tensor)))
    }

    fn pack<T>(&self, values: &[T], n: usize, k: usize) -> Result<(PackedWeight, Quantized)>
    where
        T: Copy + Into<f32> + Sync,
    {
        let plain = MatRef::new(values, n, k)?;
        let weight = self.quantize.pack(plain)?;
        // By rows, and these added up in order: the same figures from any number of threads.
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
        let quantized = Quantized {
            n,
            k,
            relative_error,
            largest_error: largest,
        };
        Ok((weight, quantized))
    }

    /// An entry of `keep` that names nothing was meant for something, which would be quantized without a word.
    fn check_keep(&self, checkpoint: &Checkpoint) -> Result<()> {
        for kept in &self.keep {
            let there = (checkpoint.plain())
                .map(|name| name.strip_suffix(".weight").unwrap_or(name))
                .any(|name| names(kept, name));
            let packed = checkpoint.quantized().any(|module| names(kept, module));
            let reason = match (packed, there) {
                (true, _) => format!("names `{kept}`, which is packed already"),
                (_, false) => format!("names `{kept}`, which the checkpoint does not have"),
                _ => continue,
            };
            return Err(Error::Config {
                field: "keep",
                reason,
            });
        }
        Ok(())
    }

    /// Whether a module of a plain checkpoint stays plain.
    fn keeps(&self, checkpoint: &Checkpoint, module: &str) -> bool {
        let table = |part: &str| {
            let part = part.to_ascii_lowercase();
            part.contains("embed") || ["wte", "wpe", "lm_head"].contains(&part.as_str())
        };
        module.split('.').any(table)
            || checkpoint.config.lists(module)
            || self.keep.iter().any(|kept| names(kept, module))
    }
}

/// Whether an entry is a module's name, or some of its dotted parts.
fn names(entry: &str, module: &str) -> bool {
    format!(".{module}.").contains(&format!(".{entry}."))
}

/// What is done with a part of a checkpoint.
enum Job {
    /// Pack a quantized module as it is.
    Repack { module: String },
    /// Quantize a plain matrix, which becomes a module's weight.
    Quantize { module: String, tensor: String },
    /// Copy a tensor.
    Carry { tensor: String },
}

impl Job {
    /// What it is called in the output.
    fn name(&self) -> &str {
        match self {
            Self::Repack { module } | Self::Quantize { module, .. } => module,
            Self::Carry { tensor } => tensor,
        }
    }

    /// Bytes of the checkpoint that it reads.
    fn bytes(&self, checkpoint: &Checkpoint) -> u64 {
        match self {
            Self::Repack { module } => (checkpoint.parts().iter())
                .map(|part| size(checkpoint, &format!("{module}.{part}")))
                .sum(),
            Self::Quantize { tensor, .. } | Self::Carry { tensor } => size(checkpoint, tensor),
        }
    }
}

/// What is done, in the order of the file.
struct Plan {
    jobs: Vec<Job>,
    /// Of the checkpoint's tensors.
    bytes: u64,
}

impl Plan {
    fn new(convert: &Convert, checkpoint: &Checkpoint) -> Self {
        let mut weights: Vec<Job> = (checkpoint.quantized())
            .map(|module| Job::Repack {
                module: module.to_owned(),
            })
            .collect();
        let mut carried = Vec::new();
        for name in checkpoint.plain() {
            let module = name.strip_suffix(".weight");
            match module.filter(|_| checkpoint.config.scheme == Scheme::Plain) {
                Some(module)
                    if checkpoint.matrix(name).is_some() && !convert.keeps(checkpoint, module) =>
                {
                    weights.push(Job::Quantize {
                        module: module.to_owned(),
                        tensor: name.to_owned(),
                    });
                }
                _ => carried.push(name),
            }
        }
        // Each tensor aligned to its elements: those of eight bytes first, weights keep the file aligned to four, the rest goes
        // from wide to narrow.
        let wide = |name: &&str| {
            let element = (checkpoint.shards.info(name)).map_or(1, |i| i.dtype.bitsize() / 8);
            std::cmp::Reverse(element)
        };
        carried.sort_by_key(wide);
        let narrow = carried.partition_point(|name| wide(name).0 >= 8);
        let carry = |name: &&str| Job::Carry {
            tensor: (*name).to_owned(),
        };
        let jobs = (carried[..narrow].iter().map(carry))
            .chain(weights)
            .chain(carried[narrow..].iter().map(carry))
            .collect();
        let bytes = checkpoint.shards.names().map(|name| size(checkpoint, name));
        Self {
            jobs,
            bytes: bytes.sum(),
        }
    }

    /// Weights, and other tensors.
    fn counts(&self) -> (usize, usize) {
        let others = |job: &&Job| matches!(job, Job::Carry { .. });
        let others = self.jobs.iter().filter(others).count();
        (self.jobs.len() - others, others)
    }

    fn name_bytes(&self) -> usize {
        self.jobs.iter().map(|job| job.name().len()).sum()
    }
}

/// Bytes of a tensor.
fn size(checkpoint: &Checkpoint, tensor: &str) -> u64 {
    let info = checkpoint.shards.info(tensor);
    info.map_or(0, |i| (i.data_offsets.1 - i.data_offsets.0) as u64)
}
