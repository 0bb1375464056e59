//! JSON lines.

use millstream_schema::{Frame, suggest};
use rapidhash::RapidHashMap;

use super::json_row::{cell, walk};
use super::lines::{Lines, first_line};
use super::{FrameReader, LogFormat};
use crate::Error;

/// Lines looked at for names of columns, where the caller gives none.
const HEAD: usize = 10_000;

/// Reads one JSON object per line.
///
/// Columns are those that the caller named, or else every key of the first lines (10,000 or 1 MiB). A key that comes
/// up later is an error in the second case, so that nothing is lost silently, and left out in the first; a named
/// column that no line of the file has is an error at its end.
pub(super) struct Jsonl {
    lines: Lines,
    columns: Vec<String>,
    places: RapidHashMap<String, usize>,
    /// Keys of the first lines, for suggestions.
    keys: Vec<String>,
    named: bool,
    row: Row,
}

/// Cells of the row at hand, in one arena.
#[derive(Default)]
struct Row {
    text: String,
    spans: Vec<(usize, usize)>,
    met: Vec<bool>,
}

impl Jsonl {
    pub(super) fn new(mut lines: Lines, format: &LogFormat) -> Result<Self, Error> {
        lines.skip_blank("the file is empty")?;
        let keys = keys(&lines)?;
        let columns = format.columns.clone().unwrap_or_else(|| keys.clone());
        if columns.is_empty() {
            return Err(Error::input(lines.source(), "the JSON objects have no keys"));
        }
        let places = columns.iter().enumerate().map(|(i, name)| (name.clone(), i)).collect();
        let row = Row { met: vec![false; columns.len()], ..Row::default() };
        Ok(Self { lines, columns, places, keys, named: format.columns.is_some(), row })
    }

    /// At the end: every named column was met.
    fn check_met(&self) -> Result<(), Error> {
        match self.row.met.iter().position(|met| !met) {
            Some(column) if self.named => {
                let all: Vec<&str> = self.keys.iter().map(String::as_str).collect();
                let message = suggest::unknown("column", &self.columns[column], all.iter().copied());
                Err(Error::config(format!("{}: {message}", self.lines.source())))
            }
            _ => Ok(()),
        }
    }
}

/// Keys of the first lines, in order of appearance.
fn keys(lines: &Lines) -> Result<Vec<String>, Error> {
    let mut keys: Vec<String> = Vec::new();
    let mut places: RapidHashMap<String, ()> = RapidHashMap::default();
    let (mut at, mut number) = (0, lines.line());
    let text = lines.text();
    while at < text.len() && number < lines.line() + HEAD as u64 {
        let (line, next) = first_line(&text[at..]);
        if !line.trim().is_empty() {
            walk(line, &mut |path, _| {
                if !places.contains_key(path) {
                    places.insert(path.to_owned(), ());
                    keys.push(path.to_owned());
                }
                Ok(())
            })
            .map_err(|reason| Error::input(lines.place(number), reason))?;
        }
        (at, number) = (at + next, number + 1);
    }
    Ok(keys)
}

impl Row {
    /// Flattens a line.
    fn take(&mut self, line: &str, places: &RapidHashMap<String, usize>, named: bool) -> Result<(), String> {
        self.text.clear();
        self.spans.clear();
        self.spans.resize(self.met.len(), (0, 0));
        walk(line, &mut |path, raw| {
            let Some(&place) = places.get(path) else {
                return if named || raw == "null" { Ok(()) } else { Err(late_key(path)) };
            };
            let start = self.text.len();
            cell(raw, &mut self.text)?;
            self.spans[place] = (start, self.text.len());
            self.met[place] = true;
            Ok(())
        })
    }
}

fn late_key(path: &str) -> String {
    format!("key `{path}` is not in the first lines of the file; name the wanted columns with `columns`")
}

impl FrameReader for Jsonl {
    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn source(&self) -> &str {
        self.lines.source()
    }

    fn read(&mut self, frame: &mut Frame, max_rows: usize) -> Result<usize, Error> {
        for done in 0..max_rows {
            let Some((number, line)) = self.lines.next_line()? else {
                self.check_met()?;
                return Ok(done);
            };
            if let Err(reason) = self.row.take(line, &self.places, self.named) {
                return Err(Error::input(self.lines.place(number), reason));
            }
            let cells: Vec<&str> =
                self.row.spans.iter().map(|&(start, end)| &self.row.text[start..end]).collect();
            frame.push_row(number, &cells);
        }
        Ok(max_rows)
    }
}
