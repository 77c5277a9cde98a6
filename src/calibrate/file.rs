//! The calibration and its file.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::check_bound;
use crate::dispatch::{DispatchConfig, MotionScale, Thresholds};
use crate::{Error, Result};

/// The version of the format that this crate writes, and the one that it reads.
const FORMAT: u32 = 1;

/// The motion scale of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskScale {
    /// The task's name, by which policies and logs refer to it.
    pub name: String,
    /// How fast it moves.
    pub motion: MotionScale,
}

/// What a dispatcher needs for each of a policy's tasks, and the bound that it was calibrated for.
///
/// As JSON (format 1) it is an object with `format`, `lambda`, `window_macro`, `window_micro`, `k`, `theta_fp`,
/// `theta_24`, `theta_48`, `eta`, `d_acc`, and `tasks`: an object of `{"mu_max": x, "nu_max": y}` by name. Other fields
/// are ignored. Numbers come back bit for bit.
///
/// ```
/// use w4ax::calibrate::Calibration;
/// use w4ax::dispatch::Dispatcher;
/// # fn main() -> w4ax::Result<()> {
/// let calibration = Calibration::load("tests/data/robot/calibration.json")?;
/// let mut dispatcher = Dispatcher::new(&calibration.dispatch_config("Lift")?)?;
/// assert_eq!(dispatcher.decide().active, w4ax::Width::Bf16); // Nothing is known yet.
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// As in [`DispatchConfig`].
    pub lambda: f64,
    /// As in [`DispatchConfig`].
    pub window_macro: usize,
    /// As in [`DispatchConfig`].
    pub window_micro: usize,
    /// As in [`DispatchConfig`].
    pub k: u32,
    /// The boundaries of Phi.
    pub thresholds: Thresholds,
    /// As in [`Settings`](super::Settings).
    pub eta: f64,
    /// As in [`Settings`](super::Settings).
    pub d_acc: f64,
    /// The tasks, in the order of the file; each name once, at least one.
    pub tasks: Vec<TaskScale>,
}

impl Calibration {
    /// The configuration of a dispatcher for a task, with the default algorithm.
    ///
    /// # Errors
    /// [`Error::Config`]: there is no such task, or a value is outside its range.
    pub fn dispatch_config(&self, task: &str) -> Result<DispatchConfig> {
        let Some(found) = self.tasks.iter().find(|t| t.name == task) else {
            let names: Vec<&str> = self.tasks.iter().map(|t| t.name.as_str()).collect();
            let reason = format!("hold no `{task}`, only {}", names.join(", "));
            return Err(Error::Config {
                field: "tasks",
                reason,
            });
        };
        let config = self.config_for(found.motion);
        config.validate()?;
        Ok(config)
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Config`] with the first field that is outside its range; no tasks; the same name twice.
    pub fn validate(&self) -> Result<()> {
        check_bound(self.eta, self.d_acc)?;
        if self.tasks.is_empty() {
            return Err(Error::Config {
                field: "tasks",
                reason: "are none".into(),
            });
        }
        for (i, task) in self.tasks.iter().enumerate() {
            if self.tasks[..i].iter().any(|t| t.name == task.name) {
                let reason = format!("hold `{}` twice", task.name);
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
        Ok(())
    }

    /// Reads JSON; `file` is what errors call it.
    ///
    /// # Errors
    /// [`Error::Format`] with the field that is missing, of the wrong type or outside its range, with an unknown
    /// format version, or with the place where the bytes are no JSON.
    pub fn from_json(json: &[u8], file: &str) -> Result<Self> {
        // The version first: another one may lack or mean other fields.
        let Format { format } = parse(json, file)?;
        if format != FORMAT {
            let reason = format!("`format` is {format}, this version reads {FORMAT}");
            return Err(Error::format(file, reason));
        }
        let calibration = Self::from(parse::<Wire>(json, file)?);
        calibration.validate().map_err(|error| match error {
            Error::Config { field, reason } => Error::format(file, format!("`{field}` {reason}")),
            other => other,
        })?;
        Ok(calibration)
    }

    /// Writes JSON that [`from_json`](Self::from_json) reads back to the same bits.
    ///
    /// # Errors
    /// As [`validate`](Self::validate): nothing is written that could not be read.
    pub fn to_json(&self) -> Result<String> {
        self.validate()?;
        let json = serde_json::to_string_pretty(&Wire::from(self));
        // No map keys but strings, no writer: serializing cannot fail.
        Ok(json.expect("a calibration is plain data") + "\n")
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

    /// Writes a file, whole or not at all: a temporary file beside it takes its name at the end.
    ///
    /// # Errors
    /// [`Error::Io`], and as [`to_json`](Self::to_json).
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        crate::file::write_atomically(path.as_ref(), self.to_json()?.as_bytes())
    }

    fn config_for(&self, motion: MotionScale) -> DispatchConfig {
        DispatchConfig {
            lambda: self.lambda,
            window_macro: self.window_macro,
            window_micro: self.window_micro,
            k: self.k,
            ..DispatchConfig::new(motion, self.thresholds)
        }
    }
}

/// Parses JSON; an error names the field and the place.
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

/// The field that every version has.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// The fields as the file has them.
#[derive(Serialize, Deserialize)]
struct Wire {
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
    #[serde(with = "tasks")]
    tasks: Vec<TaskScale>,
}

impl From<Wire> for Calibration {
    fn from(wire: Wire) -> Self {
        Self {
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
            tasks: wire.tasks,
        }
    }
}

impl From<&Calibration> for Wire {
    fn from(calibration: &Calibration) -> Self {
        Self {
            format: FORMAT,
            lambda: calibration.lambda,
            window_macro: calibration.window_macro,
            window_micro: calibration.window_micro,
            k: calibration.k,
            theta_fp: calibration.thresholds.theta_fp,
            theta_24: calibration.thresholds.theta_24,
            theta_48: calibration.thresholds.theta_48,
            eta: calibration.eta,
            d_acc: calibration.d_acc,
            tasks: calibration.tasks.clone(),
        }
    }
}

/// The tasks as one JSON object, in order. A name that stands twice is found by [`Calibration::validate`].
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
                f.write_str("an object of motion scales by task")
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
