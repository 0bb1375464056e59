//! What can stop a training run or an evaluation.

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration asks for something that cannot be.
    #[error("{0}")]
    Config(String),
    /// Training went wrong: weights or loss are no longer numbers.
    #[error("{0}")]
    Diverged(String),
    /// A saved state cannot be used.
    #[error("{0}")]
    Corrupt(String),
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
    /// From the data.
    #[error(transparent)]
    Data(#[from] millstream_data::Error),
    /// From the models.
    #[error(transparent)]
    Model(#[from] millstream_models::Error),
    /// From the network.
    #[error(transparent)]
    Network(#[from] millstream_nn::Error),
    /// From the embedding store.
    #[error(transparent)]
    Store(#[from] millstream_store::Error),
    /// From the index.
    #[error(transparent)]
    Index(#[from] millstream_index::Error),
}
