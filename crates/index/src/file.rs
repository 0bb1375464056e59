//! The bytes of an index on disk.
//!
//! ```text
//! magic [u8; 8], version u32, payload length u64, xxh3 of the payload u64, payload
//! ```
//! All numbers are little-endian; a list is its length as u64 and its elements.
#![allow(unsafe_code)]

use crate::error::{Error, Result};
use memmap2::{MmapMut, MmapOptions};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

pub(crate) const HEADER_LEN: usize = 28;

/// Sections of a file that may be mapped begin at multiples of this.
pub(crate) const SECTION_ALIGN: usize = 64;

/// Collects a payload.
#[derive(Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn u32(&mut self, number: u32) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, number: u64) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    pub(crate) fn u32s(&mut self, numbers: &[u32]) {
        self.u64(numbers.len() as u64);
        self.bytes.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.u64(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn f32s(&mut self, numbers: &[f32]) {
        self.u64(numbers.len() as u64);
        self.bytes.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
    }

    /// Puts the payload into a file that appears at `path` only when it is complete and on disk.
    pub(crate) fn save(self, path: &Path, magic: [u8; 8], version: u32) -> Result<()> {
        save(path, magic, version, &[&self.bytes])
    }

    /// The payload so far, filled up with zeros to where a section of the file begins.
    pub(crate) fn aligned(mut self) -> Vec<u8> {
        self.bytes.resize((HEADER_LEN + self.bytes.len()).next_multiple_of(SECTION_ALIGN) - HEADER_LEN, 0);
        self.bytes
    }
}

/// Puts a payload, in pieces, into a file that appears at `path` only when it is complete and on disk.
pub(crate) fn save(path: &Path, magic: [u8; 8], version: u32, payload: &[&[u8]]) -> Result<()> {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| Error::Input(format!("`{}` does not name a file", path.display())))?;
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let temp = path.with_file_name(format!(".{name}.{}-{serial}.tmp", std::process::id()));
    let outcome = write(&temp, magic, version, payload)
        .and_then(|()| fs::rename(&temp, path))
        .and_then(|()| sync_folder(path));
    if outcome.is_err() {
        let _ = fs::remove_file(&temp);
    }
    outcome.map_err(|e| Error::io(path, "write", e))
}

fn write(temp: &Path, magic: [u8; 8], version: u32, payload: &[&[u8]]) -> io::Result<()> {
    let mut sum = Xxh3::new();
    payload.iter().for_each(|piece| sum.update(piece));
    let len: usize = payload.iter().map(|piece| piece.len()).sum();
    let mut file = File::create(temp)?;
    file.write_all(&magic)?;
    file.write_all(&version.to_le_bytes())?;
    file.write_all(&(len as u64).to_le_bytes())?;
    file.write_all(&sum.digest().to_le_bytes())?;
    payload.iter().try_for_each(|piece| file.write_all(piece))?;
    file.sync_all()
}

pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Reads a file whole and gives its payload; the size in its header is only compared, never reserved.
pub(crate) fn read(path: &Path, magic: [u8; 8], newest: u32) -> Result<Vec<u8>> {
    let mut bytes = fs::read(path).map_err(|e| Error::io(path, "open", e))?;
    check(path, &bytes, magic, newest)?;
    bytes.drain(..HEADER_LEN);
    Ok(bytes)
}

/// A private view of a file, whose pages are copied when they are written to, and its format version.
pub(crate) fn map(path: &Path, magic: [u8; 8], newest: u32) -> Result<(Arc<MmapMut>, u32)> {
    let file = File::open(path).map_err(|e| Error::io(path, "open", e))?;
    if file.metadata().is_ok_and(|found| found.len() == 0) {
        return Err(Error::corrupt(path, "it is empty"));
    }
    // SAFETY: files of this crate are replaced by renaming, never written to in place.
    let map = unsafe { MmapOptions::new().map_copy(&file) }.map_err(|e| Error::io(path, "map", e))?;
    let version = check(path, &map, magic, newest)?;
    Ok((Arc::new(map), version))
}

/// Compares a file's header with its payload; gives its version.
fn check(path: &Path, bytes: &[u8], magic: [u8; 8], newest: u32) -> Result<u32> {
    let shown = bytes.len().min(magic.len());
    if bytes[..shown] != magic[..shown] {
        let (wanted, found) = (magic.escape_ascii(), bytes[..shown].escape_ascii());
        return Err(Error::corrupt(path, format!("it starts with `{found}`, not `{wanted}`")));
    }
    let Some((header, payload)) = bytes.split_first_chunk::<HEADER_LEN>() else {
        return Err(Error::corrupt(path, "it is cut short"));
    };
    let mut header = Payload { bytes: &header[8..], path };
    let (version, len, checksum) = (header.u32()?, header.u64()?, header.u64()?);
    if version == 0 || version > newest {
        let what = format!("it has format version {version}, this program reads up to {newest}");
        return Err(Error::corrupt(path, what));
    }
    if len != payload.len() as u64 {
        let what = format!("it is cut short or overlong: {} bytes, expected {len}", payload.len());
        return Err(Error::corrupt(path, what));
    }
    if xxh3_64(payload) != checksum {
        return Err(Error::corrupt(path, "its checksum does not match"));
    }
    Ok(version)
}

/// Takes a payload apart; no number in it is believed beyond the bytes that are there.
pub(crate) struct Payload<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) path: &'a Path,
}

impl<'a> Payload<'a> {
    pub(crate) fn flaw(&self, what: &str) -> Error {
        Error::corrupt(self.path, what)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let bytes = self.bytes;
        let (head, rest) = bytes.split_at_checked(len).ok_or_else(|| self.flaw("a list is cut short"))?;
        self.bytes = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8]> {
        let len = usize::try_from(self.u64()?).map_err(|_| self.flaw("a list is cut short"))?;
        self.take(len)
    }

    fn words(&mut self) -> Result<&'a [[u8; 4]]> {
        let len = usize::try_from(self.u64()?).ok().and_then(|len| len.checked_mul(4));
        let len = len.ok_or_else(|| self.flaw("a list is cut short"))?;
        Ok(self.take(len)?.as_chunks().0)
    }

    pub(crate) fn u32s(&mut self) -> Result<Vec<u32>> {
        Ok(self.words()?.iter().map(|&x| u32::from_le_bytes(x)).collect())
    }

    pub(crate) fn f32s(&mut self) -> Result<Vec<f32>> {
        Ok(self.words()?.iter().map(|&x| f32::from_le_bytes(x)).collect())
    }

    /// Checks that nothing is left.
    pub(crate) fn end(&self) -> Result<()> {
        if self.bytes.is_empty() { Ok(()) } else { Err(self.flaw("bytes are left over")) }
    }
}
