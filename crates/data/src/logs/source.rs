//! Opening a file: what it is, by its first bytes, and a stream of its plain bytes.

use std::fs::File;
use std::io::{BufReader, Cursor, ErrorKind, Read};
use std::path::Path;

use millstream_schema::suggest;

use crate::Error;

/// Bytes asked of the system at once.
const BUFFER: usize = 256 << 10;

/// How a file's bytes are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Plain,
    Gzip,
    Zstd,
}

/// An open file and what its first bytes say.
pub(super) struct Opened {
    /// The file, read past `head`.
    pub(super) file: File,
    head: Vec<u8>,
    pub(super) coding: Coding,
    pub(super) parquet: bool,
}

/// Opens a file and looks at its first bytes.
pub(super) fn open(path: &Path) -> Result<Opened, Error> {
    let place = || path.display().to_string();
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound || e.kind() == ErrorKind::NotADirectory => {
            return Err(Error::input(place(), suggest::missing_file(path)));
        }
        Err(e) => return Err(Error::io(path, e)),
    };
    if file.metadata().map_err(|e| Error::io(path, e))?.is_dir() {
        return Err(Error::input(place(), "this is a folder; expected a file"));
    }
    let mut head = Vec::new();
    (&mut file).take(8).read_to_end(&mut head).map_err(|e| Error::io(path, e))?;
    if head.is_empty() {
        return Err(Error::input(place(), "the file is empty"));
    }
    if let Some(archive) = archive(&head) {
        return Err(Error::input(
            place(),
            format!("this is a {archive}; unpack it first (gzip and zstd are read)"),
        ));
    }
    let coding = match head.as_slice() {
        [0x1f, 0x8b, ..] => Coding::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Coding::Zstd,
        _ => Coding::Plain,
    };
    let parquet = head.starts_with(b"PAR1");
    Ok(Opened { file, head, coding, parquet })
}

fn archive(head: &[u8]) -> Option<&'static str> {
    let known: [(&[u8], &str); 4] = [
        (b"PK\x03\x04", "zip archive"),
        (b"BZh", "bzip2 file"),
        (b"\xfd7zXZ", "xz file"),
        (b"7z\xbc\xaf", "7-Zip archive"),
    ];
    known.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, name)| *name)
}

impl Opened {
    /// The file's bytes, unpacked.
    pub(super) fn stream(self, path: &Path) -> Result<Box<dyn Read + Send>, Error> {
        let raw = BufReader::with_capacity(BUFFER, Cursor::new(self.head).chain(self.file));
        Ok(match self.coding {
            Coding::Plain => Box::new(raw),
            Coding::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(raw)),
            Coding::Zstd => Box::new(zstd::Decoder::with_buffer(raw).map_err(|e| Error::io(path, e))?),
        })
    }
}

impl Coding {
    /// What a failed read means: damaged packing, or a failing disk.
    pub(super) fn fault(self, path: &Path, error: std::io::Error) -> Error {
        let name = match self {
            Self::Plain => return Error::io(path, error),
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        };
        match error.kind() {
            _ if error.raw_os_error().is_some() => Error::io(path, error),
            ErrorKind::UnexpectedEof => {
                Error::corrupt(path, format!("the {name} data ends early; the file is truncated"))
            }
            _ => Error::corrupt(path, format!("the {name} data is damaged ({error})")),
        }
    }
}
