//! The calibration and its JSON file.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::consistency::{ConsistencyCalibration, ConsistencyJson};
use super::settings::check_bound;
use crate::dispatch::{
    ActionLayout, ConsistencyConfig, DispatchConfig, MotionScale, StepCosts, Thresholds,
    WidthChoice,
};
use crate::{Error, Result, Width};

/// The motion scale of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskScale {
    /// The name of the task, as policies and logs use it.
    pub name: String,
    /// The scale of the task's motion.
    pub motion: MotionScale,
}

/// The parameters of a dispatcher for each task of a policy, and the error bound they were
/// calibrated for.
///
/// The JSON file (format 1) is an object with the fields `format`, `lambda`, `window_macro`,
/// `window_micro`, `k`, `theta_fp`, `theta_24`, `theta_48`, `eta`, `d_acc` and `tasks`. `tasks` is
/// an object of `{"mu_max": x, "nu_max": y}` by name. Other fields are ignored. Numbers are read
/// back to the same bits.
///
/// Optional fields are `errors` (`{"a2": x, ..}`, the mean error of each width), `costs`
/// ([`StepCosts`]) and `consistency` ([`ConsistencyCalibration`]). They do not change the meaning
/// of the others, so a reader that does not know them may ignore them.
///
/// A calibration of another [layout](ActionLayout) than the default is of format 2, which has the
/// field `layout`, the text of the layout. A reader of format 1 would ignore the field, so format 1
/// must not have it.
///
/// ```
/// use w4ax::calibrate::Calibration;
/// use w4ax::dispatch::Dispatcher;
/// # fn main() -> w4ax::Result<()> {
/// let calibration = Calibration::load("tests/data/robot/calibration.json")?;
/// let mut dispatcher = Dispatcher::new(&calibration.dispatch_config("Lift")?)?;
/// assert_eq!(dispatcher.decide().active, w4ax::Width::Bf16); // No action was observed yet.
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// The weight of the macro motion, see [`DispatchConfig::with_lambda`].
    pub lambda: f64,
    /// The macro window in actions, see [`DispatchConfig::with_window_macro`].
    pub window_macro: usize,
    /// The micro window in actions, see [`DispatchConfig::with_window_micro`].
    pub window_micro: usize,
    /// K of the hysteresis in steps, see [`DispatchConfig::with_k`].
    pub k: u32,
    /// The boundaries of Phi.
    pub thresholds: Thresholds,
    /// eta, see [`CalibrationSettings::with_eta`](super::CalibrationSettings::with_eta).
    pub eta: f64,
    /// D_acc, see [`CalibrationSettings::with_d_acc`](super::CalibrationSettings::with_d_acc).
    pub d_acc: f64,
    /// What the numbers of an action are.
    pub layout: ActionLayout,
    /// The tasks in the order of the file, at least one, with distinct names.
    pub tasks: Vec<TaskScale>,
    /// The mean error of each width in action units, by [`Width::index`], if it was measured.
    pub errors: Option<[f64; 4]>,
    /// The cost of a step at each width, if it was measured.
    pub costs: Option<StepCosts>,
    /// The parameters of the consistency rule, if they were calibrated.
    pub consistency: Option<ConsistencyCalibration>,
}

impl Calibration {
    /// The newest version of the file format. This crate reads all versions from 1 on, and writes
    /// the oldest one that has the fields.
    pub const FORMAT_VERSION: u32 = 2;

    /// Returns the configuration of a dispatcher for a task, with the default algorithm.
    ///
    /// # Errors
    /// [`Error::Config`] if the task is unknown, or a value is out of range.
    pub fn dispatch_config(&self, task: &str) -> Result<DispatchConfig> {
        let Some(found) = self.tasks.iter().find(|t| t.name == task) else {
            let names: Vec<&str> = self.tasks.iter().map(|t| t.name.as_str()).collect();
            let reason = format!("has no task `{task}`: expected {}", names.join(", "));
            return Err(Error::Config {
                field: "tasks",
                reason,
            });
        };
        let config = self.config_for(found.motion);
        config.validate()?;
        Ok(config)
    }

    /// Returns the configuration of a consistency rule for a task, between two step widths. Without
    /// the section `consistency`, it is the default without a gate.
    ///
    /// # Errors
    /// As [`dispatch_config`](Self::dispatch_config) and [`ConsistencyConfig::validate`].
    pub fn consistency_config(
        &self,
        task: &str,
        low: Width,
        high: Width,
    ) -> Result<ConsistencyConfig> {
        let kinematics = self.dispatch_config(task)?;
        match &self.consistency {
            Some(rule) => rule.config(kinematics, low, high),
            None => ConsistencyCalibration::default().config(kinematics, low, high),
        }
    }

    /// Returns the widths between which a consistency rule chooses at these costs: those of the
    /// section `consistency`, unless the lower one is dominated, or the choice by costs and mean
    /// errors.
    pub fn width_choice(&self, costs: &StepCosts, errors: &[f64; 4]) -> WidthChoice {
        let set = self.consistency.as_ref();
        match set.map(|rule| (rule.low, rule.high)) {
            Some((Some(low), Some(high))) if low == high => WidthChoice::Static(high),
            Some((Some(low), Some(high))) if costs.dominated_by(low).is_none() => {
                WidthChoice::Dynamic { low, high }
            }
            _ => costs.choice(errors),
        }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Config`] with the first field that is out of range. `tasks` must not be empty and
    /// must not have duplicate names.
    pub fn validate(&self) -> Result<()> {
        check_bound(self.eta, self.d_acc)?;
        if self.tasks.is_empty() {
            return Err(Error::Config {
                field: "tasks",
                reason: "is empty: expected at least one task".into(),
            });
        }
        for (i, task) in self.tasks.iter().enumerate() {
            if self.tasks[..i].iter().any(|t| t.name == task.name) {
                let reason = format!("has `{}` twice: expected distinct names", task.name);
                return Err(Error::Config {
                    field: "tasks",
                    reason,
                });
            }
            self.config_for(task.motion)
                .validate()
                .map_err(|error| match error {
                    Error::Config {
                        field: field @ ("mu_max" | "nu_max"),
                        reason,
                    } => {
                        let reason = format!("of task `{}` {reason}", task.name);
                        Error::Config { field, reason }
                    }
                    other => other,
                })?;
        }
        if let Some(errors) = &self.errors
            && let Some(error) = errors.iter().find(|e| !(e.is_finite() && **e >= 0.0))
        {
            return Err(Error::Config {
                field: "errors",
                reason: format!("has {error}: expected finite values of at least 0"),
            });
        }
        if let Some(costs) = &self.costs {
            costs.validate()?;
        }
        match &self.consistency {
            Some(rule) => rule.validate(self.config_for(self.tasks[0].motion)),
            None => Ok(()),
        }
    }

    /// Parses JSON. `file` is the name in errors.
    ///
    /// # Errors
    /// [`Error::Format`] with the field that is missing, of the wrong type or out of range, with an
    /// unsupported format version, or with the position of invalid JSON.
    pub fn from_json(json: &[u8], file: &str) -> Result<Self> {
        // The version is checked first, because other versions may have other fields.
        let CalibrationVersion { format } = parse(json, file)?;
        if !(1..=Self::FORMAT_VERSION).contains(&format) {
            let reason = format!(
                "`format` is {format}: expected 1 or {}",
                Self::FORMAT_VERSION
            );
            return Err(Error::format(file, reason));
        }
        let wire = parse::<CalibrationJson>(json, file)?;
        match (format, wire.layout) {
            (1, Some(_)) => return Err(Error::format(file, "`layout` requires `format` 2")),
            (2, None) => return Err(Error::format(file, "missing field `layout`")),
            _ => (),
        }
        let calibration = Self::try_from(wire);
        let calibration = calibration.and_then(|calibration| {
            calibration.validate()?;
            Ok(calibration)
        });
        calibration.map_err(|error| match error {
            Error::Config { field, reason } => Error::format(file, format!("`{field}` {reason}")),
            other => other,
        })
    }

    /// Returns JSON that [`from_json`](Self::from_json) reads back to the same bits.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn to_json(&self) -> Result<String> {
        self.validate()?;
        let json = serde_json::to_string_pretty(&CalibrationJson::from(self));
        Ok(json.expect("string keys and plain values always serialize") + "\n")
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Io`], and as [`from_json`](Self::from_json).
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let json = std::fs::read(path).map_err(|e| Error::io(path, e))?;
        Self::from_json(&json, &path.display().to_string())
    }

    /// Writes a file atomically: a temporary file in the same folder is renamed at the end.
    ///
    /// # Errors
    /// [`Error::Io`], and as [`to_json`](Self::to_json).
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        crate::file::write_atomically(path.as_ref(), self.to_json()?.as_bytes())
    }

    fn config_for(&self, motion: MotionScale) -> DispatchConfig {
        DispatchConfig::new(motion, self.thresholds)
            .with_lambda(self.lambda)
            .with_window_macro(self.window_macro)
            .with_window_micro(self.window_micro)
            .with_k(self.k)
            .with_layout(self.layout)
    }
}

/// Parses JSON. An error has the path of the field and the position.
fn parse<'a, T: Deserialize<'a>>(json: &'a [u8], file: &str) -> Result<T> {
    let mut parser = serde_json::Deserializer::from_slice(json);
    let parsed = serde_path_to_error::deserialize(&mut parser).map_err(|e| {
        let at_the_root = e.path().iter().next().is_none();
        let reason = match at_the_root {
            true => e.inner().to_string(),
            false => format!("`{}`: {}", e.path(), e.inner()),
        };
        Error::format(file, reason)
    })?;
    let end = parser.end();
    end.map_err(|e| Error::format(file, e.to_string()))?;
    Ok(parsed)
}

/// The field that every version of the format has.
#[derive(Deserialize)]
struct CalibrationVersion {
    format: u32,
}

/// The fields of the file.
#[derive(Serialize, Deserialize)]
struct CalibrationJson {
    format: u32,
    lambda: f64,
    window_macro: usize,
    window_micro: usize,
    k: u32,
    theta_fp: f64,
    theta_24: f64,
    theta_48: f64,
    eta: f64,
    d_acc: f64,
    /// Format 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layout: Option<ActionLayout>,
    #[serde(with = "tasks")]
    tasks: Vec<TaskScale>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    errors: Option<ErrorsJson>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    costs: Option<StepCosts>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    consistency: Option<ConsistencyJson>,
}

/// Mean errors by width.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ErrorsJson {
    a2: f64,
    a4: f64,
    a8: f64,
    bf16: f64,
}

impl TryFrom<CalibrationJson> for Calibration {
    type Error = Error;

    fn try_from(wire: CalibrationJson) -> Result<Self> {
        Ok(Self {
            lambda: wire.lambda,
            window_macro: wire.window_macro,
            window_micro: wire.window_micro,
            k: wire.k,
            thresholds: Thresholds {
                theta_24: wire.theta_24,
                theta_48: wire.theta_48,
                theta_fp: wire.theta_fp,
            },
            eta: wire.eta,
            d_acc: wire.d_acc,
            layout: wire.layout.unwrap_or_default(),
            tasks: wire.tasks,
            errors: wire.errors.map(|e| [e.a2, e.a4, e.a8, e.bf16]),
            costs: wire.costs,
            consistency: wire.consistency.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<&Calibration> for CalibrationJson {
    fn from(calibration: &Calibration) -> Self {
        let layout = Some(calibration.layout).filter(|layout| *layout != ActionLayout::default());
        Self {
            format: if layout.is_some() { 2 } else { 1 },
            lambda: calibration.lambda,
            window_macro: calibration.window_macro,
            window_micro: calibration.window_micro,
            k: calibration.k,
            theta_fp: calibration.thresholds.theta_fp,
            theta_24: calibration.thresholds.theta_24,
            theta_48: calibration.thresholds.theta_48,
            eta: calibration.eta,
            d_acc: calibration.d_acc,
            layout,
            tasks: calibration.tasks.clone(),
            errors: (calibration.errors).map(|[a2, a4, a8, bf16]| ErrorsJson { a2, a4, a8, bf16 }),
            costs: calibration.costs,
            consistency: calibration.consistency.as_ref().map(Into::into),
        }
    }
}

/// Serializes the tasks as one JSON object in their order. [`Calibration::validate`] rejects
/// duplicate names.
mod tasks {
    use super::{MotionScale, TaskScale};
    use serde::de::{Deserializer, MapAccess, Visitor};
    use serde::ser::Serializer;

    pub fn serialize<S: Serializer>(tasks: &[TaskScale], to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(tasks.iter().map(|task| (&task.name, task.motion)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<TaskScale>, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Vec<TaskScale>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object with the motion scale of each task")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut tasks = Vec::new();
                while let Some((name, motion)) = map.next_entry::<String, MotionScale>()? {
                    tasks.push(TaskScale { name, motion });
                }
                Ok(tasks)
            }
        }
        from.deserialize_map(InOrder)
    }
}
