//! Dependency files in Make's format, as `nvcc -MD` writes them.

use std::path::PathBuf;

/// Returns the prerequisites of the file's rules. Backslashes continue a line and escape spaces and
/// `#`; `$$` is `$`.
pub fn parse(text: &str) -> Vec<PathBuf> {
    let text = text.replace("\\\r\n", " ").replace("\\\n", " ");
    let mut names = Vec::new();
    for rule in text.lines() {
        // The target ends at the first colon before a space or the end of the line. Paths may
        // contain other colons.
        let Some(end) = rule
            .match_indices(':')
            .map(|(at, _)| at + 1)
            .find(|&at| rule[at..].is_empty() || rule[at..].starts_with(char::is_whitespace))
        else {
            continue;
        };
        let mut name = String::new();
        let mut characters = rule[end..].chars().peekable();
        while let Some(c) = characters.next() {
            match (c, characters.peek()) {
                ('\\', Some(&(' ' | '#'))) | ('$', Some('$')) => name.extend(characters.next()),
                (c, _) if c.is_whitespace() => {
                    if !name.is_empty() {
                        names.push(PathBuf::from(std::mem::take(&mut name)));
                    }
                }
                (c, _) => name.push(c),
            }
        }
        if !name.is_empty() {
            names.push(PathBuf::from(name));
        }
    }
    names
}
