//! Parquet files.

use std::path::{Path, PathBuf};

use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use arrow_array::{Array, ArrayRef, RecordBatch, cast::AsArray};
use arrow_schema::{DataType, Fields};
use millstream_schema::Frame;

use super::parquet_cells::{Text, append};
use super::source::{Coding, Opened};
use super::{FrameReader, LogFormat, select};
use crate::Error;

/// Rows decoded at once.
const BATCH: usize = 8192;

/// Reads Parquet: every primitive type as text, timestamps and dates as epoch milliseconds (those without a zone
/// count as UTC), structs as `a.b` columns, lists joined. The "line" of a row is its number, from 1.
pub(super) struct Parquet {
    path: PathBuf,
    source: String,
    batches: ParquetRecordBatchReader,
    columns: Vec<String>,
    /// For each column its way through the record batch: root, then struct members.
    ways: Vec<Vec<usize>>,
    cells: Vec<Text>,
    /// Rows of `cells`, and how many of them were handed out.
    rows: usize,
    at: usize,
    line: u64,
}

impl Parquet {
    pub(super) fn open(path: &Path, opened: Opened, format: &LogFormat) -> Result<Self, Error> {
        let source = path.display().to_string();
        if opened.coding != Coding::Plain {
            return Err(Error::input(
                source,
                "a Parquet file cannot be read through gzip or zstd; unpack it first",
            ));
        }
        if !opened.parquet {
            return Err(Error::corrupt(path, "not a Parquet file (it does not begin with `PAR1`)"));
        }
        let builder = ParquetRecordBatchReaderBuilder::try_new(opened.file).map_err(|e| fault(path, &e))?;
        let mut all = Vec::new();
        flatten(builder.schema().fields(), "", &[], &mut all);
        let names: Vec<String> = all.iter().map(|(name, _)| name.clone()).collect();
        let columns = format.columns.clone().unwrap_or_else(|| names.clone());
        if builder.metadata().file_metadata().num_rows() == 0 {
            return Err(Error::input(source, "the file has columns but no rows"));
        }
        let places = select(&source, &columns, &names)?;
        let mut roots: Vec<usize> = places.iter().map(|&p| all[p].1[0]).collect();
        roots.sort_unstable();
        roots.dedup();
        let ways = places.iter().map(|&p| projected(&all[p].1, &roots)).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        let batches =
            builder.with_projection(mask).with_batch_size(BATCH).build().map_err(|e| fault(path, &e))?;
        let cells = columns.iter().map(|_| Text::default()).collect();
        Ok(Self { path: path.to_owned(), source, batches, columns, ways, cells, rows: 0, at: 0, line: 0 })
    }

    /// Decodes the next rows; false at the end.
    fn next_batch(&mut self) -> Result<bool, Error> {
        let Some(batch) = self.batches.next() else { return Ok(false) };
        let batch = batch.map_err(|e| fault(&self.path, &e))?;
        for ((way, cells), name) in self.ways.iter().zip(&mut self.cells).zip(&self.columns) {
            cells.clear();
            append_member(&batch, way, cells).map_err(|e| {
                Error::corrupt(&self.path, format!("column `{name}` after row {}: {e}", self.line))
            })?;
        }
        (self.rows, self.at) = (batch.num_rows(), 0);
        Ok(true)
    }
}

fn fault(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::corrupt(path, format!("the Parquet file cannot be read ({error})"))
}

/// Names and ways of all columns, members of structs as `a.b`.
fn flatten(fields: &Fields, prefix: &str, way: &[usize], out: &mut Vec<(String, Vec<usize>)>) {
    for (i, field) in fields.iter().enumerate() {
        let name = format!("{prefix}{}", field.name());
        let way: Vec<usize> = way.iter().copied().chain([i]).collect();
        match field.data_type() {
            DataType::Struct(members) => flatten(members, &format!("{name}."), &way, out),
            _ => out.push((name, way)),
        }
    }
}

/// The way once only `roots` are read.
fn projected(way: &[usize], roots: &[usize]) -> Vec<usize> {
    let root = roots.partition_point(|&r| r < way[0]);
    std::iter::once(root).chain(way[1..].iter().copied()).collect()
}

/// Appends the cells at `way`; a missing struct has missing members.
fn append_member(batch: &RecordBatch, way: &[usize], cells: &mut Text) -> Result<(), String> {
    let mut array = batch.column(way[0]).clone();
    let mut missing: Vec<ArrayRef> = Vec::new();
    for &i in &way[1..] {
        let child = array.as_struct().column(i).clone();
        if array.null_count() > 0 {
            missing.push(array);
        }
        array = child;
    }
    append(array.as_ref(), cells)?;
    if !missing.is_empty() {
        cells.blank(|row| missing.iter().any(|parent| parent.is_null(row)));
    }
    Ok(())
}

impl FrameReader for Parquet {
    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn source(&self) -> &str {
        &self.source
    }

    fn read(&mut self, frame: &mut Frame, max_rows: usize) -> Result<usize, Error> {
        let mut done = 0;
        while done < max_rows {
            if self.at == self.rows {
                if !self.next_batch()? {
                    break;
                }
                continue;
            }
            let take = (max_rows - done).min(self.rows - self.at);
            let mut row_cells: Vec<&str> = Vec::with_capacity(self.columns.len());
            for row in self.at..self.at + take {
                row_cells.clear();
                row_cells.extend(self.cells.iter().map(|c| c.get(row)));
                self.line += 1;
                frame.push_row(self.line, &row_cells);
            }
            self.at += take;
            done += take;
        }
        Ok(done)
    }
}
