//! Sensitivities s_t = D_T / e_t (DyQ-VLA section III), and their correlations with motion.

use serde::Serialize;
use w4ax::Result;
use w4ax::dispatch::DispatchConfig;

use super::correlation::{Bootstrap, Estimate, Sorted, pearson, spearman};
use super::motion::{self, Motion, Predictor};
use super::perturb::{Key, Mode, Nominal, Perturbation, Terminal};

/// A perturbed step with its motion.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The episode.
    pub key: Key,
    /// What was done, and what came of it.
    pub step: Perturbation,
    /// Of the undisturbed step.
    pub motion: Motion,
}

impl Answer {
    /// `s_t = D_T / e_t`, in meters an action unit; `None` where nothing was perturbed (`e_t = 0`).
    pub fn sensitivity(&self, terminal: Terminal) -> Option<f64> {
        (self.step.error > 0.0).then(|| self.step.deviation[terminal as usize] / self.step.error)
    }

    /// `None` where there is no such value: before the first step.
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

/// Each perturbed step with its motion; `config` is a task's, `file` is what errors call the origin of `nominal`.
///
/// # Errors
/// [`Error::Format`] for an episode whose motion is not finite.
pub fn answers<'a>(
    nominal: &[Nominal],
    perturbed: Vec<Perturbation>,
    file: &str,
    config: impl Fn(&str) -> &'a DispatchConfig,
) -> Result<Vec<Answer>> {
    let motion = |episode: &Nominal| {
        let motion = motion::of_episode(config(&episode.key.task), &episode.steps);
        motion.map_err(|error| episode.refuse(file, &error))
    };
    let motions = nominal.iter().map(motion).collect::<Result<Vec<_>>>()?;
    let answer = |step: Perturbation| Answer {
        key: nominal[step.nominal].key.clone(),
        motion: motions[step.nominal][step.t],
        step,
    };
    Ok(perturbed.into_iter().map(answer).collect())
}

/// Rows that are correlated with each other: of a mode or of all, of a task or of all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// `None`: all.
    pub mode: Option<Mode>,
    /// `None`: all.
    pub task: Option<String>,
}

impl Group {
    /// Each mode, then all modes; in each, all tasks, then each task in the order of the rows.
    pub fn all(answers: &[Answer]) -> Vec<Self> {
        let mut tasks: Vec<Option<String>> = vec![None];
        for answer in answers {
            let task = Some(answer.key.task.clone());
            if !tasks.contains(&task) {
                tasks.push(task);
            }
        }
        let modes = Mode::ALL.into_iter().map(Some).chain([None]);
        modes
            .flat_map(|mode| tasks.iter().cloned().map(move |task| Self { mode, task }))
            .collect()
    }

    /// The rows in it.
    pub fn of<'a>(&self, answers: &'a [Answer]) -> Vec<&'a Answer> {
        let here = |answer: &&Answer| {
            let key = &answer.key;
            self.mode.is_none_or(|mode| key.mode == mode)
                && self.task.as_ref().is_none_or(|task| key.task == *task)
        };
        answers.iter().filter(here).collect()
    }
}

/// How one predictor and the sensitivity to one terminal deviation go together in one group.
#[derive(Clone, Debug, Serialize)]
pub struct Correlation {
    /// The rows.
    #[serde(flatten)]
    pub group: Group,
    /// Which D_T.
    pub terminal: Terminal,
    /// Which motion.
    pub predictor: Predictor,
    /// Rows that have both.
    pub rows: usize,
    /// Their (task, episode): what the intervals draw from.
    pub episodes: usize,
    /// Rows of the group that have not both: `e_t` is 0, or there is no step before theirs.
    pub left_out: usize,
    /// Rows with `D_T = 0`: s is 0 and counts, but log s is none and they are left out of `pearson_log`.
    pub still: usize,
    /// With s.
    pub pearson: Option<Estimate>,
    /// With log s.
    pub pearson_log: Option<Estimate>,
    /// With s; log s has the same ranks.
    pub spearman: Option<Estimate>,
}

/// Every group, terminal deviation and predictor, in that order.
pub fn correlations(answers: &[Answer], draws: usize, seed: u64) -> Vec<Correlation> {
    let mut correlations = Vec::new();
    for group in Group::all(answers) {
        let rows = group.of(answers);
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

/// What is correlated, an entry a row.
#[derive(Default)]
struct Columns<'a> {
    x: Vec<f64>,
    y: Vec<f64>,
    /// The modes of a (task, episode) began alike, and are drawn together.
    episode: Vec<(&'a str, i64)>,
}

impl<'a> Columns<'a> {
    fn push(&mut self, row: &'a Answer, x: f64, y: f64) {
        self.x.push(x);
        self.y.push(y);
        self.episode.push((&row.key.task, row.key.episode));
    }
}

/// Parts of an episode's time that [`averages`] takes.
pub const PARTS: [usize; 3] = [5, 10, 20];

/// What becomes of a correlation with log s when rows are averaged first.
#[derive(Clone, Debug, Serialize)]
pub struct Averaged {
    /// The rows.
    #[serde(flatten)]
    pub group: Group,
    /// Which D_T.
    pub terminal: Terminal,
    /// Which motion.
    pub predictor: Predictor,
    /// Equal parts of each episode's time.
    pub parts: usize,
    /// Pearson's of the parts' means, of all episodes together.
    pub pearson_log: Option<f64>,
}

/// Each mode's rows, averaged over the part of the episode that they lie in, by windowed M and J. Means of many rows vary
/// less than rows, and go together where rows hardly do.
pub fn averages(answers: &[Answer], terminal: Terminal) -> Vec<Averaged> {
    let mut averages = Vec::new();
    for mode in Mode::ALL {
        let group = Group {
            mode: Some(mode),
            task: None,
        };
        let rows = group.of(answers);
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
