//! What can go wrong when a model is built, saved or opened.

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration asks for something that cannot be.
    #[error("{0}")]
    Config(String),
    /// Saved bytes are not a model of ours.
    #[error("{0}")]
    Corrupt(String),
    /// What is learned is no number any more.
    #[error("{0}")]
    Diverged(String),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// From the schema.
    #[error(transparent)]
    Schema(#[from] millstream_schema::Error),
    /// From the network.
    #[error(transparent)]
    Network(#[from] millstream_nn::Error),
    /// From an index.
    #[error(transparent)]
    Index(#[from] millstream_index::Error),
    /// From the embedding store.
    #[error(transparent)]
    Store(#[from] millstream_store::Error),
}

impl Error {
    /// The same, with the model's name where one of its layers said what cannot be.
    pub(crate) fn of_model(self, model: &str) -> Self {
        match self {
            Self::Network(millstream_nn::Error::Model(text)) => {
                Self::Config(format!("model `{model}`: {text}"))
            }
            other => other,
        }
    }
}
