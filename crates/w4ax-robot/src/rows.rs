//! CSV files with named columns; what is wrong with one is said with its line and its column.

use std::path::Path;
use std::str::FromStr;

use csv::StringRecord;
use w4ax::{Error, Result};

/// What is wrong in a row; [`read`] puts the file's name before it.
pub type Read<T> = std::result::Result<T, String>;

/// The bytes of a file.
///
/// # Errors
/// [`Error::Io`].
pub fn contents(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::Io {
        file: path.display().to_string(),
        source,
    })
}

/// Calls `each` with every row below the header. `columns` are the ones that are read, others are passed over; `file`
/// is what errors call the bytes.
///
/// # Errors
/// [`Error::Format`], for bytes that are no CSV, a column that is missing or there twice, and for what `each` says.
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
            (None, _) => Err(refuse(format!("line 1: there is no column `{name}`"))),
            (Some(_), Some(_)) => Err(refuse(format!("line 1: `{name}` is there twice"))),
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
    /// `[columns]`: where each is in the record.
    places: &'a [usize],
}

impl Row<'_> {
    /// The line that it begins at, from 1 on.
    pub fn line(&self) -> u64 {
        self.record.position().map_or(0, csv::Position::line)
    }

    /// A field, by one of the columns that are read.
    pub fn text(&self, name: &str) -> &str {
        let at = self.columns.iter().position(|column| *column == name);
        at.and_then(|at| self.record.get(self.places[at]))
            .unwrap_or_default()
    }

    /// What to say of a field that is not what it must be.
    pub fn wrong(&self, name: &str, must: &str) -> String {
        let (line, text) = (self.line(), self.text(name));
        format!("line {line}: `{name}` must be {must}, it is `{text}`")
    }

    /// A number of any type.
    pub fn parse<T: FromStr>(&self, name: &str) -> Read<T> {
        let kind = std::any::type_name::<T>();
        self.text(name)
            .parse()
            .map_err(|_| self.wrong(name, &format!("a number ({kind})")))
    }

    /// A finite number.
    pub fn finite(&self, name: &str) -> Read<f64> {
        let value: f64 = self.parse(name)?;
        if !value.is_finite() {
            return Err(self.wrong(name, "finite"));
        }
        Ok(value)
    }

    /// Finite numbers, a column each.
    pub fn finites<const N: usize>(&self, names: &[&str; N]) -> Read<[f64; N]> {
        let mut values = [0.0; N];
        for (value, name) in values.iter_mut().zip(names) {
            *value = self.finite(name)?;
        }
        Ok(values)
    }

    /// A flag, 0 or 1.
    pub fn flag(&self, name: &str) -> Read<bool> {
        match self.text(name) {
            "0" => Ok(false),
            "1" => Ok(true),
            _ => Err(self.wrong(name, "0 or 1")),
        }
    }
}

/// Steps that follow each other and have what names their episode in common.
#[derive(Clone, Debug)]
pub struct Recorded<K, S> {
    /// What names the episode.
    pub key: K,
    /// The line of the file that it begins at.
    pub line: u64,
    /// In order.
    pub steps: Vec<S>,
}

impl<K, S> Recorded<K, S> {
    /// Says of an error in its steps where they come from: `file`, and the line that the episode begins at.
    pub fn refuse(&self, file: &str, error: &Error) -> Error {
        Error::Format {
            file: file.into(),
            reason: format!("the episode from line {} on: {error}", self.line),
        }
    }
}

/// Takes in the step of a row, by its column `t`: it goes on with the last episode, or begins one at 0.
///
/// # Errors
/// A `t` that is no number, or does not count up from 0 in each episode.
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
            let reason = "the steps of an episode must follow each other from 0 on";
            return Err(format!("line {line}: `t` is {t}: {reason}"));
        }
    }
    Ok(())
}
