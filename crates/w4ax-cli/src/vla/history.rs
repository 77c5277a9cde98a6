//! The preceding actions of an episode.

use std::path::Path;

use w4ax::dispatch::Dispatcher;
use w4ax::{Error, Result};

use crate::calibrate::Output;

/// Repeats the decisions of an episode: one for each line of the file, before its actions are
/// observed.
///
/// # Errors
/// [`Error::Io`]. [`Error::Format`] with the line that is not an action, or that the dispatcher
/// rejects.
pub fn replay(dispatcher: &mut Dispatcher, path: &Path) -> Result<()> {
    let file = || path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| Error::Io {
        file: file(),
        source,
    })?;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let refuse = |reason: String| Error::Format {
            file: file(),
            reason: format!("line {number}: {reason}"),
        };
        let output: Output = serde_json::from_str(line).map_err(|e| refuse(e.to_string()))?;
        dispatcher.decide();
        for action in output.rows() {
            (dispatcher.observe(action)).map_err(|error| refuse(error.to_string()))?;
        }
    }
    Ok(())
}
