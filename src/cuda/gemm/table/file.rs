//! The lines of a kernel table file.

use super::rows::{Groups, Row};
use crate::cuda::sys::{Family, Mode};
use crate::{Error, Result, Width};
use std::str::FromStr;

/// The columns that a table must have, in any order.
const COLUMNS: [&str; 10] = [
    "arch", "sms", "width", "groups", "n", "k", "to_m", "family", "mode", "tile",
];

/// One line: the part of the table that it belongs to, and its row.
pub(super) struct Line {
    /// 10 * major + minor.
    pub arch: u32,
    pub wgmma: bool,
    pub multiprocessors: u32,
    pub width: Width,
    pub groups: Groups,
    pub n: usize,
    pub k: usize,
    pub row: Row,
}

/// Reads a table: calls `each` with the number of each line and its contents. `name` is the name of
/// the file in errors.
///
/// # Errors
/// [`Error::Format`] with the line that is wrong, or with the error of `each`.
pub(super) fn read(
    name: &str,
    text: &str,
    mut each: impl FnMut(Line) -> std::result::Result<(), String>,
) -> Result<()> {
    let wrong = |line: usize, reason: String| Error::format(format!("{name}:{line}"), reason);
    let mut lines =
        (text.lines().zip(1..)).filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
    let (header, at) = lines.next().ok_or_else(|| wrong(1, "empty file".into()))?;
    let header: Vec<&str> = header.split(',').collect();
    let mut columns = [0; COLUMNS.len()];
    for (column, name) in columns.iter_mut().zip(COLUMNS) {
        *column = (header.iter().position(|field| *field == name))
            .ok_or_else(|| wrong(at, format!("no column `{name}`")))?;
    }
    for (line, at) in lines {
        let fields: Vec<&str> = line.split(',').collect();
        if fields.len() != header.len() {
            let reason = format!("{} fields: expected {}", fields.len(), header.len());
            return Err(wrong(at, reason));
        }
        Line::parse(columns.map(|column| fields[column]))
            .and_then(&mut each)
            .map_err(|reason| wrong(at, reason))?;
    }
    Ok(())
}

impl Line {
    /// Parses the fields in the order of [`COLUMNS`].
    fn parse(fields: [&str; COLUMNS.len()]) -> std::result::Result<Self, String> {
        let [arch, sms, width, groups, n, k, to_m, family, mode, tile] = fields;
        let number = arch.strip_prefix("sm_").unwrap_or_default();
        let wgmma = number.ends_with('a');
        let line = Self {
            arch: (number.trim_end_matches('a').parse()).map_err(|_| {
                format!("unknown architecture `{arch}`: expected one such as sm_80")
            })?,
            wgmma,
            multiprocessors: positive("sms", sms)?,
            width: named("width", &Width::ALL, width)?,
            groups: named("groups", &Groups::ALL, groups)?,
            n: positive("n", n)?,
            k: positive("k", k)?,
            row: Row {
                to_m: positive("to_m", to_m)?,
                family: named("family", &Family::ALL, family)?,
                mode: named("mode", &Mode::ALL, mode)?,
                tile: positive("tile", tile)?,
            },
        };
        let row = &line.row;
        let runs = match row.family {
            Family::Decode => row.to_m <= Family::DECODE_MAX_M,
            Family::Prefill => true,
            Family::Wgmma => wgmma,
            Family::Plain => false,
        };
        if !runs {
            return Err(format!(
                "{} does not run {} tokens on {arch}",
                row.family, row.to_m
            ));
        }
        Ok(line)
    }
}

/// The value with this text.
fn named<T: Copy + std::fmt::Display>(
    what: &str,
    all: &[T],
    text: &str,
) -> std::result::Result<T, String> {
    (all.iter().copied())
        .find(|one| one.to_string() == text)
        .ok_or_else(|| {
            let all: Vec<String> = all.iter().map(T::to_string).collect();
            format!("unknown {what} `{text}`: expected {}", all.join(", "))
        })
}

/// A number above 0.
fn positive<T>(what: &str, text: &str) -> std::result::Result<T, String>
where
    T: FromStr<Err = std::num::ParseIntError> + Default + PartialEq,
{
    let value: T = text
        .parse()
        .map_err(|error| format!("{what} `{text}`: {error}"))?;
    if value == T::default() {
        return Err(format!("{what} is 0"));
    }
    Ok(value)
}
