//! A folder of complete snapshots: several files that belong together appear all at once, or not at all.
//!
//! ```text
//! FOLDER/snapshot-0000000007/        the files
//! FOLDER/snapshot-0000000007.mill    manifest: names, lengths and checksums of the files, the caller's metadata
//! ```
//! A snapshot counts once its manifest is there, and that appears by renaming, after all files are on disk. What a
//! crash leaves behind before that is never looked at, and goes with the next snapshot.

use crate::error::{Error, Result};
use crate::file::{self, Payload, Writer, sync_folder};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

const MAGIC: [u8; 8] = *b"MILLSNAP";
const VERSION: u32 = 1;

/// Complete snapshots kept: the newest, and one to fall back on.
const KEPT: usize = 2;

const PREFIX: &str = "snapshot-";

/// A folder of snapshots, written by one process at a time.
#[derive(Debug, Clone)]
pub struct Snapshots {
    folder: PathBuf,
}

/// A snapshot that was opened.
#[derive(Debug)]
pub struct Opened<T> {
    /// What was made of its files.
    pub value: T,
    /// Its number; later ones are higher.
    pub number: u64,
    /// What was given when it was published.
    pub metadata: Vec<u8>,
    /// Newer ones that could not be used, and why.
    pub skipped: Vec<(u64, Error)>,
}

/// A file of a snapshot.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    len: u64,
    sum: u64,
}

impl Snapshots {
    /// The snapshots in a folder, which is made if it is not there.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be made.
    pub fn new(folder: impl Into<PathBuf>) -> Result<Self> {
        let folder = folder.into();
        fs::create_dir_all(&folder).map_err(|e| Error::io(&folder, "make", e))?;
        Ok(Self { folder })
    }

    /// Publishes a snapshot: `write` puts files into the empty folder it is given (any way it likes; no folders
    /// inside), `metadata` goes into the manifest. The answer is its number. Older ones but the last are deleted.
    ///
    /// # Errors
    /// What `write` returns, [`Error::Io`] when the disk refuses; the snapshots are as before then.
    pub fn publish(&self, metadata: &[u8], write: impl FnOnce(&Path) -> Result<()>) -> Result<u64> {
        let complete = self.complete()?;
        let number = complete.first().map_or(1, |number| number + 1);
        let files = self.files(number);
        if files.exists() {
            fs::remove_dir_all(&files).map_err(|e| Error::io(&files, "delete", e))?;
        }
        fs::create_dir(&files).map_err(|e| Error::io(&files, "make", e))?;
        write(&files)?;
        let entries = list(&files).map_err(|e| Error::io(&files, "read", e))?;
        sync(&files, &entries).map_err(|e| Error::io(&files, "sync", e))?;
        manifest(&entries, metadata).save(&self.manifest(number), MAGIC, VERSION)?;
        // From here on it counts; what is left of others is only a matter of room.
        let kept: Vec<u64> = [number].into_iter().chain(complete).take(KEPT).collect();
        let _ = self.clean(&kept);
        Ok(number)
    }

    /// Opens the newest complete snapshot that `open`, given the folder of its files, can use. One whose files are
    /// missing, of another length or damaged is passed over for the one before.
    ///
    /// # Errors
    /// [`Error::Io`] when the folder cannot be read; [`Error::Corrupt`] when there are snapshots and none can be
    /// used. `Ok(None)` when there is none.
    pub fn open<T>(&self, open: impl Fn(&Path) -> Result<T>) -> Result<Option<Opened<T>>> {
        let mut skipped = Vec::new();
        for number in self.complete()? {
            let files = self.files(number);
            let read = self.read(number).and_then(|metadata| Ok((metadata, open(&files)?)));
            match read {
                Ok((metadata, value)) => return Ok(Some(Opened { value, number, metadata, skipped })),
                Err(e) => skipped.push((number, e)),
            }
        }
        match skipped.into_iter().next() {
            Some((_, newest)) => {
                Err(Error::corrupt(&self.folder, format!("no snapshot opens; the newest: {newest}")))
            }
            None => Ok(None),
        }
    }

    /// Numbers of the snapshots that have a manifest, the newest first.
    fn complete(&self) -> Result<Vec<u64>> {
        let names = names(&self.folder).map_err(|e| Error::io(&self.folder, "read", e))?;
        let number = |name: &String| name.strip_prefix(PREFIX)?.strip_suffix(".mill")?.parse().ok();
        let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        Ok(numbers)
    }

    fn files(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{PREFIX}{number:010}"))
    }

    fn manifest(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{PREFIX}{number:010}.mill"))
    }

    /// Compares a snapshot's files with its manifest; gives the metadata.
    fn read(&self, number: u64) -> Result<Vec<u8>> {
        let path = self.manifest(number);
        let bytes = file::read(&path, MAGIC, VERSION)?;
        let mut from = Payload { bytes: &bytes, path: &path };
        let metadata = from.bytes()?.to_vec();
        for _ in 0..from.u32()? {
            let name = String::from_utf8_lossy(from.bytes()?).into_owned();
            let (len, sum) = (from.u64()?, from.u64()?);
            let file = self.files(number).join(&name);
            let found = entry(&file, name).map_err(|e| Error::io(&file, "open", e))?;
            if (found.len, found.sum) != (len, sum) {
                return Err(Error::corrupt(&file, "it is not what its snapshot was made of"));
            }
        }
        from.end()?;
        Ok(metadata)
    }

    /// Deletes all but these snapshots, and what was never finished. A manifest goes before its files.
    fn clean(&self, kept: &[u64]) -> io::Result<()> {
        let stays = |name: &str| {
            let number = name.strip_suffix(".mill").unwrap_or(name).parse();
            number.is_ok_and(|number: u64| kept.contains(&number))
        };
        let mut names = names(&self.folder)?;
        names.retain(|name| {
            name.trim_start_matches('.').strip_prefix(PREFIX).is_some_and(|name| !stays(name))
        });
        names.sort_by_key(|name| !name.ends_with(".mill"));
        for name in names {
            let path = self.folder.join(name);
            if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
        Ok(())
    }
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

fn list(files: &Path) -> io::Result<Vec<Entry>> {
    let mut names = names(files)?;
    names.sort_unstable();
    names.into_iter().map(|name| entry(&files.join(&name), name)).collect()
}

fn entry(path: &Path, name: String) -> io::Result<Entry> {
    let mut file = File::open(path)?;
    let (mut sum, mut len, mut buffer) = (Xxh3::new(), 0, vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(Entry { name, len, sum: sum.digest() });
        }
        sum.update(&buffer[..read]);
        len += read as u64;
    }
}

/// Puts files, their folder, and the folder that it is in, on disk.
fn sync(files: &Path, entries: &[Entry]) -> io::Result<()> {
    for entry in entries {
        let path = files.join(&entry.name);
        File::open(&path)?.sync_all()?;
        sync_folder(&path)?;
    }
    sync_folder(files)
}

fn manifest(entries: &[Entry], metadata: &[u8]) -> Writer {
    let mut out = Writer::default();
    out.bytes(metadata);
    out.u32(entries.len() as u32);
    for entry in entries {
        out.bytes(entry.name.as_bytes());
        out.u64(entry.len);
        out.u64(entry.sum);
    }
    out
}
