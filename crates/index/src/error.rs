use std::io;
use std::path::{Path, PathBuf};

/// What can go wrong in this crate, by who is at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller passed something that cannot be used.
    #[error("{0}")]
    Input(String),
    /// The file is not an index of the kind asked for, or is damaged.
    #[error("{} cannot be used as an index: {what}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found wrong.
        what: String,
    },
    /// The file does not hold vectors as expected.
    #[error("{} cannot be read as vectors: {what}", path.display())]
    Vectors {
        /// The file.
        path: PathBuf,
        /// What was found wrong.
        what: String,
    },
    /// There is no memory for the rows asked for.
    #[error("no memory for an index of {rows} rows: {source}")]
    Memory {
        /// Rows to be held.
        rows: usize,
        /// The system's answer.
        source: io::Error,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried, a verb: `write`, `open`.
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

/// The result of this crate's calls.
pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn corrupt(path: &Path, what: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), what: what.into() }
    }

    pub(crate) fn io(path: &Path, action: &'static str, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), action, source }
    }
}
