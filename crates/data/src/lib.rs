//! Turn log files into batches, split by time; make synthetic worlds.

pub mod blocks;
pub mod config;
mod error;
pub mod inspect;
pub mod interactions;
mod layout;
pub mod logs;
pub mod negatives;
pub mod prepare;
pub mod prepared;
mod sealed;
pub mod source;
pub mod split;
pub mod synth;
pub mod time;

pub use config::DatasetConfig;
pub use error::Error;
pub use interactions::{EvalUsers, Interactions, Ragged};
pub use prepare::{PrepareOptions, PrepareReport, Progress, prepare};
pub use prepared::Prepared;
pub use sealed::write_text;
pub use source::{Source, SourceOptions};
pub use split::{Split, Use};
