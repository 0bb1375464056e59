//! Delimited text cut into pieces of so many rows, for others to split into cells side by side.

use memchr::memchr;

use super::FrameReader;
use super::delimited::Delimited;
use super::lines::first_line;
use super::quoted::Record;
use super::separator::Separator;
use crate::Error;

/// What cuts lines into cells.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(super) separator: Separator,
    /// The separator's byte, when cells may be quoted.
    pub(super) quoted: Option<u8>,
    /// Cells of every row of the file.
    pub(super) width: usize,
}

/// Whole rows of a file, as they stand in it.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    pub(crate) text: String,
    /// Number of the first line, from 1.
    pub(crate) line: u64,
    /// Rows in `text`; lines that are blank are none.
    pub(crate) rows: usize,
    /// Whether a cell may be quoted.
    pub(crate) quotes: bool,
}

/// Takes a row's cells and the number of its line.
pub(crate) type TakeRow<'a> = dyn FnMut(&[&str], u64) -> Result<(), Error> + 'a;

/// Cuts a file of delimited text.
pub(crate) struct Pieces {
    inner: Delimited,
    layout: Layout,
    record: Record,
}

impl Pieces {
    pub(super) fn new(inner: Delimited) -> Self {
        Self { layout: inner.layout(), inner, record: Record::default() }
    }

    /// Names of all cells of a row.
    pub(crate) fn names(&self) -> &[String] {
        self.inner.names()
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The file, for messages.
    pub(crate) fn source(&self) -> &str {
        FrameReader::source(&self.inner)
    }

    /// Puts the next `rows` rows, fewer at the end of the file, in the place of what `piece` held, whose memory is used again; false
    /// behind the end.
    pub(crate) fn next(&mut self, rows: usize, piece: &mut Piece) -> Result<bool, Error> {
        let (bytes, found, ends) = self.find(rows)?;
        if found == 0 {
            return Ok(false);
        }
        let lines = self.inner.lines();
        piece.text.clear();
        piece.text.push_str(&lines.text()[..bytes]);
        piece.quotes = self.layout.quoted.is_some()
            && lines.has_quotes()
            && memchr(b'"', piece.text.as_bytes()).is_some();
        (piece.line, piece.rows) = (lines.line(), found);
        lines.consume(bytes, ends);
        Ok(true)
    }

    /// Leaves up to `rows` rows out; gives how many there were.
    pub(crate) fn skip(&mut self, rows: u64) -> Result<u64, Error> {
        let mut left = rows;
        while left > 0 {
            let (bytes, found, ends) = self.find(left.min(4096) as usize)?;
            if found == 0 {
                break;
            }
            self.inner.lines().consume(bytes, ends);
            left -= found as u64;
        }
        Ok(rows - left)
    }

    /// Bytes, rows and line ends of the next `rows` rows.
    fn find(&mut self, rows: usize) -> Result<(usize, usize, u64), Error> {
        let (mut at, mut found, mut ends) = (0, 0, 0);
        loop {
            let quotes = self.inner.lines().has_quotes();
            while found < rows {
                let rest = &self.inner.lines().text()[at..];
                if rest.is_empty() {
                    break;
                }
                let Some((bytes, lines)) = self.layout.row(rest, quotes, &mut self.record) else { break };
                found += usize::from(self.layout.is_row(&rest[..bytes]));
                (at, ends) = (at + bytes, ends + lines);
            }
            if found == rows {
                break;
            }
            let lines = self.inner.lines();
            if lines.text().len() - at > super::MAX_LINE {
                let place = lines.place(lines.line() + ends);
                return Err(Error::input(
                    place,
                    "a quoted cell is longer than 16 MiB; is a `\"` not closed?",
                ));
            }
            if !lines.extend()? {
                break;
            }
        }
        self.refuse_open_quote(at, ends, found < rows)?;
        Ok((at, found, ends))
    }

    /// Text that is left at the end of the file is a quoted cell without its end.
    fn refuse_open_quote(&mut self, at: usize, ends: u64, at_end: bool) -> Result<(), Error> {
        let lines = self.inner.lines();
        if !at_end || at == lines.text().len() {
            return Ok(());
        }
        let place = lines.place(lines.line() + ends);
        Err(Error::input(place, "a quoted cell is not closed before the end of the file"))
    }
}

impl Layout {
    /// Bytes and line ends of the row at the beginning of `text`, which has `quotes` or not; `None` if a quoted cell is not closed in
    /// it.
    #[inline]
    fn row(&self, text: &str, quotes: bool, record: &mut Record) -> Option<(usize, u64)> {
        let (line, next) = first_line(text);
        match self.quoted {
            Some(byte) if quotes && memchr(b'"', line.as_bytes()).is_some() => record.parse(text, byte),
            _ => Some((next, u64::from(next > line.len()))),
        }
    }

    /// Whether a line is a row and not blank.
    fn is_row(&self, line: &str) -> bool {
        match line.as_bytes().first() {
            None => false,
            Some(b) if *b > b' ' => true,
            _ => !self.is_blank(line.trim_end_matches('\n').trim_end_matches('\r')),
        }
    }

    /// Whether a line without its end is to be left out: nothing in it, and not as many cells as a row has.
    pub(crate) fn is_blank(&self, line: &str) -> bool {
        line.is_empty() || (line.trim().is_empty() && self.cells(line) != self.width)
    }

    fn cells(&self, line: &str) -> usize {
        let mut cells = Vec::new();
        self.separator.split(line, &mut cells);
        cells.len()
    }

    /// The byte between cells, when it is one.
    pub(crate) fn byte(&self) -> Option<u8> {
        match &self.separator {
            Separator::Byte(byte) => Some(*byte),
            Separator::Text(_) => None,
        }
    }

    /// Cells of every row.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Hands each row's cells and line to `take`, with care for quotes and any separator.
    ///
    /// # Errors
    /// A row of another width, or what `take` gives.
    pub(crate) fn each_row(
        &self,
        piece: &Piece,
        place: &dyn Fn(u64) -> String,
        take: &mut TakeRow<'_>,
    ) -> Result<(), Error> {
        let (mut at, mut number, mut record) = (0, piece.line, Record::default());
        let mut cells = Vec::new();
        while at < piece.text.len() {
            let rest = &piece.text[at..];
            let (line, next) = first_line(rest);
            let (mut bytes, mut ends) = (next, 1);
            match self.quoted {
                Some(byte) if memchr(b'"', line.as_bytes()).is_some() => {
                    if let Some(parsed) = record.parse(rest, byte) {
                        (bytes, ends) = parsed;
                    }
                    let cells = record.cells();
                    self.check_width(cells.len(), "", || place(number))?;
                    take(&cells, number)?;
                }
                _ if self.is_blank(line) => {}
                _ => {
                    self.separator.split(line, &mut cells);
                    self.check_width(cells.len(), line, || place(number))?;
                    take(&cells, number)?;
                }
            }
            (at, number) = (at + bytes, number + ends);
        }
        Ok(())
    }

    /// # Errors
    /// A row has another number of cells than the file's first one.
    pub(crate) fn check_width(
        &self,
        found: usize,
        line: &str,
        place: impl Fn() -> String,
    ) -> Result<(), Error> {
        if found == self.width {
            return Ok(());
        }
        Err(super::delimited::ragged(place(), (line, &self.separator), (found, self.width)))
    }
}
