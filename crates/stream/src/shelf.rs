//! The directory that holds everything: its lock, its creation, its files.

use std::fs::{self, File, TryLockError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::mark::Mark;
use crate::{AheadLists, Error, Ledger, Records, Result};

const DATABASE: &str = "fjall";
const UNFINISHED: &str = "fjall.new";
/// Directories made before the last of them was known get it when they are opened.
const KEYSPACES: [&str; 5] = ["events", "users", "items", "forgotten", AheadLists::KEYSPACE];
const CACHE_BYTES: u64 = 64 << 20;

/// The open storage engine; dropped last, with the lock.
pub(crate) struct Shelf {
    db: Database,
    dir: PathBuf,
    /// What stopped writing, for all later callers.
    failure: OnceLock<String>,
    _lock: File,
}

/// The open stream: its ledger and its records.
#[derive(Clone)]
pub struct Stream {
    /// Events.
    pub ledger: Arc<Ledger>,
    /// Users and items.
    pub records: Arc<Records>,
    /// What was made for users ahead of time.
    pub ahead: Arc<AheadLists>,
}

impl Stream {
    /// Opens the directory, which is created when there is none. After a crash, at any instant,
    /// everything that was acknowledged is there.
    ///
    /// # Errors
    /// Another process has it open; its files are damaged; the disk is full or fails.
    pub fn open(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).map_err(|e| Error::io(dir, e))?;
        let lock = lock(dir)?;
        let inner = dir.join(DATABASE);
        if !inner.exists() {
            create(dir, &inner)?;
        }
        let db = guarded(dir, || open_database(&inner))?;
        let shelf = Arc::new(Shelf { db, dir: dir.to_owned(), failure: OnceLock::new(), _lock: lock });
        let (mark, marked) = Mark::open(dir.join("mark")).map_err(|e| Error::io(dir, e))?;
        let ledger = Arc::new(Ledger::open(shelf.clone(), mark, marked)?);
        let records = Arc::new(Records::open(shelf.clone())?);
        let ahead = Arc::new(AheadLists::open(shelf)?);
        Ok(Self { ledger, records, ahead })
    }
}

impl Shelf {
    pub(crate) fn db(&self) -> &Database {
        &self.db
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// One of [`KEYSPACES`].
    pub(crate) fn keyspace(&self, name: &str) -> Result<Keyspace> {
        guarded(&self.dir, || self.db.keyspace(name, KeyspaceCreateOptions::default))
    }

    /// Runs a write and remembers its failure, so that later callers hear of the cause.
    pub(crate) fn write(&self, write: impl FnOnce() -> fjall::Result<()>) -> Result<()> {
        guarded(&self.dir, write).map_err(|error| match error {
            Error::Stopped { dir, reason } => {
                Error::Stopped { dir, reason: self.failure.get().cloned().unwrap_or(reason) }
            }
            error => {
                tracing::error!(%error, "storing failed");
                let _ = self.failure.set(error.cause());
                error
            }
        })
    }

    /// Runs a read.
    pub(crate) fn read<T>(&self, read: impl FnOnce() -> fjall::Result<T>) -> Result<T> {
        guarded(&self.dir, read)
    }
}

/// The storage engine checks some of what it reads by asserting it; a damaged file must be an error.
fn guarded<T>(dir: &Path, call: impl FnOnce() -> fjall::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(done) => done.map_err(|e| Error::of(dir, &e)),
        Err(_) => Err(Error::corrupt(dir, "the storage engine cannot make sense of its files")),
    }
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|e| Error::io(&path, e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { dir: dir.display().to_string() }),
        Err(TryLockError::Error(e)) => Err(Error::io(&path, e)),
    }
}

fn open_database(path: &Path) -> fjall::Result<Database> {
    // One worker: with more, the first burns a core passing on the compactions that it may not do.
    Database::builder(path).worker_threads(1).cache_size(CACHE_BYTES).open()
}

/// Makes the database under another name first: a crash in the midst leaves nothing that would be opened.
fn create(dir: &Path, inner: &Path) -> Result<()> {
    let unfinished = dir.join(UNFINISHED);
    let io = |e| Error::io(dir, e);
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(io)?;
    }
    guarded(dir, || {
        let db = open_database(&unfinished)?;
        for name in KEYSPACES {
            db.keyspace(name, KeyspaceCreateOptions::default)?;
        }
        db.persist(PersistMode::SyncAll)
    })?;
    fs::rename(&unfinished, inner).map_err(io)?;
    File::open(dir).and_then(|d| d.sync_all()).map_err(io)
}

/// A directory as it was made before lists ahead of time were known.
#[cfg(test)]
pub(crate) fn create_of_before(dir: &Path) {
    let db = open_database(&dir.join(DATABASE)).unwrap();
    for name in KEYSPACES.into_iter().filter(|name| *name != AheadLists::KEYSPACE) {
        db.keyspace(name, KeyspaceCreateOptions::default).unwrap();
    }
    db.persist(PersistMode::SyncAll).unwrap();
}
