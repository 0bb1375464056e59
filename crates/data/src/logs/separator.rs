//! What stands between cells.

use memchr::memmem;

use super::lines::first_line;

/// Delimiters looked for, the rarest in plain text first.
const COMMON: [&str; 6] = ["::", "\t", ";", "|", ",", " "];
/// Lines looked at.
const HEAD: usize = 20;

/// Splits lines into cells.
#[derive(Debug, Clone)]
pub(super) enum Separator {
    /// One ASCII character.
    Byte(u8),
    /// Several bytes, such as `::` or `, `.
    Text(Box<memmem::Finder<'static>>),
}

impl Separator {
    /// From the text of a configuration; `\t` may be written with a backslash.
    pub(super) fn new(text: &str) -> Option<Self> {
        let text = text.replace("\\t", "\t");
        match text.as_bytes() {
            [] => None,
            [b'\n' | b'\r' | b'"', ..] => None,
            [byte] => Some(Self::Byte(*byte)),
            bytes => Some(Self::Text(Box::new(memmem::Finder::new(bytes).into_owned()))),
        }
    }

    /// The delimiter as it was given.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Byte(b) => char::from(*b).to_string(),
            Self::Text(finder) => String::from_utf8_lossy(finder.needle()).into_owned(),
        }
    }

    /// Puts the cells of a line into `cells`, which is cleared first.
    #[inline]
    pub(super) fn split<'a>(&self, line: &'a str, cells: &mut Vec<&'a str>) {
        cells.clear();
        let mut start = 0;
        match self {
            Self::Byte(byte) => {
                for (i, b) in line.bytes().enumerate() {
                    if b == *byte {
                        cells.push(&line[start..i]);
                        start = i + 1;
                    }
                }
            }
            Self::Text(finder) => {
                let length = finder.needle().len();
                for i in finder.find_iter(line.as_bytes()) {
                    cells.push(&line[start..i]);
                    start = i + length;
                }
            }
        }
        cells.push(&line[start..]);
    }
}

/// The lines at the beginning of a text that are not blank.
fn head(text: &str) -> impl Iterator<Item = &str> + Clone {
    let mut at = 0;
    std::iter::from_fn(move || {
        (at < text.len()).then(|| {
            let (line, next) = first_line(&text[at..]);
            at += next;
            line
        })
    })
    .filter(|l| !l.trim().is_empty())
    .take(HEAD)
}

/// Cells that each line at the beginning of `text` has with this delimiter, if all have the same number, above 1.
fn consistent(text: &str, delimiter: &str) -> Option<usize> {
    let mut counts = head(text).map(|line| line.matches(delimiter).count());
    let first = counts.next()?;
    let lines = 1 + counts.clone().count();
    // One or two lines of prose may well hold the same number of spaces.
    let enough = delimiter != " " || lines >= 3;
    (first > 0 && enough && counts.all(|c| c == first)).then_some(first + 1)
}

/// The common delimiter that splits every line at the beginning of `text` into equally many cells.
pub(super) fn guess(text: &str) -> Option<&'static str> {
    COMMON.into_iter().find(|delimiter| consistent(text, delimiter).is_some())
}

/// A question that helps when `line` is not split by the delimiter in use and would be by another.
pub(super) fn hint(text: &str, line: &str, used: &Separator, width: Option<usize>) -> Option<String> {
    let used = used.text();
    let fits = |delimiter: &&str| match width {
        Some(width) => line.split(*delimiter).count() == width,
        None => consistent(text, delimiter).is_some(),
    };
    let other = COMMON.into_iter().filter(|d| *d != used).find(fits)?;
    Some(format!("; is the delimiter {}?", shown(other)))
}

/// A delimiter as it is shown in a message.
pub(super) fn shown(delimiter: &str) -> String {
    format!("`{}`", delimiter.replace('\t', "\\t"))
}
