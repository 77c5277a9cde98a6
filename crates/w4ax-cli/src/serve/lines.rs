//! Lines of bytes, of bounded length.

use std::io::{BufRead, ErrorKind, Result};

/// The largest length of a line in bytes. An observation has about 500.
pub const MAX_LINE: usize = 64 * 1024;

/// A line without its end.
pub enum Line<'a> {
    /// Any bytes.
    Text(&'a [u8]),
    /// More than [`MAX_LINE`] bytes, which are dropped.
    TooLong,
}

/// Reads lines of any bytes with a buffer that does not grow beyond [`MAX_LINE`].
pub struct Lines<R> {
    input: R,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    /// Reads from `input`.
    pub fn new(input: R) -> Self {
        Self {
            input,
            line: Vec::with_capacity(MAX_LINE),
        }
    }

    /// Returns the next line, the last one with or without an end; `None` at the end of the input.
    ///
    /// # Errors
    /// Those of the input.
    pub fn next_line(&mut self) -> Result<Option<Line<'_>>> {
        self.line.clear();
        let (mut any, mut too_long) = (false, false);
        loop {
            let bytes = match self.input.fill_buf() {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let end = bytes.iter().position(|&byte| byte == b'\n');
            let part = &bytes[..end.unwrap_or(bytes.len())];
            let ended = end.is_some() || bytes.is_empty();
            any |= !bytes.is_empty();
            too_long |= self.line.len() + part.len() > MAX_LINE;
            if !too_long {
                self.line.extend_from_slice(part);
            }
            let consumed = part.len() + usize::from(end.is_some());
            self.input.consume(consumed);
            if ended {
                return Ok(match (any, too_long) {
                    (false, _) => None,
                    (true, false) => Some(Line::Text(&self.line)),
                    (true, true) => Some(Line::TooLong),
                });
            }
        }
    }
}
