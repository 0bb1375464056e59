//! What can go wrong between a request and its feed, by who is at fault.

/// Errors of this crate. Each message is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration cannot be used.
    #[error("{0}")]
    Config(String),
    /// A request or a record cannot be used.
    #[error("{0}")]
    Input(String),
    /// A channel, a scorer or a rule did not keep its word.
    #[error("{0}")]
    Part(String),
    /// From the schema.
    #[error(transparent)]
    Schema(#[from] millstream_schema::Error),
    /// From an index.
    #[error(transparent)]
    Index(#[from] millstream_index::Error),
    /// From a model.
    #[error(transparent)]
    Model(#[from] millstream_models::Error),
}
