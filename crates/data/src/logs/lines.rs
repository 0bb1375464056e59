//! Whole lines of UTF-8 text from a byte stream, a block at a time.

use std::io::Read;
use std::path::{Path, PathBuf};

use memchr::{memchr, memrchr};

use super::latin1::Latin1;
use super::source::{Coding, Opened};
use super::{Encoding, MAX_LINE};
use crate::Error;

/// Bytes read at once.
const BLOCK: usize = 1 << 20;

/// A block of whole lines at a time. Memory: a block, or the longest line if that is longer.
pub(super) struct Lines {
    path: PathBuf,
    source: String,
    coding: Coding,
    encoding: Encoding,
    /// Opened at the first read.
    opened: Option<Opened>,
    input: Option<Box<dyn Read + Send>>,
    /// Whole lines, checked to be UTF-8; what is before `at` was consumed.
    text: String,
    at: usize,
    /// Number of the line at `at`, from 1.
    line: u64,
    /// The beginning of a line whose end is not read yet.
    rest: Vec<u8>,
    ended: bool,
    quotes: bool,
}

impl Lines {
    pub(super) fn new(path: &Path, opened: Opened, encoding: Encoding) -> Self {
        Self {
            path: path.to_owned(),
            source: path.display().to_string(),
            coding: opened.coding,
            encoding,
            opened: Some(opened),
            input: None,
            text: String::new(),
            at: 0,
            line: 1,
            rest: Vec::new(),
            ended: false,
            quotes: false,
        }
    }

    /// The file, for messages.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// `file:line`.
    pub(super) fn place(&self, line: u64) -> String {
        format!("{}:{line}", self.source)
    }

    /// Number of the next line, from 1.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// Lines read and not yet consumed.
    pub(super) fn text(&self) -> &str {
        &self.text[self.at..]
    }

    /// Whether a quotation mark is somewhere in [`Self::text`]; may be true when it is already consumed.
    pub(super) fn has_quotes(&self) -> bool {
        self.quotes
    }

    /// Leaves `bytes` of the text behind, which hold `lines` line ends.
    pub(super) fn consume(&mut self, bytes: usize, lines: u64) {
        self.at += bytes;
        self.line += lines;
    }

    /// Makes sure that [`Self::text`] is not empty; false at the end of the file.
    pub(super) fn more(&mut self) -> Result<bool, Error> {
        if self.at < self.text.len() {
            return Ok(true);
        }
        self.extend()
    }

    /// Reads a further block behind the text that is not consumed; false when there is none.
    pub(super) fn extend(&mut self) -> Result<bool, Error> {
        let mut bytes = std::mem::take(&mut self.text).into_bytes();
        bytes.drain(..self.at);
        self.at = 0;
        let kept = bytes.len();
        bytes.append(&mut self.rest);
        while !self.ended {
            let before = bytes.len();
            self.read_block(&mut bytes)?;
            self.ended = bytes.len() - before < BLOCK;
            let end = memrchr(b'\n', &bytes[kept..]).map(|i| kept + i + 1);
            if end.is_none() && bytes.len() - kept > MAX_LINE {
                let line = self.line + memchr::memchr_iter(b'\n', &bytes[..kept]).count() as u64;
                return Err(Error::input(
                    self.place(line),
                    "the line is longer than 16 MiB; is this a text file?",
                ));
            }
            if let (Some(end), false) = (end, self.ended) {
                self.rest.extend_from_slice(&bytes[end..]);
                bytes.truncate(end);
                break;
            }
        }
        let grown = bytes.len() > kept;
        self.check(bytes)?;
        Ok(grown)
    }

    fn read_block(&mut self, bytes: &mut Vec<u8>) -> Result<(), Error> {
        if let Some(opened) = self.opened.take() {
            let bytes = opened.stream(&self.path)?;
            self.input = Some(match self.encoding {
                Encoding::Utf8 => bytes,
                Encoding::Latin1 => Box::new(Latin1::new(bytes)),
            });
        }
        if let Some(input) = &mut self.input {
            bytes.reserve(BLOCK);
            let read = input.take(BLOCK as u64).read_to_end(bytes);
            read.map_err(|e| self.coding.fault(&self.path, e))?;
        }
        Ok(())
    }

    /// Takes bytes over as text.
    fn check(&mut self, bytes: Vec<u8>) -> Result<(), Error> {
        let bad = |at: usize, bytes: &[u8], what: &str| {
            let line = self.line + memchr::memchr_iter(b'\n', &bytes[..at]).count() as u64;
            Err(Error::input(self.place(line), format!("binary data ({what}); expected UTF-8 text")))
        };
        if let Some(at) = memchr(0, &bytes) {
            return bad(at, &bytes, "a zero byte");
        }
        self.text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => {
                return bad(e.utf8_error().valid_up_to(), e.as_bytes(), "bytes that are no UTF-8 character");
            }
        };
        if self.line == 1 && self.text.starts_with('\u{feff}') {
            self.at = '\u{feff}'.len_utf8();
        }
        self.quotes = memchr(b'"', self.text.as_bytes()).is_some();
        Ok(())
    }

    /// The next line that is not blank, with its number and without its end.
    pub(super) fn next_line(&mut self) -> Result<Option<(u64, &str)>, Error> {
        loop {
            if !self.more()? {
                return Ok(None);
            }
            let start = self.at;
            let (line, next) = first_line(&self.text[start..]);
            let (end, number) = (start + line.len(), self.line);
            let blank = line.trim().is_empty();
            self.consume(next, 1);
            if !blank {
                return Ok(Some((number, &self.text[start..end])));
            }
        }
    }

    /// Moves past blank lines; an error when nothing else is left.
    pub(super) fn skip_blank(&mut self, nothing_left: &str) -> Result<(), Error> {
        while self.more()? {
            let (line, next) = first_line(self.text());
            if !line.trim().is_empty() {
                return Ok(());
            }
            self.consume(next, 1);
        }
        Err(Error::input(self.source.clone(), nothing_left))
    }
}

/// The first line of a text without its end (`\n` or `\r\n`), and where the next one begins.
pub(super) fn first_line(text: &str) -> (&str, usize) {
    let end = memchr(b'\n', text.as_bytes());
    let line = &text[..end.unwrap_or(text.len())];
    (line.strip_suffix('\r').unwrap_or(line), end.map_or(text.len(), |e| e + 1))
}
