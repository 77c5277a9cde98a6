//! A training half done, in a file: from it a run goes on as if it had not stopped.
//!
//! Safetensors with the metadata `format` `w4ax-distill`, `plan` (a [`Plan`] as JSON) and `progress` (a [`Progress`]), and
//! for each parameter `{value,first,second,average}.{name}`.

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

/// How far a training is.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Progress {
    /// 0 or 1: in stage 1 or 2.
    pub stage: usize,
    /// Steps of the stage that are done.
    pub step: usize,
    /// Steps that the optimizer has done.
    pub optimizer_steps: usize,
    /// By stage: the mean loss of the last steps.
    pub losses: [Option<f64>; 2],
    /// By stage: time taken, over all runs.
    pub seconds: [f64; 2],
}

/// Writes a training, whole or not at all.
///
/// # Errors
/// [`Error::Io`]; candle's.
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

/// Reads a training into `optimizer`, which has the plan's parameters.
///
/// # Errors
/// [`Error::Io`]; [`Error::Format`] for a truncated or foreign file, one of another plan, progress beyond the plan's, a tensor of another type or shape, one
/// too many, a value that is not finite; [`Error::MissingTensor`].
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
        value.ok_or_else(|| bad(format!("there is no metadata `{field}`")))
    };
    if field("format")? != FORMAT {
        return Err(bad(format!("the format is not `{FORMAT}`")).into());
    }
    let of: Plan = serde_json::from_str(field("plan")?).map_err(|e| bad(format!("`plan`: {e}")))?;
    if of != *plan {
        return Err(bad(format!(
            "it is of another training: {of:?}, not {plan:?}; remove it to begin anew"
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
            let reason = format!("`{name}` must be F32 {wanted:?}, it is {got:?} {shape:?}");
            return Err(bad(reason).into());
        }
        let words = tensor.data().as_chunks().0;
        let values: Vec<f32> = words.iter().map(|&word| f32::from_le_bytes(word)).collect();
        if values.iter().any(|x| !x.is_finite()) {
            return Err(bad(format!("`{name}` holds a value that is not finite")).into());
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
        return Err(bad(format!("the training has no tensor `{name}`")).into());
    }
    for (name, value) in values {
        let var: &Var = &optimizer.vars[&name];
        debug_assert_eq!(value.dtype(), DType::F32);
        var.set(&value)?;
    }
    optimizer.steps = progress.optimizer_steps;
    Ok(progress)
}
