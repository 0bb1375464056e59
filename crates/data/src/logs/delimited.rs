//! CSV, TSV, RecBole and text with any delimiter.

use memchr::memchr;
use millstream_schema::{Frame, suggest};

use super::lines::{Lines, first_line};
use super::pieces::Layout;
use super::quoted::Record;
use super::separator::{Separator, guess, hint, shown};
use super::{FileFormat, FrameReader, LogFormat, refuse_twins, select};
use crate::Error;

/// Types of RecBole headers.
const RECBOLE: [&str; 4] = ["token", "token_seq", "float", "float_seq"];

/// Reads delimited text.
pub(super) struct Delimited {
    lines: Lines,
    separator: Separator,
    /// The separator's byte, when cells may be quoted.
    quoted: Option<u8>,
    /// Cells of every row of the file.
    width: usize,
    columns: Vec<String>,
    /// Places of the wanted cells; all when absent.
    places: Option<Vec<usize>>,
    record: Record,
}

impl Delimited {
    pub(super) fn new(mut lines: Lines, kind: FileFormat, format: &LogFormat) -> Result<Self, Error> {
        lines.skip_blank("the file is empty")?;
        let separator = separator(&lines, kind, format)?;
        let quoted = match (&separator, kind) {
            (Separator::Byte(byte), FileFormat::Csv) => Some(*byte),
            _ => None,
        };
        let mut reader = Self {
            lines,
            separator,
            quoted,
            width: 0,
            columns: vec![],
            places: None,
            record: Record::default(),
        };
        let header = kind == FileFormat::Recbole || format.header.unwrap_or(format.columns.is_none());
        if header {
            reader.take_header(kind)?;
            reader.choose(format.columns.as_deref())?;
        } else {
            reader.name_cells(format.columns.as_deref())?;
        }
        Ok(reader)
    }

    /// Reads the names of the columns from the first line.
    fn take_header(&mut self, kind: FileFormat) -> Result<(), Error> {
        let place = self.lines.place(self.lines.line());
        let (names, bytes, ends) = self.first_record()?;
        if names.len() == 1
            && let Some(hint) = hint(self.lines.text(), "", &self.separator, None)
        {
            let used = shown(&self.separator.text());
            return Err(Error::input(place, format!("line has 1 column with the delimiter {used}{hint}")));
        }
        self.lines.consume(bytes, ends);
        self.columns = names
            .iter()
            .enumerate()
            .map(|(i, name)| match name.trim() {
                "" => Ok(format!("c{i}")),
                name if kind == FileFormat::Recbole => recbole_name(&place, name),
                name => Ok(name.to_owned()),
            })
            .collect::<Result<_, _>>()?;
        refuse_twins(&place, &self.columns)?;
        self.width = self.columns.len();
        self.lines.skip_blank("the file has a header but no rows")
    }

    /// Narrows the columns to those that the caller named.
    fn choose(&mut self, wanted: Option<&[String]>) -> Result<(), Error> {
        if let Some(wanted) = wanted {
            self.places = Some(select(self.lines.source(), wanted, &self.columns)?);
            self.columns = wanted.to_vec();
        }
        Ok(())
    }

    /// Names the cells of a file without a header.
    fn name_cells(&mut self, names: Option<&[String]>) -> Result<(), Error> {
        let width = self.first_record()?.0.len();
        self.columns = match names {
            Some(names) => names.to_vec(),
            None => (0..width).map(|i| format!("c{i}")).collect(),
        };
        self.width = self.columns.len();
        Ok(())
    }

    /// Cells of the record at hand, its bytes and its line ends; nothing is consumed.
    fn first_record(&mut self) -> Result<(Vec<String>, usize, u64), Error> {
        let owned = |cells: Vec<&str>| cells.into_iter().map(str::to_owned).collect();
        if let Some(byte) = self.quoted {
            let (bytes, ends) = self.parse_quoted(byte)?;
            return Ok((owned(self.record.cells()), bytes, ends));
        }
        let (line, next) = first_line(self.lines.text());
        let mut cells = Vec::new();
        self.separator.split(line, &mut cells);
        Ok((owned(cells), next, 1))
    }

    /// Parses the record at hand, reading on where a quoted cell spans blocks.
    fn parse_quoted(&mut self, byte: u8) -> Result<(usize, u64), Error> {
        loop {
            if let Some(parsed) = self.record.parse(self.lines.text(), byte) {
                return Ok(parsed);
            }
            let place = self.lines.place(self.lines.line());
            if self.lines.text().len() > super::MAX_LINE {
                return Err(Error::input(
                    place,
                    "a quoted cell is longer than 16 MiB; is a `\"` not closed?",
                ));
            }
            if !self.lines.extend()? {
                return Err(Error::input(place, "a quoted cell is not closed before the end of the file"));
            }
        }
    }

    /// Takes rows without quotes from the block at hand; stops at a line with quotes, and says so.
    fn plain_rows(&mut self, frame: &mut Frame, max_rows: usize) -> Result<(usize, bool), Error> {
        let text = self.lines.text();
        let look_for_quotes = self.quoted.is_some() && self.lines.has_quotes();
        let mut cells: Vec<&str> = Vec::with_capacity(self.width);
        let mut picked: Vec<&str> = Vec::with_capacity(self.columns.len());
        let (mut at, mut line_no, mut rows, mut stopped) = (0, self.lines.line(), 0, false);
        while rows < max_rows && at < text.len() {
            let (line, next) = first_line(&text[at..]);
            if look_for_quotes && memchr(b'"', line.as_bytes()).is_some() {
                stopped = true;
                break;
            }
            if !line.is_empty() {
                self.separator.split(line, &mut cells);
                if cells.len() != self.width {
                    if line.trim().is_empty() {
                        (at, line_no) = (at + next, line_no + 1);
                        continue;
                    }
                    return Err(self.ragged(line_no, line, cells.len()));
                }
                push(frame, line_no, &cells, self.places.as_deref(), &mut picked);
                rows += 1;
            }
            (at, line_no) = (at + next, line_no + 1);
        }
        let ends = line_no - self.lines.line();
        self.lines.consume(at, ends);
        Ok((rows, stopped))
    }

    fn quoted_row(&mut self, byte: u8, frame: &mut Frame) -> Result<(), Error> {
        let (bytes, ends) = self.parse_quoted(byte)?;
        let cells = self.record.cells();
        let line = self.lines.line();
        if cells.len() != self.width {
            return Err(self.ragged(line, "", cells.len()));
        }
        push(frame, line, &cells, self.places.as_deref(), &mut Vec::new());
        self.lines.consume(bytes, ends);
        Ok(())
    }

    fn ragged(&self, line_no: u64, line: &str, found: usize) -> Error {
        ragged(self.lines.place(line_no), (line, &self.separator), (found, self.width))
    }

    pub(super) fn lines(&mut self) -> &mut Lines {
        &mut self.lines
    }

    /// Names of all cells, where no columns were chosen.
    pub(super) fn names(&self) -> &[String] {
        &self.columns
    }

    pub(super) fn layout(&self) -> Layout {
        Layout { separator: self.separator.clone(), quoted: self.quoted, width: self.width }
    }
}

/// The error of a row with `found` cells in place of `width`.
pub(super) fn ragged(
    place: String,
    (line, separator): (&str, &Separator),
    (found, width): (usize, usize),
) -> Error {
    let hint = if found == 1 { hint("", line, separator, Some(width)) } else { None };
    let (s, hint) = (if found == 1 { "" } else { "s" }, hint.unwrap_or_default());
    Error::input(place, format!("line has {found} column{s}, expected {width}{hint}"))
}

impl FrameReader for Delimited {
    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn source(&self) -> &str {
        self.lines.source()
    }

    fn read(&mut self, frame: &mut Frame, max_rows: usize) -> Result<usize, Error> {
        let mut rows = 0;
        while rows < max_rows && self.lines.more()? {
            let (plain, stopped) = self.plain_rows(frame, max_rows - rows)?;
            rows += plain;
            if let (true, Some(byte)) = (stopped, self.quoted) {
                self.quoted_row(byte, frame)?;
                rows += 1;
            }
        }
        Ok(rows)
    }
}

#[inline]
fn push<'a>(
    frame: &mut Frame,
    line: u64,
    cells: &[&'a str],
    places: Option<&[usize]>,
    picked: &mut Vec<&'a str>,
) {
    match places {
        None => frame.push_row(line, cells),
        Some(places) => {
            picked.clear();
            picked.extend(places.iter().map(|&i| cells[i]));
            frame.push_row(line, picked);
        }
    }
}

fn separator(lines: &Lines, kind: FileFormat, format: &LogFormat) -> Result<Separator, Error> {
    let given = match (&format.delimiter, kind) {
        (Some(text), _) => text.as_str(),
        (None, FileFormat::Csv) => ",",
        (None, FileFormat::Tsv | FileFormat::Recbole) => "\t",
        (None, _) => {
            // One column needs no delimiter; a tab is the least likely to occur in it.
            let one = format.columns.as_ref().is_some_and(|c| c.len() == 1 && format.header != Some(true));
            let guessed = if one { Some("\t") } else { guess(lines.text()) };
            guessed.ok_or_else(|| {
                Error::config(format!(
                    "{}: the delimiter cannot be told from the first lines; give `delimiter` or `format`",
                    lines.source()
                ))
            })?
        }
    };
    Separator::new(given).ok_or_else(|| {
        let message = "`delimiter` must be one or more characters, not a line end or a quotation mark";
        Error::config(format!("{}: {message}", lines.source()))
    })
}

/// The plain name of a RecBole header cell.
fn recbole_name(place: &str, cell: &str) -> Result<String, Error> {
    let Some((name, kind)) = cell.rsplit_once(':') else {
        return Err(Error::input(place, format!("header cell `{cell}` has no type; expected `name:type`")));
    };
    if !RECBOLE.contains(&kind) {
        let reason = format!("header cell `{cell}`: {}", suggest::unknown("type", kind, RECBOLE));
        return Err(Error::input(place, reason));
    }
    Ok(name.to_owned())
}
