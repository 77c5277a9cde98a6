//! The widths of a recorded episode.

use std::path::Path;
use w4ax::Width;

#[derive(serde::Deserialize)]
struct Step {
    task: String,
    seed: u64,
    bits: u32,
}

/// Returns the widths of `count` evenly spaced steps of the file's first episode, or of all for 0.
pub fn read(path: &Path, count: usize) -> super::Result<Vec<Width>> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let mut reader = csv::Reader::from_path(path).map_err(|e| wrong(&e))?;
    let mut widths = Vec::new();
    let mut first = None;
    for step in reader.deserialize() {
        let step: Step = step.map_err(|e| wrong(&e))?;
        let episode = (step.task, step.seed);
        if *first.get_or_insert_with(|| episode.clone()) != episode {
            break;
        }
        widths.push(Width::try_from(step.bits).map_err(|e| wrong(&e))?);
    }
    if widths.is_empty() {
        return Err(wrong(&"the file has no steps").into());
    }
    let count = if count == 0 { widths.len() } else { count };
    Ok((0..count)
        .map(|i| widths[i * widths.len() / count % widths.len()])
        .collect())
}

/// Returns the file's name without its folder.
pub fn name(path: &Path) -> String {
    path.file_name().map_or_else(
        || path.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    )
}
