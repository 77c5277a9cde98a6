//! Which modules of a plain checkpoint a conversion quantizes.

use super::convert::Convert;
use super::plan::{ConvertJob, ConvertPlan};
use super::{Checkpoint, Scheme};
use crate::{Error, Result};

impl Convert {
    /// Returns the modules of a plain checkpoint that the conversion quantizes, in the order of the
    /// output.
    ///
    /// # Errors
    /// As [`run`](Self::run) for the options.
    pub fn modules(&self, checkpoint: &Checkpoint) -> Result<Vec<String>> {
        let jobs = self.plan(checkpoint)?.jobs.into_iter();
        let modules = jobs.filter_map(|job| match job {
            ConvertJob::Quantize { module, .. } => Some(module),
            _ => None,
        });
        Ok(modules.collect())
    }

    /// Plans the conversion and checks the options.
    pub(super) fn plan(&self, checkpoint: &Checkpoint) -> Result<ConvertPlan> {
        self.check_scheme(checkpoint)?;
        self.check_keep(checkpoint)?;
        self.check_also(checkpoint)?;
        let plan = ConvertPlan::new(checkpoint, |module| self.keeps(checkpoint, module));
        if let (Some(kind), (0, _)) = (checkpoint.kind(), plan.counts()) {
            let reason = format!(
                "{}: no matrix to quantize: expected modules of {}",
                kind.name(),
                kind.quantized()
            );
            return Err(Error::format(checkpoint.shards.file_of(""), reason));
        }
        Ok(plan)
    }

    /// Rejects two-level weights from values with a floating-point scale per group.
    fn check_scheme(&self, checkpoint: &Checkpoint) -> Result<()> {
        let scheme = self.quantize.scheme();
        match checkpoint.quantized().next() {
            Some(module) if scheme != crate::Scheme::Grouped && !self.requantize => {
                Err(Error::Config {
                    field: "scheme",
                    reason: format!(
                        "is {scheme}, which cannot hold the floating-point group scales of \
                         `{module}` without loss: expected grouped, or --requantize to quantize \
                         the values again"
                    ),
                })
            }
            _ => Ok(()),
        }
    }

    /// Rejects an entry of `keep` that matches nothing. The module it was meant for would be
    /// quantized.
    fn check_keep(&self, checkpoint: &Checkpoint) -> Result<()> {
        for kept in &self.keep {
            let exists = (checkpoint.plain())
                .map(|name| name.strip_suffix(".weight").unwrap_or(name))
                .any(|name| matches_module(kept, name));
            let packed = (checkpoint.quantized()).any(|module| matches_module(kept, module));
            let reason = match (packed, exists) {
                (true, _) => {
                    format!("has `{kept}`, which is packed already: expected a plain module")
                }
                (_, false) => format!("has `{kept}`: expected a module of the checkpoint"),
                _ => continue,
            };
            return Err(Error::Config {
                field: "keep",
                reason,
            });
        }
        Ok(())
    }

    /// Rejects an entry of `also` that quantizes nothing more.
    fn check_also(&self, checkpoint: &Checkpoint) -> Result<()> {
        for also in &self.also {
            let plain = checkpoint.config.scheme == Scheme::Plain;
            let more = (checkpoint.plain())
                .filter(|name| plain && checkpoint.matrix(name).is_some())
                .filter_map(|name| name.strip_suffix(".weight"))
                .filter(|module| checkpoint.kind().is_some_and(|k| !k.quantizes(module)))
                .any(|module| matches_module(also, module) && !self.keeps(checkpoint, module));
            if !more {
                let kind = checkpoint.kind().map_or_else(
                    || "a model that is quantized in part".into(),
                    |kind| format!("{}, which quantizes {}", kind.name(), kind.quantized()),
                );
                return Err(Error::Config {
                    field: "also",
                    reason: format!(
                        "has `{also}`: expected a plain module with matrices of {kind}"
                    ),
                });
            }
        }
        Ok(())
    }

    /// Returns whether a module of a plain checkpoint stays plain.
    fn keeps(&self, checkpoint: &Checkpoint, module: &str) -> bool {
        let embedding = |part: &str| {
            let part = part.to_ascii_lowercase();
            part.contains("embed") || ["wte", "wpe", "lm_head"].contains(&part.as_str())
        };
        let listed = |list: &[String]| list.iter().any(|entry| matches_module(entry, module));
        module.split('.').any(embedding)
            || checkpoint.config.excludes(module)
            || listed(&self.keep)
            || (checkpoint.kind()).is_some_and(|k| !k.quantizes(module) && !listed(&self.also))
    }
}

/// Returns whether an entry is a module's name, or some of its consecutive dotted parts.
fn matches_module(entry: &str, module: &str) -> bool {
    format!(".{module}.").contains(&format!(".{entry}."))
}
