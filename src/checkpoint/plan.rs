//! The order in which a conversion writes the parts of a checkpoint.

use super::{Checkpoint, Scheme};

/// The conversion of one part of a checkpoint.
pub(super) enum ConvertJob {
    /// Packs a quantized module without a change of its values.
    Repack { module: String },
    /// Quantizes a plain matrix, which becomes the weight of a module.
    Quantize { module: String, tensor: String },
    /// Copies a tensor.
    Copy { tensor: String },
}

impl ConvertJob {
    /// Returns the name of the part in the output.
    pub fn name(&self) -> &str {
        match self {
            Self::Repack { module } | Self::Quantize { module, .. } => module,
            Self::Copy { tensor } => tensor,
        }
    }

    /// Returns the number of bytes of the checkpoint that the job reads.
    pub fn bytes(&self, checkpoint: &Checkpoint) -> u64 {
        match self {
            Self::Repack { module } => (checkpoint.parts().iter())
                .map(|part| checkpoint.tensor_bytes(&format!("{module}.{part}")))
                .sum(),
            Self::Quantize { tensor, .. } | Self::Copy { tensor } => {
                checkpoint.tensor_bytes(tensor)
            }
        }
    }
}

/// All jobs of a conversion, in the order of the output file.
pub(super) struct ConvertPlan {
    pub jobs: Vec<ConvertJob>,
    /// Bytes of the checkpoint's tensors.
    pub bytes: u64,
}

impl ConvertPlan {
    /// Plans the conversion. Modules for which `keeps` returns true stay plain.
    pub fn new(checkpoint: &Checkpoint, keeps: impl Fn(&str) -> bool) -> Self {
        let mut weights: Vec<ConvertJob> = (checkpoint.quantized())
            .map(|module| ConvertJob::Repack {
                module: module.to_owned(),
            })
            .collect();
        let mut copied = Vec::new();
        for name in checkpoint.plain() {
            let module = name.strip_suffix(".weight");
            match module.filter(|_| checkpoint.config.scheme == Scheme::Plain) {
                Some(module) if checkpoint.matrix(name).is_some() && !keeps(module) => {
                    weights.push(ConvertJob::Quantize {
                        module: module.to_owned(),
                        tensor: name.to_owned(),
                    });
                }
                _ => copied.push(name),
            }
        }
        // This order aligns each tensor to its elements: elements of eight bytes first, then the
        // weights, which keep the file aligned to four bytes, then the rest by descending size of
        // the element.
        let by_element = |name: &&str| {
            let element = (checkpoint.shards.info(name)).map_or(1, |i| i.dtype.bitsize() / 8);
            std::cmp::Reverse(element)
        };
        copied.sort_by_key(by_element);
        let narrow = copied.partition_point(|name| by_element(name).0 >= 8);
        let copy = |name: &&str| ConvertJob::Copy {
            tensor: (*name).to_owned(),
        };
        let jobs = (copied[..narrow].iter().map(copy))
            .chain(weights)
            .chain(copied[narrow..].iter().map(copy))
            .collect();
        let bytes = (checkpoint.shards.names()).map(|name| checkpoint.tensor_bytes(name));
        Self {
            jobs,
            bytes: bytes.sum(),
        }
    }

    /// Returns the numbers of weights and of other tensors.
    pub fn counts(&self) -> (usize, usize) {
        let other = |job: &&ConvertJob| matches!(job, ConvertJob::Copy { .. });
        let others = self.jobs.iter().filter(other).count();
        (self.jobs.len() - others, others)
    }

    /// Returns the length of all names in bytes.
    pub fn name_bytes(&self) -> usize {
        self.jobs.iter().map(|job| job.name().len()).sum()
    }
}
