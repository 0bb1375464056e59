//! What can go wrong between a record and a batch, by who is at fault.

/// Errors of this crate. Each message is one sentence for the person at the terminal.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration cannot be used: a wrong key, a wrong value, a contradiction.
    #[error("{0}")]
    Config(String),
    /// A value in the input cannot be used and the policy is strict.
    #[error("{place}: {reason}")]
    Input {
        /// File and line, or what stands for them.
        place: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// Stored bytes are not what they should be.
    #[error("{0}")]
    Corrupt(String),
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl Error {
    /// A configuration error with this sentence.
    pub fn config(message: impl Into<String>) -> Self {
        Self::Config(message.into())
    }

    /// A bad value at a place (`file:line`).
    pub fn input(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Input { place: place.into(), reason: reason.into() }
    }

    /// An I/O error at a path.
    pub fn io(path: impl AsRef<std::path::Path>, source: std::io::Error) -> Self {
        Self::Io { path: path.as_ref().display().to_string(), source }
    }
}
