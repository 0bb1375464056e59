use super::temp::TempFile;
use super::{END, Entry, HEADER_LEN, directory, header, seal};
use crate::error::{Error, Result};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use xxhash_rust::xxh3::Xxh3;

/// Writes a container section by section; nothing is visible under the final name before
/// [`commit`](Self::commit). Dropping it uncommitted removes what was written.
///
/// ```
/// use millstream_store::container::{Container, ContainerWriter};
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("notes.mill");
/// let mut out = ContainerWriter::create(&path, *b"NOTE", 1)?;
/// out.section("greeting", |w| w.write_all(b"hello"))?;
/// out.commit()?;
/// assert_eq!(Container::open(&path, *b"NOTE", 1)?.section("greeting")?, b"hello");
/// # Ok::<(), millstream_store::Error>(())
/// ```
#[derive(Debug)]
pub struct ContainerWriter {
    // Declared before `temp`: the handle closes before the temp file is removed.
    file: BufWriter<File>,
    temp: TempFile,
    header: [u8; HEADER_LEN],
    entries: Vec<Entry>,
    offset: u64,
    failed: bool,
}

impl ContainerWriter {
    /// Starts a file of `kind` and `version` that will replace whatever is at `path`.
    ///
    /// # Errors
    /// [`Error::Io`] when no file can be made in that folder.
    pub fn create(path: impl AsRef<Path>, kind: [u8; 4], version: u32) -> Result<Self> {
        let (temp, file) = TempFile::create(path.as_ref())?;
        let header = header(kind, version);
        let mut writer = Self {
            file: BufWriter::with_capacity(1 << 18, file),
            temp,
            header,
            entries: Vec::new(),
            offset: HEADER_LEN as u64,
            failed: false,
        };
        let written = writer.file.write_all(&header);
        writer.checked(written)?;
        Ok(writer)
    }

    /// Writes one section: all that `fill` writes, in one streaming pass.
    ///
    /// # Errors
    /// [`Error::Input`] for a repeated or overlong name, [`Error::Io`] when `fill` or the disk fails;
    /// after that the writer refuses to commit.
    pub fn section(&mut self, name: &str, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
        if name.len() > usize::from(u16::MAX) || self.entries.iter().any(|e| e.name == name) {
            return Err(Error::Input(format!("section name `{:.60}` is repeated or too long", name)));
        }
        let mut out = Hashing { inner: &mut self.file, hash: Xxh3::new(), len: 0 };
        let filled = fill(&mut out);
        let (len, checksum) = (out.len, out.hash.digest());
        self.checked(filled)?;
        self.entries.push(Entry { name: name.to_owned(), offset: self.offset, len, checksum });
        self.offset += len;
        Ok(())
    }

    /// Completes the file, forces it to disk and gives it its name.
    ///
    /// # Errors
    /// [`Error::Io`] when the disk refuses (full, for one); the old file, if any, is then untouched.
    pub fn commit(mut self) -> Result<()> {
        if self.failed {
            let path = self.temp.path().display();
            return Err(Error::Input(format!("{path} was not written: a section failed before")));
        }
        let written = self.finish();
        self.checked(written)?;
        let Self { file, temp, .. } = self;
        let file = file.into_inner().map_err(|e| Error::io(temp.path(), "write", e.into_error()))?;
        file.sync_all().map_err(|e| Error::io(temp.path(), "sync", e))?;
        temp.commit()
    }

    fn finish(&mut self) -> io::Result<()> {
        let directory = directory(&self.entries);
        let seal = seal(&self.header, &directory);
        self.file.write_all(&directory)?;
        for number in [self.offset, directory.len() as u64, seal] {
            self.file.write_all(&number.to_le_bytes())?;
        }
        self.file.write_all(&END)?;
        self.file.flush()
    }

    fn checked(&mut self, outcome: io::Result<()>) -> Result<()> {
        outcome.map_err(|e| {
            self.failed = true;
            Error::io(self.temp.path(), "write", e)
        })
    }
}

struct Hashing<'a> {
    inner: &'a mut BufWriter<File>,
    hash: Xxh3,
    len: u64,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
