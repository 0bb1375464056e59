//! Every line is one cell.

use millstream_schema::Frame;

use super::lines::Lines;
use super::{FrameReader, LogFormat};
use crate::Error;

/// Reads lines whole, into a column `line` or as named; blank lines are left out.
pub(super) struct WholeLines {
    lines: Lines,
    columns: Vec<String>,
}

impl WholeLines {
    pub(super) fn new(mut lines: Lines, format: &LogFormat) -> Result<Self, Error> {
        lines.skip_blank("the file is empty")?;
        let columns = format.columns.clone().unwrap_or_else(|| vec!["line".into()]);
        if columns.len() != 1 {
            let message = format!("{}: format lines has one column, not {}", lines.source(), columns.len());
            return Err(Error::config(message));
        }
        Ok(Self { lines, columns })
    }
}

impl FrameReader for WholeLines {
    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn source(&self) -> &str {
        self.lines.source()
    }

    fn read(&mut self, frame: &mut Frame, max_rows: usize) -> Result<usize, Error> {
        for row in 0..max_rows {
            let Some((number, line)) = self.lines.next_line()? else { return Ok(row) };
            frame.push_row(number, &[line]);
        }
        Ok(max_rows)
    }
}
