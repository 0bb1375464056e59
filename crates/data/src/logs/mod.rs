//! Log files to frames: every format and compression behind one trait, in constant memory.
//!
//! | format | file names | notes |
//! |---|---|---|
//! | `csv` | `.csv` | cells may be quoted with `"` (RFC 4180), when the delimiter is one character |
//! | `tsv` | `.tsv` | tab, never quoted |
//! | `text` | `.txt .dat .data` and others | any delimiter, also `::` and `, `; never quoted; guessed when not given |
//! | `jsonl` | `.jsonl .ndjson .json` | one object per line; nested keys as `a.b` |
//! | `parquet` | `.parquet` | all primitive types, lists; timestamps as epoch milliseconds |
//! | `libsvm` | `.libsvm .svm .svmlight` | columns `label`, `qid`, `features` (`index:value` joined by `\|`) |
//! | `recbole` | `.inter .user .item .kg .link .net` | `name:type` headers, tab |
//! | `lines` | never by name | the whole line is one cell |
//! | `keyed` | never by name | an id, and behind the first delimiter (white space) a text: columns `id`, `text` |
//!
//! Gzip (also of several members) and zstd are recognised by their first bytes, whatever the file is called.

mod delimited;
mod json_row;
mod jsonl;
mod keyed;
mod latin1;
mod libsvm;
mod lines;
mod parquet;
mod parquet_cells;
mod pieces;
mod quoted;
mod separator;
mod source;
mod whole_lines;

#[cfg(test)]
mod tests;

use std::path::Path;

use millstream_schema::{Frame, suggest};
use serde::{Deserialize, Serialize};

use crate::Error;

pub(crate) use pieces::{Layout, Piece, Pieces};

/// A longer line is refused: it is a sign of a wrong file, and memory stays bounded.
pub const MAX_LINE: usize = 16 << 20;

/// Reads rows in file order.
pub trait FrameReader: Send {
    /// Names of the columns that `read` fills, in order.
    fn columns(&self) -> &[String];

    /// The file, for messages.
    fn source(&self) -> &str;

    /// Appends up to `max_rows` rows to `frame`, which has this reader's columns; 0 is the end of the file.
    ///
    /// # Errors
    /// A row that the format does not allow ([`Error::Input`] with file and line), damaged bytes
    /// ([`Error::Corrupt`]), or a failing disk ([`Error::Io`]).
    fn read(&mut self, frame: &mut Frame, max_rows: usize) -> Result<usize, Error>;

    /// An empty frame for this reader's rows.
    fn frame(&self) -> Frame {
        Frame::new(self.source(), self.columns())
    }
}

/// How a file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileFormat {
    /// Delimited text with quoting.
    Csv,
    /// Tab-separated, never quoted.
    Tsv,
    /// Any delimiter, never quoted.
    Text,
    /// One JSON object per line.
    Jsonl,
    /// Apache Parquet.
    Parquet,
    /// `label [qid:q] index:value …`.
    Libsvm,
    /// RecBole atomic files.
    Recbole,
    /// Every line is one cell, of column `line`.
    Lines,
    /// Every line is an id, a delimiter and a text: two cells, of columns `id` and `text`.
    Keyed,
}

/// How a text file's bytes stand for characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// UTF-8.
    #[default]
    Utf8,
    /// ISO 8859-1, one byte a character.
    Latin1,
}

/// What a caller knows about a file; everything may be left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogFormat {
    /// By file name when absent, leaving `.gz` and `.zst` aside.
    pub format: Option<FileFormat>,
    /// Between cells of delimited text: `,` for csv, tab for tsv and recbole, guessed for text, the first white space for
    /// keyed. `\t` may be written with a backslash.
    pub delimiter: Option<String>,
    /// Whether the first line names the columns: yes, unless `columns` is given. Without header and `columns`
    /// the cells are named `c0`, `c1`, ….
    pub header: Option<bool>,
    /// Without a header the names of the cells; else the columns to read, in this order.
    pub columns: Option<Vec<String>>,
    /// UTF-8 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
}

/// Opens a file for reading.
///
/// # Errors
/// A missing file (with the nearest name in its folder), a folder, an empty file, a header without rows, a
/// wrong delimiter, an unknown column, damaged or foreign bytes: one sentence each.
///
/// ```
/// use millstream_data::logs::{self, LogFormat};
/// let message = logs::open("no/such/file.csv".as_ref(), &LogFormat::default()).err().map(|e| e.to_string());
/// assert_eq!(message.as_deref(), Some("no/such/file.csv: no such file; folder `no/such` does not exist"));
/// ```
pub fn open(path: &Path, format: &LogFormat) -> Result<Box<dyn FrameReader>, Error> {
    let opened = source::open(path)?;
    let kind =
        format.format.unwrap_or_else(|| if opened.parquet { FileFormat::Parquet } else { by_name(path) });
    refuse_odd_keys(path, kind, format)?;
    if kind == FileFormat::Parquet {
        return Ok(Box::new(parquet::Parquet::open(path, opened, format)?));
    }
    if opened.parquet {
        return Err(Error::corrupt(path, "this is a Parquet file; read it with format \"parquet\""));
    }
    let lines = lines::Lines::new(path, opened, format.encoding.unwrap_or_default());
    Ok(match kind {
        FileFormat::Jsonl => Box::new(jsonl::Jsonl::new(lines, format)?),
        FileFormat::Libsvm => Box::new(libsvm::Libsvm::new(lines, format)?),
        FileFormat::Lines => Box::new(whole_lines::WholeLines::new(lines, format)?),
        FileFormat::Keyed => Box::new(keyed::Keyed::new(lines, format)?),
        _ => Box::new(delimited::Delimited::new(lines, kind, format)?),
    })
}

/// A file as the quickest reader for it takes it.
pub(crate) enum Rows {
    /// Delimited text, uncut.
    Text(Box<Pieces>),
    /// Any other format.
    Frames(Box<dyn FrameReader>),
}

/// As [`open`], but delimited text is left to the caller to cut into cells. Names in `format` that choose columns of a
/// file with a header are not looked at: all cells are there.
pub(crate) fn open_rows(path: &Path, format: &LogFormat) -> Result<Rows, Error> {
    let opened = source::open(path)?;
    let kind =
        format.format.unwrap_or_else(|| if opened.parquet { FileFormat::Parquet } else { by_name(path) });
    let delimited =
        matches!(kind, FileFormat::Csv | FileFormat::Tsv | FileFormat::Text | FileFormat::Recbole);
    if !delimited || opened.parquet {
        return open(path, format).map(Rows::Frames);
    }
    refuse_odd_keys(path, kind, format)?;
    let chooses = format.header.unwrap_or(kind == FileFormat::Recbole);
    let format = LogFormat { columns: format.columns.clone().filter(|_| !chooses), ..format.clone() };
    let lines = lines::Lines::new(path, opened, format.encoding.unwrap_or_default());
    Ok(Rows::Text(Box::new(Pieces::new(delimited::Delimited::new(lines, kind, &format)?))))
}

/// The format that a file's name stands for.
fn by_name(path: &Path) -> FileFormat {
    let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    let plain =
        [".gz", ".gzip", ".zst", ".zstd"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    match plain.rsplit_once('.').map_or("", |(_, end)| end) {
        "csv" => FileFormat::Csv,
        "tsv" => FileFormat::Tsv,
        "jsonl" | "ndjson" | "json" => FileFormat::Jsonl,
        "parquet" | "parq" => FileFormat::Parquet,
        "libsvm" | "svm" | "svmlight" => FileFormat::Libsvm,
        "inter" | "user" | "item" | "kg" | "link" | "net" => FileFormat::Recbole,
        _ => FileFormat::Text,
    }
}

/// Keys that mean nothing for a format are errors, not ignored.
fn refuse_odd_keys(path: &Path, kind: FileFormat, format: &LogFormat) -> Result<(), Error> {
    match &format.columns {
        Some(columns) if columns.is_empty() => {
            return Err(Error::config(format!("{}: `columns` names no column", path.display())));
        }
        Some(columns) => refuse_twins(&format!("{}: `columns`", path.display()), columns)?,
        None => {}
    }
    let delimited =
        matches!(kind, FileFormat::Csv | FileFormat::Tsv | FileFormat::Text | FileFormat::Recbole);
    let odd = match format {
        LogFormat { delimiter: Some(_), .. }
            if kind != FileFormat::Keyed && (!delimited || kind == FileFormat::Recbole) =>
        {
            "delimiter"
        }
        LogFormat { encoding: Some(_), .. } if kind == FileFormat::Parquet => "encoding",
        LogFormat { header: Some(_), .. } if !delimited || kind == FileFormat::Recbole => "header",
        _ => return Ok(()),
    };
    Err(Error::config(format!("{}: `{odd}` means nothing for format {kind:?}", path.display())))
}

/// Places of the wanted columns among those of the file.
fn select(source: &str, wanted: &[String], found: &[String]) -> Result<Vec<usize>, Error> {
    let place = |name: &String| {
        found.iter().position(|f| f == name).ok_or_else(|| {
            let all: Vec<&str> = found.iter().map(String::as_str).collect();
            Error::config(format!("{source}: {}", suggest::unknown("column", name, all.iter().copied())))
        })
    };
    wanted.iter().map(place).collect()
}

/// Refuses a name that occurs twice.
fn refuse_twins(place: &str, names: &[String]) -> Result<(), Error> {
    match names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
        Some((_, name)) => Err(Error::input(place, format!("column `{name}` occurs twice"))),
        None => Ok(()),
    }
}
