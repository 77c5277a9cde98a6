//! M and J of recorded steps, by the dispatcher's own kinematics.

use std::collections::BTreeMap;

use serde::Serialize;
use w4ax::Result;
use w4ax::calibrate::{Calibration, Episode, motion_scales};
use w4ax::dispatch::{Action, DispatchConfig, Kinematics};

use super::perturb::Nominal;

/// What a sensitivity is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Predictor {
    /// M of the step.
    M,
    /// The mean of M over the macro window that ends with the step.
    MWindow,
    /// The same, ending before the step: what a dispatcher knows when it decides the step's width.
    MBefore,
    /// J of the step.
    J,
    /// The mean of J over the micro window that ends with the step.
    JWindow,
    /// The same, ending before the step.
    JBefore,
    /// Steps to the undisturbed episode's end: no motion at all, to compare with.
    StepsLeft,
}

impl Predictor {
    /// In the order of the report.
    pub const ALL: [Self; 7] = [
        Self::M,
        Self::MWindow,
        Self::MBefore,
        Self::J,
        Self::JWindow,
        Self::JBefore,
        Self::StepsLeft,
    ];

    /// As tables have it.
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

/// The motion of a step; none before the first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Motion {
    /// M of the step.
    pub m: f64,
    /// Its mean over the window that ends with the step.
    pub m_window: f64,
    /// Its mean over the window that ends before the step.
    pub m_before: Option<f64>,
    /// J of the step.
    pub j: f64,
    /// As `m_window`.
    pub j_window: f64,
    /// As `m_before`.
    pub j_before: Option<f64>,
}

/// The motion of each step of an episode.
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
        // There is a history now.
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

/// A dispatcher's configuration for each task of the episodes: windows and, unless they are to be `own`, mu_max and
/// nu_max of the calibration; `own` ones are the 95th percentiles of these episodes' actions.
///
/// # Errors
/// As [`Calibration::dispatch_config`] for a task that it has not, and [`motion_scales`].
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
        for scale in motion_scales(&tasks, &episodes)? {
            if let Some(config) = configs.get_mut(&scale.name) {
                *config = config.with_motion(scale.motion);
            }
        }
    }
    Ok(configs)
}
