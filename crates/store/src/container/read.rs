use super::{END, Entry, HEADER_LEN, LAYOUT, MAGIC, TRAILER_LEN, seal};
use crate::error::{Error, Result};
use millstream_schema::suggest;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

/// An opened container. [`open`](Self::open) has checked every section against its checksum.
#[derive(Debug)]
pub struct Container {
    file: File,
    path: PathBuf,
    version: u32,
    entries: Vec<Entry>,
}

/// Reads the bytes of one section.
pub type SectionReader<'a> = io::BufReader<io::Take<&'a mut File>>;

impl Container {
    /// Opens the file at `path`, which must be of `kind` and at most `max_version`, and reads it
    /// through once to compare all checksums.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::NotOurs`], [`Error::WrongKind`],
    /// [`Error::Newer`], and [`Error::Corrupt`] when it is cut short or bytes have changed.
    pub fn open(path: impl AsRef<Path>, kind: [u8; 4], max_version: u32) -> Result<Self> {
        let mut container = Self::peek(path.as_ref(), kind, max_version)?;
        container.verify()?;
        Ok(container)
    }

    /// As [`Container::open`], but reads and checks the header and the directory alone, not the sections.
    ///
    /// # Errors
    /// As [`Container::open`]; bytes that changed within a section go unnoticed.
    pub fn peek(path: impl AsRef<Path>, kind: [u8; 4], max_version: u32) -> Result<Self> {
        let path = path.as_ref();
        let mut file = File::open(path).map_err(|e| Error::io(path, "open", e))?;
        let meta = file.metadata().map_err(|e| Error::io(path, "open", e))?;
        if meta.is_dir() {
            return Err(Error::NotOurs { path: path.to_owned() });
        }
        let header = read_header(&mut file, path)?;
        let version = check_header(&header, path, kind, max_version)?;
        let entries = read_directory(&mut file, path, &header, meta.len())?;
        Ok(Self { file, path: path.to_owned(), version, entries })
    }

    /// The version that the writer gave to [`ContainerWriter::create`](super::ContainerWriter::create).
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The file this was opened from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the sections, in file order.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.entries.iter().map(|entry| entry.name.as_str())
    }

    /// Whether there is a section called `name`.
    pub fn has(&self, name: &str) -> bool {
        self.names().any(|found| found == name)
    }

    /// All bytes of a section.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when there is no such section, [`Error::Io`] when it cannot be read.
    pub fn section(&mut self, name: &str) -> Result<Vec<u8>> {
        let len = self.entry(name)?.len;
        // Trusted: the directory was sealed and the length compared with the file's.
        let mut bytes = Vec::with_capacity(len as usize);
        self.reader(name)?.read_to_end(&mut bytes).map_err(|e| Error::read(&self.path, e))?;
        Ok(bytes)
    }

    /// A buffered reader over the bytes of a section, for what should not lie in memory twice.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when there is no such section, [`Error::Io`] when it cannot be reached.
    pub fn reader(&mut self, name: &str) -> Result<SectionReader<'_>> {
        let Entry { offset, len, .. } = *self.entry(name)?;
        self.file.seek(SeekFrom::Start(offset)).map_err(|e| Error::read(&self.path, e))?;
        Ok(io::BufReader::with_capacity(1 << 18, (&mut self.file).take(len)))
    }

    /// Where a section lies: its first byte and its length.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when there is no such section.
    pub fn span(&self, name: &str) -> Result<(u64, u64)> {
        self.entry(name).map(|entry| (entry.offset, entry.len))
    }

    /// The file itself.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.entries
            .iter()
            .find(|entry| entry.name == name)
            .ok_or_else(|| Error::corrupt(&self.path, suggest::unknown("section", name, self.names())))
    }

    fn verify(&mut self) -> Result<()> {
        let mut buffer = vec![0; 1 << 20];
        for at in 0..self.entries.len() {
            let Entry { name, len, checksum, .. } = self.entries[at].clone();
            if hash_section(&mut self.file, len, &mut buffer).map_err(|e| Error::read(&self.path, e))?
                != checksum
            {
                let what = format!("the checksum of its section `{name}` does not match");
                return Err(Error::corrupt(&self.path, what));
            }
        }
        Ok(())
    }
}

/// Hashes the next `len` bytes; sections follow one another, so no seek is needed.
fn hash_section(file: &mut File, len: u64, buffer: &mut [u8]) -> io::Result<u64> {
    let mut hash = Xxh3::new();
    let mut left = len;
    while left > 0 {
        let part = &mut buffer[..left.min(1 << 20) as usize];
        file.read_exact(part)?;
        hash.update(part);
        left -= part.len() as u64;
    }
    Ok(hash.digest())
}

/// The header; of a file that is shorter, what there is tells whether it is ours.
fn read_header(file: &mut File, path: &Path) -> Result<[u8; HEADER_LEN]> {
    let mut start = Vec::with_capacity(HEADER_LEN);
    file.take(HEADER_LEN as u64).read_to_end(&mut start).map_err(|e| Error::read(path, e))?;
    let shown = start.len().min(MAGIC.len());
    if start[..shown] != MAGIC[..shown] {
        return Err(Error::NotOurs { path: path.to_owned() });
    }
    start.try_into().map_err(|_| Error::corrupt(path, "it is cut short"))
}

fn check_header(header: &[u8; HEADER_LEN], path: &Path, kind: [u8; 4], max_version: u32) -> Result<u32> {
    let layout = u32_at(header, 8);
    if layout > LAYOUT {
        return Err(Error::Newer { path: path.to_owned(), version: layout, newest: LAYOUT });
    }
    if header[12..16] != kind {
        let text = |kind: &[u8]| kind.escape_ascii().to_string();
        let (wanted, found) = (text(&kind), text(&header[12..16]));
        return Err(Error::WrongKind { path: path.to_owned(), wanted, found });
    }
    let version = u32_at(header, 16);
    if version > max_version {
        return Err(Error::Newer { path: path.to_owned(), version, newest: max_version });
    }
    Ok(version)
}

/// Reads and checks the directory; leaves the file at the first section.
fn read_directory(file: &mut File, path: &Path, header: &[u8], file_len: u64) -> Result<Vec<Entry>> {
    let cut = || Error::corrupt(path, "it is cut short");
    let trailer_at = file_len.checked_sub(TRAILER_LEN as u64).ok_or_else(cut)?;
    let mut trailer = [0; TRAILER_LEN];
    read_at(file, trailer_at, &mut trailer).map_err(|e| Error::read(path, e))?;
    if trailer[24..] != END {
        return Err(cut());
    }
    let (at, len) = (u64_at(&trailer, 0), u64_at(&trailer, 8));
    if at < HEADER_LEN as u64 || at.checked_add(len) != Some(trailer_at) {
        return Err(Error::corrupt(path, "its trailer points outside the file"));
    }
    let mut bytes = vec![0; len as usize];
    read_at(file, at, &mut bytes).map_err(|e| Error::read(path, e))?;
    if seal(header, &bytes) != u64_at(&trailer, 16) {
        return Err(Error::corrupt(path, "the checksum of its directory does not match"));
    }
    let entries =
        parse_directory(&bytes, at).ok_or_else(|| Error::corrupt(path, "its directory makes no sense"))?;
    file.seek(SeekFrom::Start(HEADER_LEN as u64)).map_err(|e| Error::read(path, e))?;
    Ok(entries)
}

/// The entries, which must fill the file from header to directory without gap or overlap.
fn parse_directory(mut bytes: &[u8], end: u64) -> Option<Vec<Entry>> {
    let count = u32::from_le_bytes(take(&mut bytes)?);
    let mut entries = Vec::new();
    let mut expected = HEADER_LEN as u64;
    for _ in 0..count {
        let name_len = usize::from(u16::from_le_bytes(take(&mut bytes)?));
        let (name, rest) = bytes.split_at_checked(name_len)?;
        bytes = rest;
        let name = std::str::from_utf8(name).ok()?.to_owned();
        let [offset, len, checksum] =
            [take(&mut bytes)?, take(&mut bytes)?, take(&mut bytes)?].map(u64::from_le_bytes);
        if offset != expected {
            return None;
        }
        expected = offset.checked_add(len)?;
        entries.push(Entry { name, offset, len, checksum });
    }
    (bytes.is_empty() && expected == end).then_some(entries)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

fn read_at(file: &mut File, offset: u64, out: &mut [u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(out)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}
