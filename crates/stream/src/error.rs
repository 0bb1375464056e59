//! What can go wrong between an event and the disk, by who is at fault.

use std::error::Error as _;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

/// Errors of this crate. Each message is one sentence for the person at the terminal.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// What was given cannot be stored.
    #[error("{0}")]
    Input(String),
    /// Another process holds the directory.
    #[error("{dir} is in use by another process; stop that one first or choose another directory")]
    Locked {
        /// The directory.
        dir: String,
    },
    /// There is no room left; what was being written was not stored.
    #[error("the disk that holds {dir} is full; nothing of this request was stored")]
    Full {
        /// The directory.
        dir: String,
    },
    /// An earlier write failed, so nothing more is written; reading goes on.
    #[error(
        "nothing more is stored in {dir} because an earlier write failed ({reason}); mend that and restart"
    )]
    Stopped {
        /// The directory.
        dir: String,
        /// What went wrong first.
        reason: String,
    },
    /// Stored bytes are not what they should be.
    #[error("{dir} is damaged: {reason}")]
    Corrupt {
        /// The directory.
        dir: String,
        /// What was found.
        reason: String,
    },
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
}

impl Error {
    /// An I/O error at a path; a full disk is told apart.
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.display().to_string();
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full { dir: path },
            _ => Self::Io { path, source: Arc::new(source) },
        }
    }

    /// The cause in a few words, for those who are told of it later.
    pub(crate) fn cause(&self) -> String {
        match self {
            Self::Full { .. } => "the disk was full".into(),
            other => other.to_string(),
        }
    }

    pub(crate) fn corrupt(dir: &Path, reason: impl Into<String>) -> Self {
        Self::Corrupt { dir: dir.display().to_string(), reason: reason.into() }
    }

    /// What the storage engine said.
    pub(crate) fn of(dir: &Path, error: &fjall::Error) -> Self {
        let name = dir.display().to_string();
        match error {
            fjall::Error::Locked => return Self::Locked { dir: name },
            fjall::Error::Poisoned => {
                return Self::Stopped { dir: name, reason: "see the log for the first failure".into() };
            }
            _ => {}
        }
        match io_source(error) {
            Some(e) if !is_damage(e.kind()) => {
                let again = e.raw_os_error().map(io::Error::from_raw_os_error);
                Self::io(dir, again.unwrap_or_else(|| io::Error::new(e.kind(), e.to_string())))
            }
            Some(e) => {
                Self::corrupt(dir, format!("a file is missing, cut short or unreadable ({})", e.kind()))
            }
            None => Self::corrupt(dir, reason_of(error)),
        }
    }
}

/// Kinds that, met inside our own files, mean that somebody else changed them.
fn is_damage(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::NotFound | ErrorKind::Other)
}

fn io_source(error: &fjall::Error) -> Option<&io::Error> {
    let mut source = error.source();
    while let Some(e) = source {
        if let Some(e) = e.downcast_ref::<io::Error>() {
            return Some(e);
        }
        source = e.source();
    }
    None
}

/// The storage engine's own words, without its wrapping.
fn reason_of(error: &fjall::Error) -> String {
    let text = format!("{error:?}");
    if text.contains("ChecksumMismatch") {
        return "a checksum does not match what was written; restore the directory from a copy".into();
    }
    match error {
        fjall::Error::InvalidVersion(_) => "it was written by another version of the storage format".into(),
        _ => format!("its files cannot be read ({text}); restore the directory from a copy"),
    }
}
