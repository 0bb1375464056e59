//! Step, evaluate, checkpoint; one loop for file and stream.

pub mod checkpoint;
pub mod config;
mod error;
pub mod eval;
pub mod learner;
pub mod metrics;
pub mod negatives;
pub mod run;
pub mod sampler;

pub use config::TrainConfig;
pub use error::Error;
pub use learner::{Learner, Sampling, SavedState, Setting, check_model, role_of};
pub use run::{BEST, Evaluation, LATEST, Metrics, Outcome, Progress, Run, RunState};
