//! The effect of one perturbed step on the end of its episode, against the action error of that
//! step (DyQ-VLA, Fig. 2).

use std::path::Path;

use comfy_table::Table;
use serde::Serialize;
use w4ax::{Error, Result};

use super::interval::{Spread, wilson};
use crate::rows::{self, Read, Row};
use crate::sensitivity::perturb::Mode;
use crate::table::table;

pub use super::effects_plot::Picture;

/// The lower edges of the bins of e_t, in action units. The last bin has no upper edge.
pub const EDGES: [f64; 7] = [0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];

/// The columns that are read. Others are ignored.
const COLUMNS: [&str; 6] = ["task", "episode", "mode", "e_t", "D_eef", "success"];

/// A perturbed step and the end of its episode.
#[derive(Clone, Debug)]
struct Effect {
    episode: (String, i64),
    mode: Mode,
    /// e_t in action units.
    error: f64,
    /// D_eef in meters.
    deviation: f64,
    success: bool,
}

/// The rows of one mode of one file.
#[derive(Clone, Debug, Serialize)]
pub struct EffectSeries {
    /// The name of the file without its folder.
    pub file: String,
    /// What runs after the perturbed step.
    pub mode: Mode,
    /// The number of episodes. Rows of one episode are not independent.
    pub episodes: usize,
    /// The bins that have rows, by ascending e_t.
    pub bins: Vec<EffectBin>,
}

/// The rows of a range of e_t.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct EffectBin {
    /// The lowest e_t that belongs to the bin, in action units.
    pub from: f64,
    /// The lowest e_t above the bin; `None` for the last bin.
    pub to: Option<f64>,
    /// The number of rows.
    pub rows: usize,
    /// The mean e_t.
    pub mean_error: f64,
    /// The rows whose episode succeeded.
    pub succeeded: usize,
    /// The share of rows whose episode succeeded.
    pub success: f64,
    /// Wilson's 95 % interval of that share, as if the rows were independent.
    pub interval: [f64; 2],
    /// D_eef, in meters.
    pub deviation: Spread,
}

/// Reads perturbed steps, and returns the series of each mode.
///
/// # Errors
/// [`Error::Io`]. [`Error::Format`], with the line and the column, for bytes that are not CSV, a
/// missing column, an invalid field, or no rows.
pub fn load(path: &Path) -> Result<Vec<EffectSeries>> {
    let name = path.file_name().unwrap_or(path.as_os_str());
    let effects = parse(&rows::contents(path)?, &path.display().to_string())?;
    Ok(series(&effects, &name.to_string_lossy()))
}

fn parse(bytes: &[u8], file: &str) -> Result<Vec<Effect>> {
    let mut effects = Vec::new();
    rows::read(bytes, file, &COLUMNS, |row| {
        effects.push(effect(row)?);
        Ok(())
    })?;
    if effects.is_empty() {
        return Err(Error::Format {
            file: file.into(),
            reason: "the file has no steps".into(),
        });
    }
    Ok(effects)
}

fn effect(row: &Row<'_>) -> Read<Effect> {
    let magnitude = |name| match row.finite(name)? {
        value if value >= 0.0 => Ok(value),
        _ => Err(row.wrong(name, "at least 0")),
    };
    Ok(Effect {
        episode: (row.text("task").into(), row.parse("episode")?),
        mode: Mode::of(row)?,
        error: magnitude("e_t")?,
        deviation: magnitude("D_eef")?,
        success: row.flag("success")?,
    })
}

fn series(effects: &[Effect], file: &str) -> Vec<EffectSeries> {
    let of_mode = |mode| {
        let rows: Vec<&Effect> = effects.iter().filter(|e| e.mode == mode).collect();
        let mut episodes: Vec<_> = rows.iter().map(|effect| &effect.episode).collect();
        episodes.sort();
        episodes.dedup();
        (!rows.is_empty()).then(|| EffectSeries {
            file: file.into(),
            mode,
            episodes: episodes.len(),
            bins: (0..EDGES.len()).filter_map(|at| bin(&rows, at)).collect(),
        })
    };
    Mode::ALL.into_iter().filter_map(of_mode).collect()
}

/// Returns a bin, or `None` if it has no rows.
fn bin(rows: &[&Effect], at: usize) -> Option<EffectBin> {
    let (from, to) = (EDGES[at], EDGES.get(at + 1).copied());
    let here = |e: &&&Effect| e.error >= from && to.is_none_or(|to| e.error < to);
    let rows: Vec<&&Effect> = rows.iter().filter(here).collect();
    let mut deviations: Vec<f64> = rows.iter().map(|effect| effect.deviation).collect();
    let deviation = Spread::of(&mut deviations)?;
    let succeeded = rows.iter().filter(|effect| effect.success).count();
    Some(EffectBin {
        from,
        to,
        rows: rows.len(),
        mean_error: rows.iter().map(|effect| effect.error).sum::<f64>() / rows.len() as f64,
        succeeded,
        success: succeeded as f64 / rows.len() as f64,
        interval: wilson(succeeded, rows.len()),
        deviation,
    })
}

/// Returns the name of a series among `all`: its mode, and its file if there are several.
pub fn name(series: &EffectSeries, all: &[EffectSeries]) -> String {
    let mode = series.mode.name();
    match all.iter().all(|other| other.file == series.file) {
        true => mode.into(),
        false => format!("{mode}, {}", series.file),
    }
}

/// Returns the bins of all series as a table.
pub fn bins(all: &[EffectSeries]) -> Table {
    let header = [
        "after the step",
        "e_t",
        "rows",
        "success",
        "95 %",
        "D_eef (mm)",
        "quartiles",
    ];
    let percent = |share: f64| format!("{:.1}", 100.0 * share);
    let rows = all.iter().flat_map(|series| {
        let name = name(series, all);
        series.bins.iter().map(move |bin| {
            let range = match bin.to {
                Some(to) => format!("{} to {to}", bin.from),
                None => format!("from {}", bin.from),
            };
            let millimeters = |meters: f64| format!("{:.2}", 1e3 * meters);
            let [low, high] = bin.interval.map(percent);
            vec![
                name.clone(),
                range,
                bin.rows.to_string(),
                format!("{} %", percent(bin.success)),
                format!("{low} to {high}"),
                millimeters(bin.deviation.median),
                [bin.deviation.low, bin.deviation.high]
                    .map(millimeters)
                    .join(" to "),
            ]
        })
    });
    table(&header, rows)
}
