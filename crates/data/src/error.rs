//! What can go wrong between a file and a batch, by who is at fault.

use std::path::{Path, PathBuf};

/// Errors of this crate. Each message is one sentence for the person at the terminal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The input cannot be used as it is: a bad row, a wrong delimiter, an empty file.
    #[error("{place}: {reason}")]
    Input {
        /// File, or file and line.
        place: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// A configuration cannot be used: a wrong key, an unknown column, a contradiction.
    #[error("{0}")]
    Config(String),
    /// Bytes are not what their format promises: truncated, damaged, of another format.
    #[error("{}: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Reading or writing failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A schema or a value that an encoder cannot take.
    #[error(transparent)]
    Schema(#[from] millstream_schema::Error),
}

impl Error {
    /// Bad input at a place (`file` or `file:line`).
    pub fn input(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Input { place: place.into(), reason: reason.into() }
    }

    /// A configuration error with this sentence.
    pub fn config(message: impl Into<String>) -> Self {
        Self::Config(message.into())
    }

    /// Damaged bytes in a file.
    pub fn corrupt(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Self::Corrupt { path: path.as_ref().to_owned(), reason: reason.into() }
    }

    /// An I/O error at a path.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Self::Io { path: path.as_ref().to_owned(), source }
    }
}
