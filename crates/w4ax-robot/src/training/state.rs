//! The checkpoint of a training, from which a run resumes without a difference.
//!
//! Safetensors with the metadata `format` `w4ax-distill`, `plan` (a [`Plan`] as JSON) and
//! `progress` (a [`Progress`]), and for each parameter `{value,first,second,average}.{name}`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};
use safetensors::{Dtype, SafeTensors};
use w4ax::{Error, file};

use super::Result;
use super::networks::Parameters;
use super::optimizer::Optimizer;
use super::plan::Plan;

const FORMAT: &str = "w4ax-distill";

/// The progress of a training.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Progress {
    /// 0 in stage 1, 1 in stage 2.
    pub stage: usize,
    /// Finished steps of the stage.
    pub step: usize,
    /// Steps of the optimizer.
    pub optimizer_steps: usize,
    /// By stage: the running mean of the loss.
    pub losses: [Option<f64>; 2],
    /// By stage: duration over all runs.
    pub seconds: [f64; 2],
}

/// Writes a checkpoint, whole or not at all.
///
/// # Errors
/// [`Error::Io`]. Those of candle.
pub fn save(path: &Path, plan: &Plan, progress: &Progress, optimizer: &Optimizer) -> Result<()> {
    let values: Parameters = (optimizer.vars.iter())
        .map(|(name, var)| (name.clone(), var.as_tensor().clone()))
        .collect();
    let parts = [
        ("value", &values),
        ("first", &optimizer.first),
        ("second", &optimizer.second),
        ("average", &optimizer.average),
    ];
    let mut tensors = Vec::new();
    for (part, parameters) in parts {
        for (name, value) in parameters {
            tensors.push((format!("{part}.{name}"), value.clone()));
        }
    }
    let name = path.display().to_string();
    let bad = |error: &dyn std::fmt::Display| Error::Format {
        file: name.clone(),
        reason: error.to_string(),
    };
    let json = |value: serde_json::Result<String>| value.map_err(|error| bad(&error));
    let metadata = HashMap::from([
        ("format".to_owned(), FORMAT.to_owned()),
        ("plan".to_owned(), json(serde_json::to_string(plan))?),
        (
            "progress".to_owned(),
            json(serde_json::to_string(progress))?,
        ),
    ]);
    let bytes = safetensors::serialize(tensors, Some(metadata)).map_err(|error| bad(&error))?;
    Ok(file::write_atomically(path, &bytes)?)
}

/// Reads a checkpoint into `optimizer`, which has the plan's parameters.
///
/// # Errors
/// [`Error::Io`]. [`Error::MissingTensor`]. [`Error::Format`] for a truncated or foreign file,
/// another plan, progress beyond the plan, a tensor of another type or shape, an unexpected tensor,
/// or a value that is not finite.
pub fn load(path: &Path, plan: &Plan, optimizer: &mut Optimizer) -> Result<Progress> {
    let name = path.display().to_string();
    let bad = |reason: String| Error::Format {
        file: name.clone(),
        reason,
    };
    let bytes = std::fs::read(path).map_err(|source| Error::Io {
        file: name.clone(),
        source,
    })?;
    let header = SafeTensors::read_metadata(&bytes).map_err(|error| bad(error.to_string()))?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| bad(error.to_string()))?;
    let none = HashMap::new();
    let metadata = header.1.metadata().as_ref().unwrap_or(&none);
    let field = |field: &str| {
        let value = metadata.get(field);
        value.ok_or_else(|| bad(format!("missing metadata `{field}`")))
    };
    if field("format")? != FORMAT {
        let got = field("format")?;
        return Err(bad(format!("unknown format `{got}`: expected `{FORMAT}`")).into());
    }
    let of: Plan = serde_json::from_str(field("plan")?).map_err(|e| bad(format!("`plan`: {e}")))?;
    if of != *plan {
        return Err(bad(format!(
            "checkpoint of another training {of:?}: expected {plan:?}; \
             remove the file to start again"
        ))
        .into());
    }
    let progress: Progress = serde_json::from_str(field("progress")?)
        .map_err(|error| bad(format!("`progress`: {error}")))?;
    let done: usize = plan.steps.iter().take(progress.stage).sum::<usize>() + progress.step;
    if progress.stage > 1
        || progress.step > plan.steps[progress.stage]
        || progress.optimizer_steps > done
    {
        return Err(bad(format!("`progress` is beyond the plan: {progress:?}")).into());
    }

    let mut unread: Vec<&str> = tensors.names().into_iter().collect();
    let mut read = |part: &str, name: &str, like: &Tensor| -> Result<Tensor> {
        let name = format!("{part}.{name}");
        let tensor = tensors.tensor(&name).map_err(|_| Error::MissingTensor {
            file: path.display().to_string(),
            name: name.clone(),
        })?;
        if tensor.dtype() != Dtype::F32 || tensor.shape() != like.dims() {
            let (got, shape, wanted) = (tensor.dtype(), tensor.shape(), like.dims());
            let reason = format!("`{name}` is {got:?} {shape:?}: expected F32 {wanted:?}");
            return Err(bad(reason).into());
        }
        let words = tensor.data().as_chunks().0;
        let values: Vec<f32> = words.iter().map(|&word| f32::from_le_bytes(word)).collect();
        if values.iter().any(|x| !x.is_finite()) {
            return Err(bad(format!("`{name}` has a value that is not finite")).into());
        }
        unread.retain(|other| *other != name);
        Ok(Tensor::from_vec(values, like.dims(), &Device::Cpu)?)
    };
    let mut values: BTreeMap<String, Tensor> = BTreeMap::new();
    for (name, var) in &optimizer.vars {
        let like = var.as_tensor();
        values.insert(name.clone(), read("value", name, like)?);
        optimizer
            .first
            .insert(name.clone(), read("first", name, like)?);
        optimizer
            .second
            .insert(name.clone(), read("second", name, like)?);
        optimizer
            .average
            .insert(name.clone(), read("average", name, like)?);
    }
    if let Some(name) = unread.first() {
        return Err(bad(format!("unexpected tensor `{name}`")).into());
    }
    for (name, value) in values {
        let var: &Var = &optimizer.vars[&name];
        debug_assert_eq!(value.dtype(), DType::F32);
        var.set(&value)?;
    }
    optimizer.steps = progress.optimizer_steps;
    Ok(progress)
}
