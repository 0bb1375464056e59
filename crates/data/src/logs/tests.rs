//! Every format and every fault on tiny files made here.

mod faults;
mod formats;
mod parquet;
mod speed;

use std::io::Write;
use std::path::PathBuf;

use millstream_schema::Frame;

use super::*;

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        // Tests run side by side, and two may ask for the same name.
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("millstream-logs-{name}-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Reads everything, `step` rows at a time.
fn read_all(path: &Path, format: &LogFormat, step: usize) -> Result<Frame, Error> {
    let mut reader = open(path, format)?;
    let mut frame = reader.frame();
    while reader.read(&mut frame, step)? > 0 {}
    Ok(frame)
}

fn rows(frame: &Frame) -> Vec<Vec<&str>> {
    (0..frame.rows()).map(|r| (0..frame.columns().len()).map(|c| frame.get(r, c)).collect()).collect()
}

fn columns(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|n| (*n).to_owned()).collect())
}

fn message(path: &Path, format: &LogFormat) -> String {
    let error = read_all(path, format, 100).unwrap_err().to_string();
    let folder = format!("{}/", path.parent().unwrap().display());
    error.replace(&folder, "")
}
