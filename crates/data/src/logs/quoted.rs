//! Records with quoted cells (RFC 4180).

use memchr::{memchr, memchr_iter, memchr2};

/// Cells of one record, unquoted, in one arena.
#[derive(Debug, Default)]
pub(super) struct Record {
    text: String,
    ends: Vec<usize>,
}

impl Record {
    /// The cells in order.
    pub(super) fn cells(&self) -> Vec<&str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.text[start..end]).collect()
    }

    /// Parses the record at the beginning of `text` and gives its length in bytes and in line ends; `None` when
    /// a quoted cell is not closed in `text`, which must end at a line end or at the end of the file.
    ///
    /// A cell that begins with `"` is quoted, `""` inside stands for one mark; marks elsewhere are plain text.
    pub(super) fn parse(&mut self, text: &str, separator: u8) -> Option<(usize, u64)> {
        self.text.clear();
        self.ends.clear();
        let bytes = text.as_bytes();
        let (mut at, mut lines) = (0, 0);
        loop {
            if bytes.get(at) == Some(&b'"') {
                let start = at;
                at = self.quoted(text, at + 1)?;
                lines += memchr_iter(b'\n', &bytes[start..at]).count() as u64;
            }
            let tail = memchr2(separator, b'\n', &bytes[at..]).map_or(text.len(), |i| at + i);
            let last = bytes.get(tail) != Some(&separator);
            let cell = &text[at..tail];
            self.text.push_str(if last { cell.strip_suffix('\r').unwrap_or(cell) } else { cell });
            self.ends.push(self.text.len());
            at = (tail + 1).min(text.len());
            if last {
                return Some((at, lines + u64::from(tail < text.len())));
            }
        }
    }

    /// Takes a quoted cell up to its closing mark; gives the place behind it.
    fn quoted(&mut self, text: &str, mut at: usize) -> Option<usize> {
        let bytes = text.as_bytes();
        loop {
            let mark = at + memchr(b'"', &bytes[at..])?;
            self.text.push_str(&text[at..mark]);
            at = mark + 1;
            if bytes.get(at) != Some(&b'"') {
                return Some(at);
            }
            self.text.push('"');
            at += 1;
        }
    }
}
