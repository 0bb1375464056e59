//! The real binary, tiny inputs for it, and a server that can be killed.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub mod data;
pub mod server;

use serde_json::Value;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The binary with `args` in `dir`.
pub fn command<A: AsRef<OsStr>>(dir: &Path, args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command
        .args(args)
        .current_dir(dir)
        .env_remove("RUST_LOG")
        .env("RUST_BACKTRACE", "1")
        .stdin(Stdio::null());
    command
}

/// Runs `words`, split at white space, to the end.
pub fn run(dir: &Path, words: &str) -> Output {
    command(dir, words.split_whitespace()).output().unwrap()
}

/// Runs a command that must succeed; gives the JSON object in its last line.
pub fn json(dir: &Path, words: &str) -> Value {
    let output = run(dir, &format!("{words} --json --quiet"));
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "`{words}`: {stderr}");
    let last = stdout.lines().last().unwrap_or_default();
    serde_json::from_str(last).unwrap_or_else(|e| panic!("`{words}`: {e} in {last}"))
}

/// Runs a command that must be refused: status 2, nothing on stdout, one sentence on stderr that holds all
/// of `parts`, and `dir` as it was before.
pub fn refused(dir: &Path, words: &str, parts: &[&str]) -> String {
    let before = listing(dir);
    let output = run(dir, &format!("{words} --quiet"));
    let sentence = the_sentence(&output, words);
    for part in parts {
        assert!(sentence.contains(part), "`{words}`: `{part}` is not in: {sentence}");
    }
    assert_eq!(listing(dir), before, "`{words}` left something behind");
    sentence
}

/// The one sentence of a refusal.
pub fn the_sentence(output: &Output, words: &str) -> String {
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(2), "`{words}`: {stdout}{stderr}");
    assert_eq!(stdout, "", "`{words}`");
    let sentence = stderr.strip_prefix("error: ").unwrap_or_else(|| panic!("`{words}`: {stderr}")).trim_end();
    assert!(!sentence.contains('\n'), "`{words}` says more than one thing: {stderr}");
    for bad in ["panicked", "unwrap", "RUST_BACKTRACE", "Error {", "Some("] {
        assert!(!sentence.contains(bad), "`{words}`: {stderr}");
    }
    sentence.to_owned()
}

/// All files below `dir` with their contents' hash.
pub fn listing(dir: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let mut hash = 0;
            if path.is_dir() {
                folders.push(path.clone());
            } else {
                let bytes = std::fs::read(&path).unwrap();
                hash = bytes
                    .iter()
                    .fold(bytes.len() as u64, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
            }
            found.push((path.display().to_string(), hash));
        }
    }
    found.sort();
    found
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A small seeded generator, for the moments at which something is killed.
pub struct Dice(pub u64);

impl Dice {
    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}
