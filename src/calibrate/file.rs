//! The calibration and its file.

use std::path::Path;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::check_bound;
use super::json::{Fields, Node, Refusal};
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
        let node: Node =
            serde_json::from_slice(json).map_err(|e| Error::format(file, e.to_string()))?;
        let calibration = Self::from_node(&node).map_err(|reason| Error::format(file, reason))?;
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
        let json = serde_json::to_string_pretty(self);
        // No map keys but strings, no writer: serialising cannot fail.
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
        let path = path.as_ref();
        let json = self.to_json()?;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.tmp", std::process::id()));
        let temporary = path.with_file_name(name);
        let written =
            write_through(&temporary, &json).and_then(|()| std::fs::rename(&temporary, path));
        written.map_err(|e| {
            // The write has failed already; what is left of it is in no one's way.
            let _ = std::fs::remove_file(&temporary);
            Error::io(path, e)
        })
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

    fn from_node(node: &Node) -> std::result::Result<Self, Refusal> {
        let root = Fields::root(node)?;
        let format = root.integer("format")?;
        if format != FORMAT {
            return Err(format!("`format` is {format}, this version reads {FORMAT}"));
        }
        let tasks = root.object("tasks")?;
        let scale = |name: &str| {
            let task = tasks.object(name)?;
            let motion = MotionScale {
                mu_max: task.number("mu_max")?,
                nu_max: task.number("nu_max")?,
            };
            Ok(TaskScale {
                name: name.to_owned(),
                motion,
            })
        };
        Ok(Self {
            lambda: root.number("lambda")?,
            window_macro: root.integer("window_macro")? as usize,
            window_micro: root.integer("window_micro")? as usize,
            k: root.integer("k")?,
            thresholds: Thresholds {
                theta_24: root.number("theta_24")?,
                theta_48: root.number("theta_48")?,
                theta_fp: root.number("theta_fp")?,
            },
            eta: root.number("eta")?,
            d_acc: root.number("d_acc")?,
            tasks: tasks
                .names()
                .map(scale)
                .collect::<std::result::Result<_, Refusal>>()?,
        })
    }
}

fn write_through(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    let mut file = std::fs::File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

impl Serialize for Calibration {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("format", &FORMAT)?;
        map.serialize_entry("lambda", &self.lambda)?;
        map.serialize_entry("window_macro", &self.window_macro)?;
        map.serialize_entry("window_micro", &self.window_micro)?;
        map.serialize_entry("k", &self.k)?;
        map.serialize_entry("theta_fp", &self.thresholds.theta_fp)?;
        map.serialize_entry("theta_24", &self.thresholds.theta_24)?;
        map.serialize_entry("theta_48", &self.thresholds.theta_48)?;
        map.serialize_entry("eta", &self.eta)?;
        map.serialize_entry("d_acc", &self.d_acc)?;
        map.serialize_entry("tasks", &Tasks(&self.tasks))?;
        map.end()
    }
}

/// The tasks as one object, in order.
struct Tasks<'a>(&'a [TaskScale]);

impl Serialize for Tasks<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Motion {
            mu_max: f64,
            nu_max: f64,
        }
        let entry = |task: &TaskScale| {
            let MotionScale { mu_max, nu_max } = task.motion;
            (task.name.clone(), Motion { mu_max, nu_max })
        };
        serializer.collect_map(self.0.iter().map(entry))
    }
}
