//! What can go wrong, by who is at fault.

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A saved weight has another shape than the model asks for.
    #[error("weight `{name}` has shape {found:?} in the saved model, but the model asks for {wanted:?}")]
    Shape {
        /// Name of the weight.
        name: String,
        /// Shape asked for.
        wanted: Vec<usize>,
        /// Shape found.
        found: Vec<usize>,
    },
    /// Saved weights whose values do not fill their shape.
    #[error("weight `{name}` is corrupt: shape {shape:?} needs {needed} values, {found} are there")]
    Corrupt {
        /// Name of the weight.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Values that the shape needs.
        needed: usize,
        /// Values found.
        found: usize,
    },
    /// A model asked for something impossible (a shape, a column, a size).
    #[error("{0}")]
    Model(String),
    /// A batch does not fit the fields it was made for.
    #[error("{0}")]
    Batch(String),
    /// Optimiser state that does not fit the parameters.
    #[error("optimiser state does not fit the model: {0}")]
    OptimState(String),
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
