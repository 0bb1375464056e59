use std::io;
use std::path::{Path, PathBuf};

/// What can go wrong in this crate, by who is at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller passed something that cannot be used.
    #[error("{0}")]
    Input(String),
    /// The file is something else altogether.
    #[error("{} is not a Millstream file", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// A Millstream file, but of another kind than the one asked for.
    #[error("{} holds `{found}`, expected `{wanted}`", path.display())]
    WrongKind {
        /// The file.
        path: PathBuf,
        /// The kind that was asked for.
        wanted: String,
        /// The kind that the file has.
        found: String,
    },
    /// The file was written by a newer program.
    #[error("{} has format version {version}, this program reads up to {newest}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version that the file has.
        version: u32,
        /// The newest version that can be read.
        newest: u32,
    },
    /// The file is damaged.
    #[error("{} is damaged: {what}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found wrong.
        what: String,
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

    /// A failed read: an early end is damage, all else is the system's fault.
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::UnexpectedEof => Self::corrupt(path, "it is cut short"),
            _ => Self::io(path, "read", source),
        }
    }
}
