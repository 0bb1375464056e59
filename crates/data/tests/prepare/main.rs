//! Preparing from end to end, on small files made here.

#![allow(clippy::unwrap_used)]

mod groups;
mod histories;
mod joins;
mod log;
mod sequences;
mod table;

use std::path::Path;

use millstream_data::blocks::BlockReader;
use millstream_data::{DatasetConfig, Error, PrepareOptions, PrepareReport, Prepared, Split, Use, prepare};
use millstream_schema::Examples;

/// A folder with files in it, and what to make of them.
pub(crate) struct Case {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) config: String,
}

impl Case {
    pub(crate) fn new(config: &str, files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        Self { dir, config: config.to_owned() }
    }

    pub(crate) fn out(&self) -> std::path::PathBuf {
        self.dir.path().join("prepared")
    }

    pub(crate) fn run(&self, strict: bool) -> Result<PrepareReport, Error> {
        let config = DatasetConfig::parse(&self.config, "dataset.toml")?;
        prepare(
            self.dir.path(),
            &config,
            &self.out(),
            &PrepareOptions { strict, ..PrepareOptions::default() },
        )
    }

    pub(crate) fn prepared(&self) -> (PrepareReport, Prepared) {
        let report = self.run(false).unwrap();
        (report, Prepared::open(&self.out()).unwrap())
    }

    /// The error's text; nothing may be left behind.
    pub(crate) fn error(&self, strict: bool) -> String {
        let message = self.run(strict).unwrap_err().to_string();
        let left: Vec<_> = std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains("prepared"))
            .collect();
        assert!(left.is_empty(), "{left:?} was left behind");
        message
    }

    pub(crate) fn examples(&self, split: Split, for_use: Use) -> Examples {
        read_all(&self.out(), split, for_use)
    }
}

/// All examples of a part, in the order of the file.
pub(crate) fn read_all(dir: &Path, split: Split, for_use: Use) -> Examples {
    let mut blocks = BlockReader::open(&dir.join(format!("{split}.{}.blocks", for_use.as_str()))).unwrap();
    let mut all = Examples::default();
    for block in 0..blocks.entries().len() {
        all.append(&blocks.read(block).unwrap()).unwrap();
    }
    all
}

/// A small generator for test data.
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % n
    }
}

#[test]
fn a_directory_that_is_something_else_is_left_alone() {
    let case = Case::new(table::PLAIN, &[("a.csv", "label,x\n1,a\n0,b\n")]);
    std::fs::create_dir(case.out()).unwrap();
    std::fs::write(case.out().join("thesis.txt"), "precious").unwrap();
    let message = case.run(false).unwrap_err().to_string();
    assert!(message.contains("is no prepared directory"), "{message}");
    assert_eq!(std::fs::read_to_string(case.out().join("thesis.txt")).unwrap(), "precious");
}

#[test]
fn preparing_again_replaces_the_directory() {
    let case = Case::new(table::PLAIN, &[("a.csv", "label,x\n1,a\n0,b\n")]);
    case.run(false).unwrap();
    std::fs::write(case.dir.path().join("a.csv"), "label,x\n1,a\n0,b\n0,c\n").unwrap();
    let (_, prepared) = case.prepared();
    assert_eq!(prepared.rows(Split::Train, Use::Rank), 3);
    let names: Vec<_> = std::fs::read_dir(case.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn every_damaged_file_is_named() {
    let case = Case::new(log::MINIMAL, &[("e.csv", log::FEW)]);
    case.run(false).unwrap();
    let files: Vec<_> = std::fs::read_dir(case.out()).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(files.len(), 10, "{files:?}");
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let opened = Prepared::open(&case.out()).and_then(|p| {
            p.interactions(Split::Train)?;
            for split in Split::ALL {
                for for_use in Use::ALL {
                    let options =
                        millstream_data::SourceOptions { batch_size: 8, shuffle: None, skip_batches: 0 };
                    p.source(split, for_use, options)?;
                }
            }
            Ok(())
        });
        let message = opened.unwrap_err().to_string();
        assert!(message.contains(&name), "{message}");
        std::fs::write(&path, whole).unwrap();
    }
    assert!(Prepared::open(case.dir.path()).unwrap_err().to_string().contains("no prepared directory"));
}
