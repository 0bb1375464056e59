//! The block file: examples in blocks of some thousand candidates, each with its own checksum.
//!
//! Layout, little-endian: magic (8), version (4), zero (4); then per block its `layout` bytes;
//! then the index, 40 bytes per block (offset, length, xxh3, requests, candidates); then the number of
//! blocks, the index's xxh3 and the end magic (8 each). A reader needs the index and one block at a time
//! in memory.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use millstream_schema::Examples;
use xxhash_rust::xxh3::xxh3_64;

use crate::Error;
use crate::layout::{Reader, Writer};
use crate::sealed::{self, Seal, check_magic, corrupt, io, u64_at};

const SEAL: Seal = Seal { magic: *b"MSblocks", version: 1 };
const END: [u8; 8] = *b"MSbl-end";
const HEAD: u64 = 16;
const ENTRY: usize = 40;
const FOOT: usize = 24;

/// Candidates per block, about: large enough for cheap reading, small enough for a pool of several.
pub const BLOCK_CANDIDATES: usize = 4096;

/// A block that is encoded but not yet in a file.
#[derive(Debug, Clone)]
pub struct EncodedBlock {
    bytes: Vec<u8>,
    sum: u64,
    requests: u64,
    candidates: u64,
}

impl EncodedBlock {
    /// Encodes examples.
    pub fn new(examples: &Examples) -> Self {
        let mut writer = Writer::default();
        writer.examples(examples);
        Self {
            sum: xxh3_64(&writer.bytes),
            bytes: writer.bytes,
            requests: examples.requests() as u64,
            candidates: examples.candidates() as u64,
        }
    }
}

/// Where a block lies and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockEntry {
    offset: u64,
    length: u64,
    sum: u64,
    /// Its requests.
    pub requests: u64,
    /// Its candidates.
    pub candidates: u64,
}

/// Writes a block file; nothing is at its path until [`BlockWriter::finish`].
#[derive(Debug)]
pub struct BlockWriter {
    path: PathBuf,
    file: Option<BufWriter<File>>,
    at: u64,
    entries: Vec<BlockEntry>,
}

impl BlockWriter {
    /// Starts a file that will be at `path`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(path: &Path) -> Result<Self, Error> {
        let file = File::create(sealed::draft_of(path)).map_err(io(path))?;
        let mut file = BufWriter::with_capacity(1 << 20, file);
        file.write_all(&SEAL.magic)
            .and_then(|()| file.write_all(&SEAL.version.to_le_bytes()))
            .and_then(|()| file.write_all(&[0; 4]))
            .map_err(io(path))?;
        Ok(Self { path: path.to_owned(), file: Some(file), at: HEAD, entries: Vec::new() })
    }

    /// Adds a block; an empty one is left out.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn push(&mut self, block: &EncodedBlock) -> Result<(), Error> {
        let Some(file) = self.file.as_mut().filter(|_| block.requests > 0) else { return Ok(()) };
        file.write_all(&block.bytes).map_err(io(&self.path))?;
        self.entries.push(BlockEntry {
            offset: self.at,
            length: block.bytes.len() as u64,
            sum: block.sum,
            requests: block.requests,
            candidates: block.candidates,
        });
        self.at += block.bytes.len() as u64;
        Ok(())
    }

    /// Candidates so far.
    pub fn candidates(&self) -> u64 {
        self.entries.iter().map(|e| e.candidates).sum()
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.entries.iter().map(|e| e.requests).sum()
    }

    /// Writes the index, syncs and puts the file in its place; gives the file's bytes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(mut self) -> Result<u64, Error> {
        let mut index = Vec::with_capacity(self.entries.len() * ENTRY + FOOT);
        for e in &self.entries {
            for x in [e.offset, e.length, e.sum, e.requests, e.candidates] {
                index.extend_from_slice(&x.to_le_bytes());
            }
        }
        let sum = xxh3_64(&index);
        index.extend_from_slice(&(self.entries.len() as u64).to_le_bytes());
        index.extend_from_slice(&sum.to_le_bytes());
        index.extend_from_slice(&END);
        if let Some(mut file) = self.file.take() {
            file.write_all(&index).map_err(io(&self.path))?;
            let file = file.into_inner().map_err(|e| io(&self.path)(e.into_error()))?;
            file.sync_all().map_err(io(&self.path))?;
            fs::rename(sealed::draft_of(&self.path), &self.path).map_err(io(&self.path))?;
            sealed::sync_folder(self.path.parent().unwrap_or(Path::new(".")))?;
        }
        Ok(self.at + index.len() as u64)
    }
}

impl Drop for BlockWriter {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // Not finished: the draft is of no use to anyone.
            let _ = fs::remove_file(sealed::draft_of(&self.path));
        }
    }
}

/// Reads a block file in any order.
#[derive(Debug)]
pub struct BlockReader {
    path: PathBuf,
    file: File,
    entries: Vec<BlockEntry>,
    bytes: Vec<u8>,
}

impl BlockReader {
    /// Opens a file and checks its ends and its index.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Corrupt`] naming the file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut file = File::open(path).map_err(io(path))?;
        let size = file.metadata().map_err(io(path))?.len();
        let short = || corrupt(path, "it is cut off: its end is missing");
        let mut head = [0; HEAD as usize];
        if size < HEAD + FOOT as u64 {
            return Err(short());
        }
        file.read_exact(&mut head).map_err(io(path))?;
        check_magic(path, SEAL, &head)?;
        let mut foot = [0; FOOT];
        file.seek(SeekFrom::End(-(FOOT as i64))).map_err(io(path))?;
        file.read_exact(&mut foot).map_err(io(path))?;
        if foot[16..] != END {
            return Err(short());
        }
        let room = size - HEAD - FOOT as u64;
        let length = u64_at(&foot, 0).checked_mul(ENTRY as u64).filter(|&l| l <= room).ok_or_else(short)?;
        let mut index = vec![0; length as usize];
        file.seek(SeekFrom::End(-(FOOT as i64) - length as i64)).map_err(io(path))?;
        file.read_exact(&mut index).map_err(io(path))?;
        if xxh3_64(&index) != u64_at(&foot, 8) {
            return Err(corrupt(path, "the checksum of its index does not match"));
        }
        let entries: Vec<BlockEntry> = index.chunks_exact(ENTRY).map(entry).collect();
        let end = entries
            .iter()
            .try_fold(HEAD, |at, e| (e.offset == at).then(|| at.checked_add(e.length)).flatten());
        if end != Some(HEAD + room - length) {
            return Err(corrupt(path, "its index does not fit its size"));
        }
        Ok(Self { path: path.to_owned(), file, entries, bytes: Vec::new() })
    }

    /// What each block holds.
    pub fn entries(&self) -> &[BlockEntry] {
        &self.entries
    }

    /// Reads one block.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Corrupt`] naming file and block.
    pub fn read(&mut self, block: usize) -> Result<Examples, Error> {
        let damaged = |reason: &str| corrupt(&self.path, format!("block {block}: {reason}"));
        let e = *self.entries.get(block).ok_or_else(|| damaged("there is no such block"))?;
        self.bytes.resize(e.length as usize, 0);
        self.file.seek(SeekFrom::Start(e.offset)).map_err(io(&self.path))?;
        self.file.read_exact(&mut self.bytes).map_err(io(&self.path))?;
        if xxh3_64(&self.bytes) != e.sum {
            return Err(damaged("its checksum does not match"));
        }
        let mut reader = Reader::new(&self.bytes);
        let x = reader.examples().and_then(|x| reader.end().map(|()| x)).map_err(damaged)?;
        if (x.requests() as u64, x.candidates() as u64) != (e.requests, e.candidates) {
            return Err(damaged("it does not hold what the index says"));
        }
        Ok(x)
    }
}

fn entry(bytes: &[u8]) -> BlockEntry {
    BlockEntry {
        offset: u64_at(bytes, 0),
        length: u64_at(bytes, 8),
        sum: u64_at(bytes, 16),
        requests: u64_at(bytes, 24),
        candidates: u64_at(bytes, 32),
    }
}

/// Gathers examples until a block is full.
#[derive(Debug, Default)]
pub struct Gatherer {
    pending: Examples,
}

impl Gatherer {
    /// Adds examples; gives a block when enough are held.
    ///
    /// # Errors
    /// The examples have other fields than those before.
    pub fn push(&mut self, examples: &Examples) -> Result<Option<EncodedBlock>, Error> {
        self.pending.append(examples)?;
        Ok((self.pending.candidates() >= BLOCK_CANDIDATES).then(|| self.rest()))
    }

    /// What is left, as a block that may be empty.
    pub fn rest(&mut self) -> EncodedBlock {
        EncodedBlock::new(&std::mem::take(&mut self.pending))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(from: u32, requests: u32) -> Examples {
        let users: Vec<u32> = (from..from + requests).collect();
        let n = requests as usize;
        let mut x = Examples {
            request_time_ms: users.iter().map(|&u| i64::from(u) * 1000).collect(),
            candidate_request: (0..requests).collect(),
            candidate_item: users.iter().map(|u| u * 7).collect(),
            labels: users.iter().map(|u| (u % 2) as f32).collect(),
            tasks: 1,
            request_user: users,
            ..Examples::default()
        };
        x.history.offsets = vec![0; n + 1];
        x
    }

    fn file(dir: &Path) -> PathBuf {
        let path = dir.join("x.blocks");
        let mut writer = BlockWriter::create(&path).unwrap();
        for i in 0..5 {
            writer.push(&EncodedBlock::new(&examples(i * 100, 10 + i))).unwrap();
        }
        writer.push(&EncodedBlock::new(&Examples::default())).unwrap();
        assert!(!path.exists());
        writer.finish().unwrap();
        path
    }

    #[test]
    fn blocks_read_back_in_any_order() {
        let dir = tempfile::tempdir().unwrap();
        let mut reader = BlockReader::open(&file(dir.path())).unwrap();
        assert_eq!(reader.entries().len(), 5);
        for i in [4, 0, 2, 2, 3, 1] {
            assert_eq!(reader.read(i as usize).unwrap(), examples(i * 100, 10 + i));
        }
        assert!(reader.read(5).is_err());
    }

    #[test]
    fn a_file_cut_anywhere_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path());
        let whole = fs::read(&path).unwrap();
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            let message = BlockReader::open(&path).unwrap_err().to_string();
            assert!(message.contains("x.blocks"), "{message}");
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path());
        let whole = fs::read(&path).unwrap();
        // The four bytes after the version are spare.
        for at in (0..12).chain(16..whole.len()) {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            fs::write(&path, &bytes).unwrap();
            let found =
                BlockReader::open(&path).and_then(|mut r| (0..5).try_for_each(|i| r.read(i).map(drop)));
            assert!(found.unwrap_err().to_string().contains("x.blocks"), "byte {at}");
        }
    }

    #[test]
    fn an_unfinished_file_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("y.blocks");
        let mut writer = BlockWriter::create(&path).unwrap();
        writer.push(&EncodedBlock::new(&examples(0, 3))).unwrap();
        drop(writer);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
