//! CSV files with named columns. Errors name the line and the column.

use std::path::Path;
use std::str::FromStr;

use csv::StringRecord;
use w4ax::{Error, Result};

/// The result of reading a row; [`read`] adds the file's name to the error.
pub type Read<T> = std::result::Result<T, String>;

/// Returns the bytes of a file.
///
/// # Errors
/// [`Error::Io`].
pub fn contents(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::Io {
        file: path.display().to_string(),
        source,
    })
}

/// Calls `each` with every row below the header. Columns other than `columns` are ignored. `file`
/// is the name in errors.
///
/// # Errors
/// [`Error::Format`] for bytes that are not CSV, a missing or a repeated column, and the errors of
/// `each`.
pub fn read(
    bytes: &[u8],
    file: &str,
    columns: &[&str],
    mut each: impl FnMut(&Row<'_>) -> Read<()>,
) -> Result<()> {
    let refuse = |reason: String| Error::Format {
        file: file.into(),
        reason,
    };
    let mut reader = csv::Reader::from_reader(bytes);
    let header = reader.headers().map_err(|e| refuse(e.to_string()))?;
    let places = columns.iter().map(|name| {
        let mut found = header.iter().enumerate().filter(|(_, h)| h == name);
        match (found.next(), found.next()) {
            (Some((at, _)), None) => Ok(at),
            (None, _) => Err(refuse(format!("line 1: missing column `{name}`"))),
            (Some(_), Some(_)) => Err(refuse(format!("line 1: repeated column `{name}`"))),
        }
    });
    let places = places.collect::<Result<Vec<usize>>>()?;
    for record in reader.records() {
        let record = record.map_err(|e| refuse(e.to_string()))?;
        let row = Row {
            record: &record,
            columns,
            places: &places,
        };
        each(&row).map_err(&refuse)?;
    }
    Ok(())
}

/// A row below the header.
pub struct Row<'a> {
    record: &'a StringRecord,
    columns: &'a [&'a str],
    /// `[columns]`: the position of each column in the record.
    places: &'a [usize],
}

impl Row<'_> {
    /// Returns the row's first line, counted from 1.
    pub fn line(&self) -> u64 {
        self.record.position().map_or(0, csv::Position::line)
    }

    /// Returns a field by the name of a column that is read.
    pub fn text(&self, name: &str) -> &str {
        let at = self.columns.iter().position(|column| *column == name);
        at.and_then(|at| self.record.get(self.places[at]))
            .unwrap_or_default()
    }

    /// Returns the error of a field: its value, and what is expected.
    pub fn wrong(&self, name: &str, must: &str) -> String {
        let (line, text) = (self.line(), self.text(name));
        format!("line {line}: `{name}` is `{text}`: expected {must}")
    }

    /// Parses a number.
    pub fn parse<T: FromStr>(&self, name: &str) -> Read<T> {
        let kind = std::any::type_name::<T>();
        self.text(name)
            .parse()
            .map_err(|_| self.wrong(name, &format!("a number ({kind})")))
    }

    /// Parses a finite number.
    pub fn finite(&self, name: &str) -> Read<f64> {
        let value: f64 = self.parse(name)?;
        if !value.is_finite() {
            return Err(self.wrong(name, "finite"));
        }
        Ok(value)
    }

    /// Parses finite numbers, one per column.
    pub fn finites<const N: usize>(&self, names: &[&str; N]) -> Read<[f64; N]> {
        let mut values = [0.0; N];
        for (value, name) in values.iter_mut().zip(names) {
            *value = self.finite(name)?;
        }
        Ok(values)
    }

    /// Parses a flag, 0 or 1.
    pub fn flag(&self, name: &str) -> Read<bool> {
        match self.text(name) {
            "0" => Ok(false),
            "1" => Ok(true),
            _ => Err(self.wrong(name, "0 or 1")),
        }
    }
}

/// Consecutive steps of one episode.
#[derive(Clone, Debug)]
pub struct Recorded<K, S> {
    /// The key of the episode.
    pub key: K,
    /// The line of the file where the episode begins.
    pub line: u64,
    /// The control steps in order.
    pub steps: Vec<S>,
}

impl<K, S> Recorded<K, S> {
    /// Returns an error of the steps with the file and the line where the episode begins.
    pub fn refuse(&self, file: &str, error: &Error) -> Error {
        Error::Format {
            file: file.into(),
            reason: format!("episode at line {}: {error}", self.line),
        }
    }
}

/// Appends the step of a row to the last episode, or begins an episode if the column `t` is 0.
///
/// # Errors
/// A `t` that is not a number, or does not count up from 0 in each episode.
pub fn push_step<K: PartialEq, S>(
    episodes: &mut Vec<Recorded<K, S>>,
    row: &Row<'_>,
    key: K,
    step: S,
) -> Read<()> {
    let (t, line): (usize, u64) = (row.parse("t")?, row.line());
    match episodes.last_mut() {
        Some(last) if last.key == key && t == last.steps.len() => last.steps.push(step),
        _ if t == 0 => episodes.push(Recorded {
            key,
            line,
            steps: vec![step],
        }),
        _ => {
            let reason = "expected steps that count up from 0 in each episode";
            return Err(format!("line {line}: `t` is {t}: {reason}"));
        }
    }
    Ok(())
}
