//! The sensitivity s_t, M and J over the normalized time of an episode (DyQ-VLA, Fig. 3).

use comfy_table::Table;
use serde::Serialize;
use w4ax::Result;
use w4ax::dispatch::DispatchConfig;

use super::interval::Spread;
use crate::sensitivity::correlation::pearson;
use crate::sensitivity::motion;
use crate::sensitivity::perturb::{Mode, Nominal, Terminal};
use crate::sensitivity::response::Response;
use crate::table::table;

pub use super::course_plot::Picture;

/// The number of equal parts of an episode's time.
pub const BINS: usize = 20;

/// The courses of one mode. An entry without values is `None`.
#[derive(Clone, Debug, Serialize)]
pub struct Course {
    /// What runs after the perturbed step. Its undisturbed episodes have the motion.
    pub mode: Mode,
    /// The undisturbed episodes.
    pub episodes: usize,
    /// `[20]`: s_t = D_eef / e_t of the perturbed steps, in meters per action unit.
    pub sensitivity: Vec<Option<Spread>>,
    /// `[20]`: M of all undisturbed steps, means over the macro window.
    #[serde(rename = "m")]
    pub macro_motion: Vec<Option<Spread>>,
    /// `[20]`: J of all undisturbed steps, means over the micro window.
    #[serde(rename = "j")]
    pub micro_motion: Vec<Option<Spread>>,
    /// Pearson's correlation of the means of s_t with those of M and of J.
    pub correlation: [Option<f64>; 2],
}

/// Undisturbed episodes, and perturbed steps of them with their motion.
#[derive(Clone, Debug)]
pub struct CourseData {
    /// The undisturbed episodes.
    pub nominal: Vec<Nominal>,
    /// The name of their file in errors.
    pub file: String,
    /// The perturbed steps.
    pub responses: Vec<Response>,
}

/// Returns the course of each mode that has episodes. `config` returns the configuration of a task.
///
/// # Errors
/// [`w4ax::Error::Format`] for an episode whose motion is not finite.
pub fn courses<'a>(
    data: &[CourseData],
    config: impl Fn(&str) -> &'a DispatchConfig,
) -> Result<Vec<Course>> {
    let mut courses = Vec::new();
    for mode in Mode::ALL {
        let mut parts: [Vec<Vec<f64>>; 3] = std::array::from_fn(|_| vec![Vec::new(); BINS]);
        let mut episodes = 0;
        for part in data {
            for row in part.responses.iter().filter(|row| row.key.mode == mode) {
                if let Some(s) = row.sensitivity(Terminal::Eef) {
                    let steps = row.step.t + row.step.left + 1;
                    parts[0][row.step.t * BINS / steps].push(s);
                }
            }
            for episode in part.nominal.iter().filter(|e| e.key.mode == mode) {
                let motion = motion::of_episode(config(&episode.key.task), &episode.steps)
                    .map_err(|error| episode.refuse(&part.file, &error))?;
                for (t, step) in motion.iter().enumerate() {
                    let at = t * BINS / motion.len();
                    parts[1][at].push(step.m_window);
                    parts[2][at].push(step.j_window);
                }
                episodes += 1;
            }
        }
        if episodes == 0 {
            continue;
        }
        let [sensitivity, macro_motion, micro_motion] = parts.map(|mut bins| {
            let spreads = bins.iter_mut().map(|values| Spread::of(values));
            spreads.collect::<Vec<_>>()
        });
        let correlation =
            [&macro_motion, &micro_motion].map(|motion| of_means(&sensitivity, motion));
        courses.push(Course {
            mode,
            episodes,
            sensitivity,
            macro_motion,
            micro_motion,
            correlation,
        });
    }
    Ok(courses)
}

/// Returns the correlation of the means of the parts that both have.
fn of_means(a: &[Option<Spread>], b: &[Option<Spread>]) -> Option<f64> {
    let both = a
        .iter()
        .zip(b)
        .filter_map(|(a, b)| Some((a.as_ref()?.mean, b.as_ref()?.mean)));
    let (a, b): (Vec<f64>, Vec<f64>) = both.unzip();
    pearson(&a, &b, &vec![1.0; a.len()])
}

/// Returns the means of each part of the time as a table.
pub fn means(courses: &[Course]) -> Table {
    let names = courses.iter().flat_map(|course| {
        let mode = course.mode.name();
        ["s", "M", "J"].map(|quantity| format!("{quantity}, {mode}"))
    });
    let header: Vec<String> = ["time".to_owned()].into_iter().chain(names).collect();
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let figure = |spread: &Option<Spread>, digits: usize| match spread {
        Some(spread) => format!("{:.digits$}", spread.mean),
        None => "-".into(),
    };
    let row = |at: usize| {
        let center = format!("{:.3}", (at as f64 + 0.5) / BINS as f64);
        let figures = courses.iter().flat_map(|course| {
            [
                figure(&course.sensitivity[at], 4),
                figure(&course.macro_motion[at], 3),
                figure(&course.micro_motion[at], 3),
            ]
        });
        [center].into_iter().chain(figures).collect()
    };
    table(&header, (0..BINS).map(row))
}
