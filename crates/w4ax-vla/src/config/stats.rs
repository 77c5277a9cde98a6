//! The statistics of the data sets that a model was trained on.

use super::json::{self, Fields};
use crate::{Result, VlaError};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::path::Path;

/// The file of a fine-tuned model's statistics. It replaces those of `config.json`.
const STATISTICS: &str = "dataset_statistics.json";

/// Ranges of the dimensions of an action or of a state.
///
/// All vectors have one finite value per dimension.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    q01: Vec<f64>,
    q99: Vec<f64>,
    min: Option<Vec<f64>>,
    max: Option<Vec<f64>>,
    mask: Vec<bool>,
}

impl Stats {
    /// Returns statistics with these percentiles, in which all dimensions are normalized.
    ///
    /// # Errors
    /// [`Input`](VlaError::Input) for vectors that are empty, of different lengths or with a value
    /// that is not finite.
    pub fn new(q01: Vec<f64>, q99: Vec<f64>) -> Result<Self> {
        let mask = vec![true; q01.len()];
        let stats = Self {
            q01,
            q99,
            min: None,
            max: None,
            mask,
        };
        stats.checked()
    }

    /// Returns these statistics with the smallest and the largest values.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_min_max(self, min: Vec<f64>, max: Vec<f64>) -> Result<Self> {
        let (min, max) = (Some(min), Some(max));
        Self { min, max, ..self }.checked()
    }

    /// Returns these statistics with a mask of the dimensions that are normalized.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_mask(self, mask: Vec<bool>) -> Result<Self> {
        Self { mask, ..self }.checked()
    }

    /// Number of dimensions.
    pub fn dims(&self) -> usize {
        self.q01.len()
    }

    /// The first percentile, per dimension.
    pub fn q01(&self) -> &[f64] {
        &self.q01
    }

    /// The 99th percentile, per dimension.
    pub fn q99(&self) -> &[f64] {
        &self.q99
    }

    /// The smallest value, per dimension.
    pub fn min(&self) -> Option<&[f64]> {
        self.min.as_deref()
    }

    /// The largest value, per dimension.
    pub fn max(&self) -> Option<&[f64]> {
        self.max.as_deref()
    }

    /// Whether a dimension is normalized. A gripper usually is not.
    pub fn mask(&self) -> &[bool] {
        &self.mask
    }

    fn checked(self) -> Result<Self> {
        self.check().map_err(|fault| VlaError::Input {
            what: "statistics",
            got: format!("{}: {}", fault.field, fault.got),
            expected: fault.expected,
        })?;
        Ok(self)
    }

    fn check(&self) -> Result<(), Fault> {
        let dims = self.q01.len();
        if dims == 0 {
            return Err(Fault::new(
                "q01",
                "an empty list",
                "one number per dimension",
            ));
        }
        let vectors = [
            ("q01", Some(&self.q01)),
            ("q99", Some(&self.q99)),
            ("min", self.min.as_ref()),
            ("max", self.max.as_ref()),
        ];
        for (field, values) in vectors {
            let Some(values) = values else { continue };
            check_length(field, values.len(), dims)?;
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                return Err(Fault::new(field, value, "finite numbers"));
            }
        }
        check_length("mask", self.mask.len(), dims)
    }
}

fn check_length(field: &'static str, got: usize, dims: usize) -> Result<(), Fault> {
    if got == dims {
        return Ok(());
    }
    let expected = format!("{dims} values, as in q01");
    Err(Fault::new(
        field,
        format!("a list of {got} values"),
        expected,
    ))
}

/// What is wrong with a field.
struct Fault {
    field: &'static str,
    got: String,
    expected: String,
}

impl Fault {
    fn new(field: &'static str, got: impl ToString, expected: impl ToString) -> Self {
        Self {
            field,
            got: got.to_string(),
            expected: expected.to_string(),
        }
    }
}

/// Statistics of one data set.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct DatasetStats {
    /// Of its actions.
    pub action: Stats,
    /// Of the robot's state.
    pub proprio: Option<Stats>,
}

impl DatasetStats {
    /// Returns statistics of actions and, if the model has a proprio projector, of states.
    pub fn new(action: Stats, proprio: Option<Stats>) -> Self {
        Self { action, proprio }
    }
}

/// The statistics of a checkpoint, by the name of the data set.
#[derive(Debug, Clone, PartialEq)]
pub struct NormStats {
    file: String,
    datasets: Vec<(String, DatasetStats)>,
}

impl NormStats {
    /// Reads the statistics of a checkpoint's folder: those of `dataset_statistics.json` if it
    /// exists, otherwise the field `norm_stats` of `config.json`.
    ///
    /// # Errors
    /// [`Io`](VlaError::Io) and [`Json`](VlaError::Json) for a file that cannot be read,
    /// [`Field`](VlaError::Field) for statistics that are missing, of different lengths or not
    /// finite.
    pub fn load(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let path = folder.join(STATISTICS);
        let file = path.display().to_string();
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::from_json(&file, &text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let path = folder.join("config.json");
                let stored: StoredConfig = json::read(&path)?;
                let file = path.display().to_string();
                Self::check(&file, "norm_stats", stored.norm_stats.unwrap_or_default())
            }
            Err(source) => Err(VlaError::io(&path, source)),
        }
    }

    /// Parses the text of a `dataset_statistics.json`. `file` is its name for errors.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_json(file: &str, text: &str) -> Result<Self> {
        Self::check(file, "", json::parse(file, text)?)
    }

    /// Returns statistics of data sets by name. `file` is the name of their source for errors.
    pub fn new(file: &str, datasets: Vec<(String, DatasetStats)>) -> Self {
        Self {
            file: file.to_owned(),
            datasets,
        }
    }

    /// Returns the data set `key` and its name. Without a key, the only data set is returned.
    ///
    /// # Errors
    /// [`NormStats`](VlaError::NormStats), which lists the data sets, for a key that does not
    /// exist, and for no key if there are several data sets.
    pub fn get(&self, key: Option<&str>) -> Result<(&str, &DatasetStats)> {
        let found = match key {
            Some(key) => self.datasets.iter().find(|(name, _)| name == key),
            None if self.datasets.len() == 1 => self.datasets.first(),
            None => None,
        };
        match found {
            Some((name, stats)) => Ok((name, stats)),
            None => Err(VlaError::NormStats {
                file: self.file.clone(),
                reason: match key {
                    Some(key) => format!("no statistics of data set `{key}`"),
                    None => format!("no key for {} data sets", self.datasets.len()),
                },
                available: self.keys().map(str::to_owned).collect(),
            }),
        }
    }

    /// The names of the data sets, in the order of the file.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.datasets.iter().map(|(name, _)| name.as_str())
    }

    fn check(file: &str, field: &str, stored: Map<String, Value>) -> Result<Self> {
        let fields = Fields { file };
        fields.check(
            !stored.is_empty(),
            if field.is_empty() { "(root)" } else { field },
            "empty or missing",
            &format!("statistics of at least one data set, here or in {STATISTICS}"),
        )?;
        let mut datasets = Vec::with_capacity(stored.len());
        for (name, value) in stored {
            let prefix = if field.is_empty() {
                name.clone()
            } else {
                format!("{field}.{name}")
            };
            let stored = StoredDataset::deserialize(&value)
                .map_err(|e| fields.error(&prefix, e, "the statistics of a data set"))?;
            let action = stored
                .action
                .into_stats(&fields, &format!("{prefix}.action"))?;
            let proprio = stored
                .proprio
                .map(|stats| stats.into_stats(&fields, &format!("{prefix}.proprio")))
                .transpose()?;
            datasets.push((name, DatasetStats { action, proprio }));
        }
        Ok(Self::new(file, datasets))
    }
}

#[derive(Deserialize)]
struct StoredConfig {
    norm_stats: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct StoredDataset {
    action: StoredStats,
    proprio: Option<StoredStats>,
}

#[derive(Deserialize)]
struct StoredStats {
    q01: Vec<f64>,
    q99: Vec<f64>,
    min: Option<Vec<f64>>,
    max: Option<Vec<f64>>,
    mask: Option<Vec<bool>>,
}

impl StoredStats {
    fn into_stats(self, fields: &Fields, prefix: &str) -> Result<Stats> {
        let mask = self.mask.unwrap_or_else(|| vec![true; self.q01.len()]);
        let stats = Stats {
            q01: self.q01,
            q99: self.q99,
            min: self.min,
            max: self.max,
            mask,
        };
        stats.check().map_err(|fault| {
            let field = format!("{prefix}.{}", fault.field);
            fields.error(&field, fault.got, &fault.expected)
        })?;
        Ok(stats)
    }
}
