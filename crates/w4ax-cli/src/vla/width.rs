//! The width of the steps: fixed, or a dispatcher's.

use std::error::Error;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use w4ax::Width;
use w4ax::calibrate::Calibration;
use w4ax::dispatch::{Decision, Dispatcher, Reason};
use w4ax::step::{Decide, PrefillWidth, StepOptions};

use super::history;
use crate::width::WidthOption;

/// What decides the width.
#[derive(clap::Args, Clone, Debug)]
pub struct WidthOptions {
    /// Activation width: decided by the robot's motion, or fixed [default: dynamic with
    /// --calibration, bf16 without]
    #[arg(long, value_enum)]
    width: Option<WidthOption>,
    /// The dispatcher's calibration, JSON, as `w4ax calibrate` writes it
    #[arg(long, value_name = "FILE")]
    calibration: Option<PathBuf>,
    /// The task of the calibration; needed if it has several
    #[arg(long, value_name = "NAME", requires = "calibration")]
    task: Option<String>,
    /// The preceding actions of the episode, JSON lines: each line is an action as the model
    /// outputs it, in [-1, 1], or a chunk of them
    #[arg(long, value_name = "FILE", requires = "calibration")]
    history: Option<PathBuf>,
}

/// When the width is decided.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct DecideOptions {
    /// When the width is decided: before the step, for prefill and decode; or during the prefill,
    /// as in the paper, for the decode only
    #[arg(long, value_enum, default_value_t = DecideOption::Before)]
    decide: DecideOption,
    /// Width of a prefill that does not wait for the decision [default: that of the last step]
    #[arg(long, value_enum, value_name = "WIDTH")]
    prefill: Option<FixedWidth>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DecideOption {
    Before,
    During,
}

/// A width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FixedWidth {
    A2,
    A4,
    A8,
    Bf16,
}

impl From<FixedWidth> for Width {
    fn from(width: FixedWidth) -> Self {
        match width {
            FixedWidth::A2 => Self::A2,
            FixedWidth::A4 => Self::A4,
            FixedWidth::A8 => Self::A8,
            FixedWidth::Bf16 => Self::Bf16,
        }
    }
}

impl DecideOptions {
    /// Returns the options of the step engine.
    ///
    /// # Errors
    /// `--prefill` with a decision before the step.
    pub fn step_options(self) -> Result<StepOptions, Box<dyn Error>> {
        let prefill = match (self.decide, self.prefill) {
            (DecideOption::Before, None) => return Ok(StepOptions::default()),
            (DecideOption::Before, Some(_)) => {
                return Err("--prefill needs --decide during".into());
            }
            (DecideOption::During, None) => PrefillWidth::LastLatched,
            (DecideOption::During, Some(width)) => PrefillWidth::Fixed(width.into()),
        };
        Ok(StepOptions::default().with_decide(Decide::DuringPrefill(prefill)))
    }
}

/// The source of a step's width.
#[derive(Clone, Debug)]
pub enum WidthChoice {
    /// A dispatcher that observed the history.
    Dynamic(Box<Dispatcher>),
    /// One width for all steps.
    Fixed(Width),
}

impl WidthOptions {
    /// Reads the calibration and the history.
    ///
    /// # Errors
    /// Options that contradict one another, and invalid files.
    pub fn choose(&self) -> Result<WidthChoice, Box<dyn Error>> {
        let width = match (self.width, &self.calibration) {
            (None, Some(_)) => WidthOption::Dynamic,
            (None, None) => WidthOption::Bf16,
            (Some(width), _) => width,
        };
        if let Some(width) = width.fixed() {
            return Ok(WidthChoice::Fixed(width));
        }
        let Some(path) = &self.calibration else {
            return Err("--width dynamic needs --calibration FILE".into());
        };
        Ok(WidthChoice::Dynamic(Box::new(self.dispatcher(path)?)))
    }

    fn dispatcher(&self, path: &Path) -> Result<Dispatcher, Box<dyn Error>> {
        let calibration = Calibration::load(path)?;
        let task = match (&self.task, calibration.tasks.as_slice()) {
            (Some(task), _) => task,
            (None, [only]) => &only.name,
            (None, tasks) => {
                let names: Vec<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
                let names = names.join(", ");
                return Err(format!(
                    "{}: no --task for {} tasks: expected one of {names}",
                    path.display(),
                    tasks.len()
                )
                .into());
            }
        };
        let config = (calibration.dispatch_config(task))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        let mut dispatcher = Dispatcher::new(&config)?;
        if let Some(history) = &self.history {
            history::replay(&mut dispatcher, history)?;
        }
        Ok(dispatcher)
    }
}

/// Returns the reason for a decision, as a phrase.
pub fn describe(decision: &Decision) -> String {
    let Decision {
        sensitivity,
        target,
        ..
    } = decision;
    let sensitivity = format!("S = {sensitivity:.3}");
    match decision.reason {
        Reason::Start => "no preceding action".into(),
        Reason::Fault => "an invalid action was observed".into(),
        Reason::Steady => format!("{sensitivity}, as before"),
        Reason::Rose => format!("{sensitivity}, rose at once"),
        Reason::Held { count, pending } => format!(
            "{sensitivity}, target {target} held back: {count} steps counted towards {pending}"
        ),
        Reason::SteppedDown => format!("{sensitivity}, stepped down"),
        other => format!("{sensitivity}, {other:?}"),
    }
}
