//! A chunk of rows as text, one arena per column: what every reader gives and the encoder takes.

use std::sync::Arc;

/// Rows of text cells. An empty cell is a missing value.
#[derive(Debug, Clone)]
pub struct Frame {
    source: Arc<str>,
    names: Arc<[String]>,
    cells: Vec<Cells>,
    lines: Vec<u64>,
}

#[derive(Debug, Clone, Default)]
struct Cells {
    text: String,
    ends: Vec<usize>,
}

impl Cells {
    fn get(&self, row: usize) -> &str {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.text[start..self.ends[row]]
    }
}

impl Frame {
    /// An empty frame for rows of `source` (a path, for messages) with these columns.
    pub fn new<S: AsRef<str>>(source: &str, columns: &[S]) -> Self {
        let names: Vec<String> = columns.iter().map(|c| c.as_ref().to_owned()).collect();
        let cells = names.iter().map(|_| Cells::default()).collect();
        Self { source: source.into(), names: names.into(), cells, lines: Vec::new() }
    }

    /// Adds a row read at `line`; missing trailing cells become empty, excess ones are left out.
    pub fn push_row(&mut self, line: u64, cells: &[&str]) {
        for (i, column) in self.cells.iter_mut().enumerate() {
            column.text.push_str(cells.get(i).copied().unwrap_or(""));
            column.ends.push(column.text.len());
        }
        self.lines.push(line);
    }

    /// Drops all rows and keeps the memory.
    pub fn clear(&mut self) {
        for column in &mut self.cells {
            column.text.clear();
            column.ends.clear();
        }
        self.lines.clear();
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.lines.len()
    }

    /// Column names.
    pub fn columns(&self) -> &[String] {
        &self.names
    }

    /// The column's place, if there is one of that name.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|n| n == name)
    }

    /// The cell at (row, column).
    pub fn get(&self, row: usize, column: usize) -> &str {
        self.cells[column].get(row)
    }

    /// The line of the source that `row` was read at.
    pub fn line(&self, row: usize) -> u64 {
        self.lines[row]
    }

    /// Where the rows come from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// `source:line` of a row, for messages.
    pub fn place(&self, row: usize) -> String {
        format!("{}:{}", self.source, self.lines[row])
    }
}
