//! The log of what was ranked and not shown: lines for [`PassedOverLog`](millstream_data::PassedOverLog).

use millstream_data::PassedOver;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Bytes at the end of the file in which the last line begins.
const LONGEST: u64 = 1 << 22;

/// A file that grows up to a size and is then set aside. Lines are written whole, one write each: what a killed process had written
/// is there, though not synced, since a hard negative lost is no loss.
pub struct PassedLog {
    path: PathBuf,
    most: u64,
    open: Mutex<Option<(File, u64)>>,
}

impl PassedLog {
    /// Will append to `path`, which is made with the first line.
    pub fn new(path: PathBuf, max_mb: u64) -> Self {
        Self { path, most: max_mb.saturating_mul(1 << 20), open: Mutex::new(None) }
    }

    /// Appends one request.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, request: &PassedOver) -> io::Result<()> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.as_ref().is_some_and(|(_, size)| size + line.len() as u64 > self.most) {
            *open = None;
            std::fs::rename(&self.path, aside(&self.path))?;
        }
        let (file, size) = match &mut *open {
            Some(open) => open,
            none => none.insert(append_to(&self.path)?),
        };
        file.write_all(&line)?;
        *size += line.len() as u64;
        Ok(())
    }
}

/// The file, and its size; half a line that a killed process left is cut off.
fn append_to(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
    let size = file.metadata()?.len();
    let mut end = Vec::new();
    let from = size.saturating_sub(LONGEST);
    file.seek(SeekFrom::Start(from))?;
    file.read_to_end(&mut end)?;
    let whole = end.iter().rposition(|b| *b == b'\n').map_or(from, |at| from + at as u64 + 1);
    file.set_len(whole)?;
    Ok((file, whole))
}

/// `passed_over.jsonl` becomes `passed_over.old.jsonl`.
fn aside(path: &Path) -> PathBuf {
    path.with_extension("old.jsonl")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(time_ms: i64) -> PassedOver {
        PassedOver { time_ms, user: "u".into(), items: vec!["i".repeat(600_000)] }
    }

    #[test]
    fn lines_are_appended_whole_and_a_full_file_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passed_over.jsonl");
        let old = dir.path().join("passed_over.old.jsonl");
        std::fs::write(&path, "{\"time_ms\":1,\"user\":\"u\",\"items\":[]}\n{\"time_m").unwrap();
        let log = PassedLog::new(path.clone(), 1);
        log.write(&request(2)).unwrap();
        let lines = |path: &Path| {
            std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let times = |path: &Path| -> Vec<i64> {
            lines(path).iter().map(|line| serde_json::from_str::<PassedOver>(line).unwrap().time_ms).collect()
        };
        assert_eq!(times(&path), [1, 2], "the half line is gone");
        log.write(&request(3)).unwrap();
        assert_eq!((times(&old), times(&path)), (vec![1, 2], vec![3]));
        log.write(&request(4)).unwrap();
        assert_eq!((times(&old), times(&path)), (vec![3], vec![4]));
        drop(log);
        PassedLog::new(path.clone(), 9).write(&request(5)).unwrap();
        assert_eq!(times(&path), [4, 5], "a new process goes on");
    }
}
