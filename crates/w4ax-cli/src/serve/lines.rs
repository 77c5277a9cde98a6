//! Lines of bytes, of bounded length.

use std::io::{BufRead, ErrorKind, Result};

/// Bytes of a line at most. An observation has some 500.
pub const MAX_LINE: usize = 64 * 1024;

/// A line without its end.
pub enum Line<'a> {
    /// Any bytes.
    Text(&'a [u8]),
    /// More than [`MAX_LINE`] bytes; they are gone.
    TooLong,
}

/// Reads line by line, whatever the bytes are, with a buffer that does not grow beyond [`MAX_LINE`].
pub struct Lines<R> {
    input: R,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    /// Of that input.
    pub fn new(input: R) -> Self {
        Self {
            input,
            line: Vec::with_capacity(MAX_LINE),
        }
    }

    /// The next line, the last one with or without an end; `None` at the end of the input.
    ///
    /// # Errors
    /// The input's own.
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
