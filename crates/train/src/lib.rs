//! Step, evaluate, checkpoint; one loop for file and stream.

mod average;
pub mod chart;
pub mod checkpoint;
pub mod config;
mod error;
pub mod eval;
mod every_row;
pub mod fit;
pub mod frequency;
pub mod graded;
mod graph;
pub mod importance;
pub mod learner;
pub mod metrics;
pub mod named;
pub mod negatives;
pub mod page;
pub mod positives;
pub mod progressive;
pub mod record;
pub mod report;
mod rules;
pub mod run;
pub mod sampler;
pub mod seeds;
pub mod selection;
mod step;
pub mod stream;
mod weighing;
pub mod whole;

pub use config::TrainConfig;
pub use error::Error;
pub use learner::{
    Learner, Sampling, SavedState, Setting, check_model, check_streams, learns_graph, learns_whole, role_of,
};
pub use run::{BEST, Evaluation, LATEST, Metrics, Outcome, Progress, Run, RunState};
