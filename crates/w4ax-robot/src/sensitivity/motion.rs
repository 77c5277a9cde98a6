//! M and J of recorded steps, from the dispatcher's kinematics.

use std::collections::BTreeMap;

use serde::Serialize;
use w4ax::Result;
use w4ax::calibrate::{Calibration, Episode, motion_scales};
use w4ax::dispatch::{Action, ActionLayout, DispatchConfig, Kinematics};

use super::perturb::Nominal;

/// A quantity that is compared with the sensitivity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Predictor {
    /// M of the step.
    M,
    /// The mean of M over the macro window that ends with the step.
    MWindow,
    /// The mean of M over the window that ends before the step: the dispatcher's value when it
    /// decides the step.
    MBefore,
    /// J of the step.
    J,
    /// The mean of J over the micro window that ends with the step.
    JWindow,
    /// The mean of J over the window that ends before the step.
    JBefore,
    /// Steps to the end of the undisturbed episode: not a motion, for comparison.
    StepsLeft,
}

impl Predictor {
    /// All, in the order of the report.
    pub const ALL: [Self; 7] = [
        Self::M,
        Self::MWindow,
        Self::MBefore,
        Self::J,
        Self::JWindow,
        Self::JBefore,
        Self::StepsLeft,
    ];

    /// Returns the name in tables.
    pub fn name(self) -> &'static str {
        [
            "M",
            "M, window",
            "M, window before",
            "J",
            "J, window",
            "J, window before",
            "steps left",
        ][self as usize]
    }
}

/// The motion of a step; `None` before the first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Motion {
    /// M of the step.
    pub m: f64,
    /// The mean of M over the window that ends with the step.
    pub m_window: f64,
    /// The mean of M over the window that ends before the step.
    pub m_before: Option<f64>,
    /// J of the step.
    pub j: f64,
    /// The mean of J over the window that ends with the step.
    pub j_window: f64,
    /// The mean of J over the window that ends before the step.
    pub j_before: Option<f64>,
}

/// Computes the motion of each step of an episode.
///
/// # Errors
/// As [`Kinematics::new`] and [`Kinematics::push`].
pub fn of_episode(config: &DispatchConfig, actions: &[Action]) -> Result<Vec<Motion>> {
    let mut windows = Kinematics::new(config)?;
    let mut single = Kinematics::new(&config.with_window_macro(1).with_window_micro(1))?;
    let motion = |action: &Action| {
        let before = (windows.macro_motion(), windows.micro_motion());
        windows.push(action)?;
        single.push(action)?;
        // The next step has a history.
        let some = |mean: Option<f64>| mean.unwrap_or(f64::NAN);
        Ok(Motion {
            m: some(single.macro_motion()),
            m_window: some(windows.macro_motion()),
            m_before: before.0,
            j: some(single.micro_motion()),
            j_window: some(windows.micro_motion()),
            j_before: before.1,
        })
    };
    actions.iter().map(motion).collect()
}

/// Returns the configuration of each task: the windows of the calibration, and its mu_max and
/// nu_max. If `own` is set, they are the 95th percentiles of these episodes' actions.
///
/// # Errors
/// As [`Calibration::dispatch_config`] for a missing task, and [`motion_scales`].
pub fn configs(
    calibration: &Calibration,
    episodes: &[Nominal],
    own: bool,
) -> Result<BTreeMap<String, DispatchConfig>> {
    let mut configs = BTreeMap::new();
    for episode in episodes {
        let task = &episode.key.task;
        configs.insert(task.clone(), calibration.dispatch_config(task)?);
    }
    if own {
        let tasks: Vec<&String> = configs.keys().collect();
        let episodes: Vec<Episode> = (episodes.iter())
            .map(|episode| Episode {
                task: tasks
                    .iter()
                    .position(|t| **t == episode.key.task)
                    .unwrap_or(tasks.len()),
                reference: episode.steps.clone(),
                at_width: std::array::from_fn(|_| episode.steps.clone()),
            })
            .collect();
        for scale in motion_scales(&tasks, &episodes, &ActionLayout::default())? {
            if let Some(config) = configs.get_mut(&scale.name) {
                *config = config.with_motion(scale.motion);
            }
        }
    }
    Ok(configs)
}
