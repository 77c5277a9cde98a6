//! Sensitivities s_t = D_T / e_t (DyQ-VLA, section III), and their correlations with motion.

use serde::Serialize;
use w4ax::Result;
use w4ax::dispatch::DispatchConfig;

use super::correlation::{Bootstrap, Estimate, Sorted, pearson, spearman};
use super::motion::{self, Motion, Predictor};
use super::perturb::{Key, Mode, Nominal, Perturbation, Terminal};

/// A perturbed step with its motion.
#[derive(Clone, Debug)]
pub struct Response {
    /// The episode.
    pub key: Key,
    /// The perturbation and its effect.
    pub step: Perturbation,
    /// The motion of the undisturbed step.
    pub motion: Motion,
}

impl Response {
    /// Returns `s_t = D_T / e_t` in meters per action unit; `None` if nothing was perturbed (`e_t =
    /// 0`).
    pub fn sensitivity(&self, terminal: Terminal) -> Option<f64> {
        (self.step.error > 0.0).then(|| self.step.deviation[terminal as usize] / self.step.error)
    }

    /// Returns the value of a predictor; `None` before the first step.
    pub fn predictor(&self, predictor: Predictor) -> Option<f64> {
        match predictor {
            Predictor::M => Some(self.motion.m),
            Predictor::MWindow => Some(self.motion.m_window),
            Predictor::MBefore => self.motion.m_before,
            Predictor::J => Some(self.motion.j),
            Predictor::JWindow => Some(self.motion.j_window),
            Predictor::JBefore => self.motion.j_before,
            Predictor::StepsLeft => Some(self.step.left as f64),
        }
    }
}

/// Joins each perturbed step with its motion. `config` returns the configuration of a task, `file`
/// is the name of `nominal` in errors.
///
/// # Errors
/// [`Error::Format`](w4ax::Error::Format) for an episode whose motion is not finite.
pub fn responses<'a>(
    nominal: &[Nominal],
    perturbed: Vec<Perturbation>,
    file: &str,
    config: impl Fn(&str) -> &'a DispatchConfig,
) -> Result<Vec<Response>> {
    let motion = |episode: &Nominal| {
        let motion = motion::of_episode(config(&episode.key.task), &episode.steps);
        motion.map_err(|error| episode.refuse(file, &error))
    };
    let motions = nominal.iter().map(motion).collect::<Result<Vec<_>>>()?;
    let response = |step: Perturbation| Response {
        key: nominal[step.nominal].key.clone(),
        motion: motions[step.nominal][step.t],
        step,
    };
    Ok(perturbed.into_iter().map(response).collect())
}

/// The rows of one correlation: of one mode or all, of one task or all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// `None`: all modes.
    pub mode: Option<Mode>,
    /// `None`: all tasks.
    pub task: Option<String>,
}

impl Group {
    /// Returns each mode, then all modes; in each, all tasks, then each task in the order of the
    /// rows.
    pub fn all(responses: &[Response]) -> Vec<Self> {
        let mut tasks: Vec<Option<String>> = vec![None];
        for response in responses {
            let task = Some(response.key.task.clone());
            if !tasks.contains(&task) {
                tasks.push(task);
            }
        }
        let modes = Mode::ALL.into_iter().map(Some).chain([None]);
        modes
            .flat_map(|mode| tasks.iter().cloned().map(move |task| Self { mode, task }))
            .collect()
    }

    /// Returns the rows of the group.
    pub fn of<'a>(&self, responses: &'a [Response]) -> Vec<&'a Response> {
        let here = |response: &&Response| {
            let key = &response.key;
            self.mode.is_none_or(|mode| key.mode == mode)
                && self.task.as_ref().is_none_or(|task| key.task == *task)
        };
        responses.iter().filter(here).collect()
    }
}

/// The correlation of one predictor with the sensitivity to one terminal deviation in one group.
#[derive(Clone, Debug, Serialize)]
pub struct Correlation {
    /// The rows.
    #[serde(flatten)]
    pub group: Group,
    /// The terminal deviation D_T.
    pub terminal: Terminal,
    /// The motion.
    pub predictor: Predictor,
    /// Rows with both values.
    pub rows: usize,
    /// The (task, episode) pairs of the rows: the intervals draw from them.
    pub episodes: usize,
    /// Rows of the group without one of the values: `e_t` is 0, or the step is the first.
    pub left_out: usize,
    /// Rows with `D_T = 0`: their s is 0, but they have no log s, and `pearson_log` leaves them
    /// out.
    pub still: usize,
    /// Pearson's correlation with s.
    pub pearson: Option<Estimate>,
    /// Pearson's correlation with log s.
    pub pearson_log: Option<Estimate>,
    /// Spearman's correlation with s, and so with log s.
    pub spearman: Option<Estimate>,
}

/// Correlates every group, terminal deviation and predictor, in that order.
pub fn correlations(responses: &[Response], draws: usize, seed: u64) -> Vec<Correlation> {
    let mut correlations = Vec::new();
    for group in Group::all(responses) {
        let rows = group.of(responses);
        for terminal in Terminal::ALL {
            for predictor in Predictor::ALL {
                let (mut both, mut moved) = (Columns::default(), Columns::default());
                for row in &rows {
                    if let (Some(x), Some(s)) =
                        (row.predictor(predictor), row.sensitivity(terminal))
                    {
                        both.push(row, x, s);
                        if s > 0.0 {
                            moved.push(row, x, s.ln());
                        }
                    }
                }
                let all = Bootstrap::new(&both.episode, draws, seed);
                let of_log = Bootstrap::new(&moved.episode, draws, seed);
                let (sorted_x, sorted_s) = (Sorted::new(&both.x), Sorted::new(&both.y));
                correlations.push(Correlation {
                    group: group.clone(),
                    terminal,
                    predictor,
                    rows: both.x.len(),
                    episodes: all.clusters(),
                    left_out: rows.len() - both.x.len(),
                    still: both.x.len() - moved.x.len(),
                    pearson: all.estimate(|w| pearson(&both.x, &both.y, w)),
                    pearson_log: of_log.estimate(|w| pearson(&moved.x, &moved.y, w)),
                    spearman: all.estimate(|w| spearman(&sorted_x, &sorted_s, w)),
                });
            }
        }
    }
    correlations
}

/// The values of a correlation, one per row.
#[derive(Default)]
struct Columns<'a> {
    x: Vec<f64>,
    y: Vec<f64>,
    /// The modes of a (task, episode) share a beginning, and are drawn together.
    episode: Vec<(&'a str, i64)>,
}

impl<'a> Columns<'a> {
    fn push(&mut self, row: &'a Response, x: f64, y: f64) {
        self.x.push(x);
        self.y.push(y);
        self.episode.push((&row.key.task, row.key.episode));
    }
}

/// The numbers of parts of [`averages`].
pub const PARTS: [usize; 3] = [5, 10, 20];

/// The correlation with log s of rows that are averaged first.
#[derive(Clone, Debug, Serialize)]
pub struct Averaged {
    /// The rows.
    #[serde(flatten)]
    pub group: Group,
    /// The terminal deviation D_T.
    pub terminal: Terminal,
    /// The motion.
    pub predictor: Predictor,
    /// The number of equal parts of each episode's time.
    pub parts: usize,
    /// Pearson's correlation of the means of the parts, over all episodes.
    pub pearson_log: Option<f64>,
}

/// Averages the rows of each mode over parts of their episodes' time, and correlates the means with
/// windowed M and J. Means of many rows vary less than rows, and correlate where rows hardly do.
pub fn averages(responses: &[Response], terminal: Terminal) -> Vec<Averaged> {
    let mut averages = Vec::new();
    for mode in Mode::ALL {
        let group = Group {
            mode: Some(mode),
            task: None,
        };
        let rows = group.of(responses);
        for predictor in [Predictor::MWindow, Predictor::JWindow] {
            for parts in PARTS {
                let mut sums = vec![(0.0, 0.0, 0.0); parts];
                for row in &rows {
                    let s = row.sensitivity(terminal).filter(|s| *s > 0.0);
                    if let (Some(x), Some(s)) = (row.predictor(predictor), s) {
                        let (t, left) = (row.step.t, row.step.left);
                        let sum = &mut sums[t * parts / (t + left + 1)];
                        *sum = (sum.0 + x, sum.1 + s.ln(), sum.2 + 1.0);
                    }
                }
                let filled = sums.into_iter().filter(|sum| sum.2 > 0.0);
                let (x, y): (Vec<f64>, Vec<f64>) = filled.map(|(x, y, n)| (x / n, y / n)).unzip();
                averages.push(Averaged {
                    group: group.clone(),
                    terminal,
                    predictor,
                    parts,
                    pearson_log: pearson(&x, &y, &vec![1.0; x.len()]),
                });
            }
        }
    }
    averages
}
