//! How far the ledger was acknowledged, kept beside it.
//!
//! The storage engine takes unreadable bytes in its journal for an unfinished last write and drops
//! what follows. After a crash that is right; after damage it would lose events silently. The mark is
//! written after each durable append, without waiting for the disk: it can lag after a power cut, never
//! run ahead, so a ledger that ends before it has lost acknowledged events.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

const MAGIC: [u8; 8] = *b"MILLMRK\x01";

/// The open mark file.
pub(crate) struct Mark {
    file: File,
    path: PathBuf,
}

impl Mark {
    /// Opens or creates the mark and says what it holds; a mark that cannot be read holds nothing.
    pub(crate) fn open(path: PathBuf) -> std::io::Result<(Self, Option<u64>)> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        let mut bytes = Vec::new();
        Read::by_ref(&mut file).take(64).read_to_end(&mut bytes)?;
        Ok((Self { file, path }, parse(&bytes)))
    }

    /// Notes that everything before `end` is durable. A failure is logged only: the events are safe.
    pub(crate) fn set(&mut self, end: u64) {
        let written = self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.write_all(&bytes_of(end)));
        if let Err(error) = written {
            tracing::warn!(path = %self.path.display(), %error, "cannot note the end of the ledger");
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn bytes_of(end: u64) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..16].copy_from_slice(&end.to_le_bytes());
    let sum = xxh3_64(&bytes[..16]);
    bytes[16..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn parse(bytes: &[u8]) -> Option<u64> {
    let bytes: &[u8; 24] = bytes.try_into().ok()?;
    let end = u64::from_le_bytes(bytes[8..16].try_into().ok()?);
    (bytes_of(end) == *bytes).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_and_a_damaged_one_says_nothing() {
        let mut bytes = bytes_of(77);
        assert_eq!(parse(&bytes), Some(77));
        bytes[9] ^= 1;
        assert_eq!(parse(&bytes), None);
        assert_eq!(parse(&[]), None);
    }
}
