//! What is in a file: rows, missing cells, guessed types, suspicious things, and a schema to start from.

mod column;
mod distinct;
mod show;
mod suggest;

#[cfg(test)]
mod tests;

use std::path::Path;

use millstream_schema::Frame;
use serde::Serialize;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::Error;
use crate::logs::{self, LogFormat};
use column::Column;
use distinct::Distinct;

/// Rows read between two reports of progress.
const CHUNK: usize = 8192;
/// Whole rows told apart exactly; beyond, their number is estimated.
const EXACT_ROWS: usize = 1 << 20;

/// What [`inspect`] found.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// The file.
    pub path: String,
    /// Rows read.
    pub rows: u64,
    /// Whether the whole file was read.
    pub complete: bool,
    /// Rows that repeat an earlier one; an estimate beyond a million different rows.
    pub duplicate_rows: u64,
    /// One entry per column, in file order.
    pub columns: Vec<ColumnReport>,
    /// Things worth a look, one sentence each.
    pub suspicious: Vec<String>,
    /// `[[feature]]` tables to start from.
    pub suggestion: String,
}

/// What is in one column.
#[derive(Debug, Clone, Serialize)]
pub struct ColumnReport {
    /// Its name.
    pub name: String,
    /// Share of empty cells, 0 to 1.
    pub missing: f64,
    /// Different values that are not empty.
    pub distinct: u64,
    /// Whether `distinct` was counted (up to 65,536 values); else it is a HyperLogLog estimate, ±2 %.
    pub distinct_exact: bool,
    /// What its values look like.
    pub guess: Guess,
    /// Least, mean and greatest number, when the cells are numbers.
    pub numbers: Option<Numbers>,
    /// The most frequent values with their counts, at most five.
    pub top: Vec<(String, u64)>,
}

/// Least, mean and greatest of a column's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Numbers {
    /// Least.
    pub min: f64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Greatest.
    pub max: f64,
}

/// What a column's values look like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Guess {
    /// No cell has a value.
    Empty,
    /// Whole numbers.
    Integer,
    /// Numbers.
    Number,
    /// Times between 1995 and 2040.
    Timestamp {
        /// `s`, `ms`, `us`, `ns` or `iso`.
        unit: &'static str,
        /// First and last day, `YYYY-MM-DD`.
        from: String,
        /// Last day.
        to: String,
    },
    /// Values out of a set.
    Category,
    /// Several values per cell.
    List {
        /// What stands between them; `\u{1f}` for lists of JSON and Parquet.
        separator: char,
        /// Whether elements look like `name:weight`.
        weighted: bool,
    },
    /// Words.
    Text,
}

/// Reads a file (or its first `max_rows` rows) and describes it. `progress` hears the rows read so far.
///
/// # Errors
/// What [`logs::open`] and reading say.
pub fn inspect(
    path: &Path,
    format: &LogFormat,
    max_rows: Option<u64>,
    progress: &mut dyn FnMut(u64),
) -> Result<Inspection, Error> {
    let mut reader = logs::open(path, format)?;
    let mut frame = reader.frame();
    let mut columns: Vec<Column> = reader.columns().iter().map(|name| Column::new(name)).collect();
    let mut whole_rows = Distinct::new(EXACT_ROWS);
    let (mut rows, limit) = (0u64, max_rows.unwrap_or(u64::MAX));
    let mut complete = false;
    while rows < limit {
        frame.clear();
        let wanted = usize::try_from(limit - rows).map_or(CHUNK, |left| left.min(CHUNK));
        let got = reader.read(&mut frame, wanted)?;
        if got == 0 {
            complete = true;
            break;
        }
        rows += got as u64;
        observe(&frame, &mut columns, &mut whole_rows);
        progress(rows);
    }
    Ok(report(path, (rows, complete), columns, &whole_rows))
}

fn observe(frame: &Frame, columns: &mut [Column], whole_rows: &mut Distinct) {
    let mut hashes = vec![0u64; frame.rows()];
    for (at, column) in columns.iter_mut().enumerate() {
        for (row, whole) in hashes.iter_mut().enumerate() {
            let cell = frame.get(row, at);
            let hash = xxh3_64(cell.as_bytes());
            *whole = xxh3_64_with_seed(&hash.to_le_bytes(), *whole);
            column.take(cell, hash);
        }
    }
    hashes.into_iter().for_each(|hash| whole_rows.take(hash));
}

fn report(
    path: &Path,
    (rows, complete): (u64, bool),
    columns: Vec<Column>,
    whole_rows: &Distinct,
) -> Inspection {
    let (different, exact) = whole_rows.count();
    // An estimate is off by about 0.8 %: below 3 % it says nothing.
    let repeated = rows.saturating_sub(different);
    let duplicate_rows = if exact || repeated as f64 > 0.03 * rows as f64 { repeated } else { 0 };
    let mut suspicious = Vec::new();
    if duplicate_rows > 0 {
        let about = if exact { "" } else { "about " };
        suspicious.push(format!("{about}{duplicate_rows} of {rows} rows repeat an earlier row"));
    }
    columns.iter().for_each(|c| c.suspect(rows, &mut suspicious));
    let columns: Vec<ColumnReport> = columns.into_iter().map(|c| c.report(rows)).collect();
    let suggestion = suggest::features(&columns, rows);
    Inspection {
        path: path.display().to_string(),
        rows,
        complete,
        duplicate_rows,
        columns,
        suspicious,
        suggestion,
    }
}
