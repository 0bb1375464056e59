//! Small whole files: magic, version, length and checksum, then the contents.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use crate::Error;

/// Which kind of file, and which version of it this program writes and reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seal {
    pub(crate) magic: [u8; 8],
    pub(crate) version: u32,
}

const HEADER: usize = 8 + 4 + 8 + 8;

pub(crate) fn io(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    move |source| Error::Io { path: path.into(), source }
}

pub(crate) fn corrupt(path: &Path, reason: impl Into<String>) -> Error {
    Error::Corrupt { path: path.into(), reason: reason.into() }
}

/// Writes to a draft beside `path`, syncs it, renames it and syncs the folder.
pub(crate) fn write_whole(
    path: &Path,
    fill: impl FnOnce(&mut File) -> std::io::Result<()>,
) -> Result<(), Error> {
    let draft = draft_of(path);
    let written = File::create(&draft).and_then(|mut file| {
        fill(&mut file)?;
        file.sync_all()
    });
    if let Err(e) = written.and_then(|()| fs::rename(&draft, path)) {
        // What matters is the first error; a draft that stays behind is never read.
        let _ = fs::remove_file(&draft);
        return Err(io(path)(e));
    }
    sync_folder(path.parent().unwrap_or(Path::new(".")))
}

/// Writes a text file: whole and on the disk under its name, or not at all.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub fn write_text(path: &Path, text: &str) -> Result<(), Error> {
    write_whole(path, |file| file.write_all(text.as_bytes()))
}

/// `name.tmp` beside `path`.
pub(crate) fn draft_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

/// Makes renames inside a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), Error> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder).and_then(|d| d.sync_all()).map_err(io(folder))
}

/// Writes `contents` under `seal`.
pub(crate) fn write(path: &Path, seal: Seal, contents: &[u8]) -> Result<(), Error> {
    write_whole(path, |file| {
        file.write_all(&seal.magic)?;
        file.write_all(&seal.version.to_le_bytes())?;
        file.write_all(&(contents.len() as u64).to_le_bytes())?;
        file.write_all(&xxh3_64(contents).to_le_bytes())?;
        file.write_all(contents)
    })
}

/// The contents of a file written by [`write`].
///
/// # Errors
/// The file cannot be read, is of another kind or version, or is damaged.
pub(crate) fn read(path: &Path, seal: Seal) -> Result<Vec<u8>, Error> {
    let mut bytes = fs::read(path).map_err(io(path))?;
    let head: [u8; HEADER] =
        *bytes.first_chunk().ok_or_else(|| corrupt(path, "it is too short to be a prepared file"))?;
    check_magic(path, seal, &head)?;
    let length = u64_at(&head, 12);
    let sum = u64_at(&head, 20);
    bytes.drain(..HEADER);
    if bytes.len() as u64 != length {
        return Err(corrupt(path, format!("it holds {} bytes where {length} were written", bytes.len())));
    }
    if xxh3_64(&bytes) != sum {
        return Err(corrupt(path, "its checksum does not match its contents"));
    }
    Ok(bytes)
}

/// Checks magic and version, the first 12 bytes of `head`.
pub(crate) fn check_magic(path: &Path, seal: Seal, head: &[u8]) -> Result<(), Error> {
    if head.get(..8) != Some(&seal.magic[..]) {
        return Err(corrupt(path, "it does not begin like a prepared file of this kind"));
    }
    let version = head.get(8..12).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b));
    if version != seal.version {
        let reason =
            format!("format version {version} where {} is read; prepare the data again", seal.version);
        return Err(corrupt(path, reason));
    }
    Ok(())
}

/// Little-endian u64 at `at`; 0 beyond the end.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEAL: Seal = Seal { magic: *b"MStest\0\0", version: 3 };

    #[test]
    fn contents_read_back_and_every_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        write(&path, SEAL, b"hello").unwrap();
        assert_eq!(read(&path, SEAL).unwrap(), b"hello");
        let whole = fs::read(&path).unwrap();
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            let message = read(&path, SEAL).unwrap_err().to_string();
            assert!(message.contains("a.bin"), "{message}");
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert!(read(&path, SEAL).is_err());
        }
    }

    #[test]
    fn another_version_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        write(&path, SEAL, b"hello").unwrap();
        let message = read(&path, Seal { version: 4, ..SEAL }).unwrap_err().to_string();
        assert!(message.contains("prepare the data again"), "{message}");
    }
}
