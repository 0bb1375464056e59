//! Turn log files into batches, split by time; make synthetic worlds.

mod ahead;
pub mod balance;
pub mod blocks;
pub mod config;
pub mod direct;
mod error;
pub mod inspect;
pub mod interactions;
mod layout;
pub mod leakage;
pub mod logs;
pub mod negatives;
pub mod passed_over;
pub mod positive;
pub mod prepare;
pub mod prepared;
pub mod relevance;
pub mod sample;
mod sealed;
pub mod source;
pub mod split;
pub mod synth;
pub mod time;

pub use config::DatasetConfig;
pub use direct::{Direct, DirectFiles, DirectOptions, DirectRows};
pub use error::Error;
pub use interactions::{EvalUsers, Interactions, Ragged};
pub use passed_over::{PassedOver, PassedOverLog};
pub use positive::PositiveRule;
pub use prepare::{PrepareOptions, PrepareReport, Progress, prepare};
pub use prepared::Prepared;
pub use sealed::write_text;
pub use source::{Source, SourceOptions};
pub use split::{Split, Use};
