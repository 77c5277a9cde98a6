//! Lines with the numbers `NaN`, `Infinity` and `-Infinity`, which are not JSON, but which Python's
//! `json` writes.

use serde_json::Value;

use super::request::Line;

const NUMBERS: [&str; 3] = ["NaN", "Infinity", "-Infinity"];

/// Begins the strings that replace the numbers.
const MARK: char = '\0';

/// Returns the error that names the first number which is not finite. `None` for a line without
/// one, or a line that is not JSON for other reasons.
pub fn explain(line: &[u8]) -> Option<Line> {
    let Ok(Value::Object(mut fields)) = serde_json::from_slice(&quoted(line)?) else {
        return None;
    };
    // An id with such a number cannot be repeated.
    let id = fields.remove("id").filter(|id| !contains(id));
    let in_numbers = ["obs", "executed"].into_iter().find_map(|field| {
        let numbers = fields.get(field)?.as_array()?;
        let mut numbers = numbers.iter().enumerate();
        let (at, number) = numbers.find_map(|(at, x)| Some((at, number(x)?)))?;
        Some(format!(
            "`{field}` is {number} at {at}: expected a finite number"
        ))
    });
    Some(Line {
        id,
        request: Err(in_numbers.unwrap_or_else(|| {
            "a number is NaN or infinite: expected finite numbers, as JSON has no others".into()
        })),
    })
}

/// Returns the line with the numbers as strings, or `None` for a line without such a number.
fn quoted(line: &[u8]) -> Option<Vec<u8>> {
    let mut quoted = Vec::with_capacity(line.len() + 16);
    let (mut at, mut in_string, mut found) = (0, false, false);
    while let Some(&byte) = line.get(at) {
        let begins = |number: &&&str| line[at..].starts_with(number.as_bytes());
        match NUMBERS.iter().find(begins) {
            Some(number) if !in_string => {
                quoted.extend_from_slice(format!("\"\\u0000{number}\"").as_bytes());
                at += number.len();
                found = true;
                continue;
            }
            _ => quoted.push(byte),
        }
        at += 1;
        match byte {
            b'"' => in_string = !in_string,
            b'\\' if in_string => {
                quoted.extend(line.get(at));
                at += 1;
            }
            _ => (),
        }
    }
    found.then_some(quoted)
}

/// Returns the number that a string replaces.
fn number(value: &Value) -> Option<&str> {
    value.as_str()?.strip_prefix(MARK)
}

fn contains(value: &Value) -> bool {
    match value {
        Value::Array(values) => values.iter().any(contains),
        Value::Object(fields) => fields.values().any(contains),
        other => number(other).is_some(),
    }
}
