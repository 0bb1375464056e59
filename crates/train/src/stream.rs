//! The loop of a stream: each batch is predicted, then learned, once, in order.

use millstream_data::Direct;
use millstream_schema::{Batch, BatchSource};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Instant;

use crate::progressive::Progressive;
use crate::run::{BEST, LATEST, Metrics, refuse_other_config};
use crate::{Error, Learner, TrainConfig, checkpoint};

/// A source that can be opened again where it was.
pub trait Replay: BatchSource {
    /// What [`OpenStream`] must be given to go on behind the last batch handed out.
    fn position(&self) -> u64;

    /// Bad values met so far, for people; `None` when there are none.
    fn bad(&self) -> Option<String> {
        None
    }
}

impl Replay for Direct {
    /// Rows of the files.
    fn position(&self) -> u64 {
        Self::position(self)
    }

    fn bad(&self) -> Option<String> {
        let bad = self.bad_values();
        (bad.total() > 0).then(|| bad.to_string())
    }
}

/// Batches whose position is their number.
pub struct Numbered<S> {
    source: S,
    next: u64,
}

impl<S: BatchSource> Numbered<S> {
    /// `source` begins with batch number `first`.
    pub fn new(source: S, first: u64) -> Self {
        Self { source, next: first }
    }
}

impl<S: BatchSource> BatchSource for Numbered<S> {
    fn next_batch(&mut self) -> Result<Option<Batch>, millstream_schema::Error> {
        let batch = self.source.next_batch()?;
        self.next += u64::from(batch.is_some());
        Ok(batch)
    }
}

impl<S: BatchSource> Replay for Numbered<S> {
    fn position(&self) -> u64 {
        self.next
    }
}

/// Gives the batches behind a position, 0 being the beginning; always the same ones in the same order.
pub type OpenStream<'a> = dyn Fn(u64) -> Result<Box<dyn Replay>, Error> + 'a;

/// Progressive validation after so many rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Candidates learned.
    pub rows: u64,
    /// Over all of them, and over the latest.
    pub metrics: Metrics,
}

/// What is saved beside the weights so that a killed stream goes on exactly where it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamState {
    /// Where the source goes on, see [`Replay::position`].
    pub position: u64,
    /// Batches learned.
    pub batches: u64,
    /// Candidates learned.
    pub rows: u64,
    /// Predictions so far against what happened.
    pub progressive: Progressive,
    /// Progressive validation on the way.
    pub points: Vec<Point>,
    /// What the stream was begun with. Kept in the checkpoint's run state, whose format names its keys.
    #[serde(skip)]
    pub config: TrainConfig,
    /// Whether the source has ended.
    pub finished: bool,
}

/// A stream to learn.
pub struct Stream<'a> {
    /// Hyperparameters.
    pub config: &'a TrainConfig,
    /// The rows.
    pub open: &'a OpenStream<'a>,
    /// Directory of the checkpoints, which exists.
    pub dir: &'a Path,
    /// Candidates between checkpoints (at the next end of a batch); only at the end when absent.
    pub checkpoint_every: Option<u64>,
    /// Candidates between points of progressive validation; after 1,000, 2,000, 4,000 … when absent.
    pub report_every: Option<u64>,
    /// Called after every batch.
    pub progress: &'a dyn Fn(&StreamState),
    /// Called at every point.
    pub report: &'a dyn Fn(&Point),
}

/// What a finished stream reports.
#[derive(Debug, Clone, Serialize)]
pub struct StreamOutcome {
    /// Candidates learned, those before a resumption included.
    pub rows: u64,
    /// Candidates learned by this process.
    pub new_rows: u64,
    /// Seconds of this process from opening the source to the last batch, checkpoints included.
    pub seconds: f64,
    /// Those of them that went into checkpoints.
    pub saving_seconds: f64,
    /// Progressive validation over the whole stream and over its last window.
    pub metrics: Metrics,
    /// Progressive validation on the way.
    pub points: Vec<Point>,
    /// What the exported model holds.
    pub sparsity: Sparsity,
    /// Bad values that this process met, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bad: Option<String>,
}

/// How many embedding weights are exactly zero, and how many rows the export holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Sparsity {
    /// Weights of all rows.
    pub weights: u64,
    /// Those that are zero.
    pub zeros: u64,
    /// `zeros` over `weights`; 0 without weights.
    pub share: f64,
    /// Rows.
    pub rows: u64,
    /// Rows exported: all but those of zeros in tables that FTRL trains.
    pub rows_kept: u64,
}

/// Refuses to go on with hyperparameters under which the result would not be that of an unbroken stream.
///
/// # Errors
/// Names the first key that differs. When to save may change, and so may keys of epochs.
pub fn check_resumed(state: &StreamState, config: &TrainConfig) -> Result<(), Error> {
    let begun = TrainConfig {
        epochs: config.epochs,
        patience: config.patience,
        checkpoint_every: config.checkpoint_every,
        ..state.config.clone()
    };
    refuse_other_config(&begun, config)
}

impl Stream<'_> {
    /// Learns to the end of the source. With `state` of an earlier, broken-off stream it goes on from there.
    ///
    /// # Errors
    /// Reading, diverging, or saving fails; the source has no rows.
    pub fn train(&self, learner: &mut Learner, state: Option<StreamState>) -> Result<StreamOutcome, Error> {
        self.config.check()?;
        let mut state = match state {
            Some(state) => {
                check_resumed(&state, self.config)?;
                state
            }
            None => self.fresh(learner),
        };
        let (start, before) = (Instant::now(), state.rows);
        let mut saving_seconds = 0.0;
        let bad = if state.finished { None } else { self.learn(learner, &mut state, &mut saving_seconds)? };
        let seconds = start.elapsed().as_secs_f64();
        let sparsity = checkpoint::export_stream(&self.dir.join(BEST), learner, &state)?;
        Ok(StreamOutcome {
            rows: state.rows,
            new_rows: state.rows - before,
            seconds,
            saving_seconds,
            metrics: state.progressive.metrics(),
            points: state.points,
            sparsity,
            bad,
        })
    }

    fn fresh(&self, learner: &Learner) -> StreamState {
        StreamState {
            position: 0,
            batches: 0,
            rows: 0,
            progressive: Progressive::new(learner.tasks(), self.config.window),
            points: Vec::new(),
            config: self.config.clone(),
            finished: false,
        }
    }

    /// Learns what is left; gives the bad values met.
    fn learn(
        &self,
        learner: &mut Learner,
        state: &mut StreamState,
        saving_seconds: &mut f64,
    ) -> Result<Option<String>, Error> {
        let mut save = |learner: &Learner, state: &StreamState| {
            let start = Instant::now();
            checkpoint::save_stream(&self.dir.join(LATEST), learner, state)?;
            *saving_seconds += start.elapsed().as_secs_f64();
            Ok::<(), Error>(())
        };
        let mut source = (self.open)(state.position)?;
        let mut logits = Vec::new();
        while let Some(batch) = source.next_batch()? {
            logits.clear();
            learner.learn(&batch, &mut logits)?;
            state.progressive.push(&batch, &logits);
            let before = state.rows;
            state.rows += batch.candidates() as u64;
            state.batches += 1;
            state.position = source.position();
            (self.progress)(state);
            if reported(self.report_every, before, state.rows) {
                self.note(state);
            }
            if self.checkpoint_every.is_some_and(|n| before / n != state.rows / n) {
                save(learner, state)?;
            }
        }
        if state.rows == 0 {
            return Err(Error::Config("there is not a single row to learn".into()));
        }
        if state.points.last().is_none_or(|p| p.rows != state.rows) {
            self.note(state);
        }
        state.finished = true;
        save(learner, state)?;
        Ok(source.bad())
    }

    fn note(&self, state: &mut StreamState) {
        let point = Point { rows: state.rows, metrics: state.progressive.metrics() };
        (self.report)(&point);
        state.points.push(point);
    }
}

/// First point where they double.
const FIRST_POINT: u64 = 1000;

/// Whether a point lies behind row `before` and up to row `now`.
fn reported(every: Option<u64>, before: u64, now: u64) -> bool {
    match every {
        Some(every) => before / every != now / every,
        None => {
            let doublings = |rows: u64| (rows / FIRST_POINT).checked_ilog2().map_or(0, |n| n + 1);
            doublings(before) != doublings(now)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_double_unless_a_distance_is_given() {
        let points = |every| {
            let ends = (0..100u64).map(|i| i * 96).zip((1..).map(|i| i * 96));
            ends.filter(|&(a, b)| reported(every, a, b)).map(|(_, b)| b).collect::<Vec<u64>>()
        };
        assert_eq!(points(None), [1056, 2016, 4032, 8064]);
        assert_eq!(points(Some(4000)), [4032, 8064]);
    }
}
