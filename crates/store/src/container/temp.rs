//! The hidden file that becomes the real one on commit.

use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// An open, locked, uniquely named file beside its final place; removed when dropped uncommitted.
#[derive(Debug)]
pub(super) struct TempFile {
    temp: PathBuf,
    path: PathBuf,
    committed: bool,
}

impl TempFile {
    pub(super) fn create(path: &Path) -> Result<(Self, File)> {
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| Error::Input(format!("`{}` does not name a file", path.display())))?;
        remove_stale(path, name);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let temp = path.with_file_name(format!(".{name}.{}-{serial}.tmp", std::process::id()));
        let file = File::create(&temp)
            .and_then(|file| file.lock().map(|()| file))
            .map_err(|e| Error::io(path, "create", e))?;
        Ok((Self { temp, path: path.to_owned(), committed: false }, file))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the file, whose bytes must already be synced, under its final name.
    pub(super) fn commit(mut self) -> Result<()> {
        fs::rename(&self.temp, &self.path).map_err(|e| Error::io(&self.path, "rename", e))?;
        self.committed = true;
        sync_dir(&self.path).map_err(|e| Error::io(&self.path, "sync the folder of", e))
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.committed {
            let _ = fs::remove_file(&self.temp);
        }
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

#[cfg(unix)]
fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

#[cfg(not(unix))]
fn sync_dir(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// Removes what killed writers of the same file left: temp files that nobody holds locked.
fn remove_stale(path: &Path, name: &str) {
    let Ok(entries) = fs::read_dir(folder(path)) else { return };
    let prefix = format!(".{name}.");
    for entry in entries.flatten() {
        let found = entry.file_name();
        let Some(middle) =
            found.to_str().and_then(|f| f.strip_prefix(&prefix)).and_then(|f| f.strip_suffix(".tmp"))
        else {
            continue;
        };
        let ours = middle.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        if ours && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
