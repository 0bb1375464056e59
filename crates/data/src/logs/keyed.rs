//! Every line is an id and a text.

use millstream_schema::Frame;

use super::lines::Lines;
use super::{FrameReader, LogFormat};
use crate::Error;

/// Reads lines of two cells: what stands before the first delimiter, and all of the rest. Blank lines are left out; a line
/// without a delimiter has an empty text.
pub(super) struct Keyed {
    lines: Lines,
    columns: Vec<String>,
    /// White space where none is given.
    delimiter: Option<String>,
}

impl Keyed {
    pub(super) fn new(mut lines: Lines, format: &LogFormat) -> Result<Self, Error> {
        lines.skip_blank("the file is empty")?;
        let columns = format.columns.clone().unwrap_or_else(|| vec!["id".into(), "text".into()]);
        if columns.len() != 2 {
            let message = format!(
                "{}: format keyed has two columns, the id and the text, not {}",
                lines.source(),
                columns.len()
            );
            return Err(Error::config(message));
        }
        let delimiter = format.delimiter.as_ref().map(|d| d.replace("\\t", "\t"));
        if delimiter.as_ref().is_some_and(|d| d.is_empty() || d.contains(['\n', '\r'])) {
            let message =
                format!("{}: `delimiter` must be one or more characters, not a line end", lines.source());
            return Err(Error::config(message));
        }
        Ok(Self { lines, columns, delimiter })
    }
}

impl FrameReader for Keyed {
    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn source(&self) -> &str {
        self.lines.source()
    }

    fn read(&mut self, frame: &mut Frame, max_rows: usize) -> Result<usize, Error> {
        for row in 0..max_rows {
            let Some((number, line)) = self.lines.next_line()? else { return Ok(row) };
            let parts = match &self.delimiter {
                Some(delimiter) => line.split_once(delimiter.as_str()),
                None => line.trim_start().split_once(char::is_whitespace),
            };
            let (id, text) = parts.unwrap_or((line, ""));
            frame.push_row(number, &[id.trim(), text.trim()]);
        }
        Ok(max_rows)
    }
}
