//! The one loop: epochs over a source, evaluation, best-by-validation, early stop, checkpoints.

use millstream_schema::BatchSource;
use millstream_schema::suggest::nearest;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Instant;

use crate::learner::Learner;
use crate::{Error, TrainConfig, checkpoint};

/// Metric keys (`auc`, `recall@50`, …) and values.
pub type Metrics = BTreeMap<String, f64>;

/// File of the state after the last checkpoint, inside a run's directory.
pub const LATEST: &str = "latest.ckpt";
/// File of the best state by validation.
pub const BEST: &str = "best.ckpt";

/// Gives the batches of an epoch, the first so many left out.
pub type OpenEpoch<'a> = dyn Fn(u32, u64) -> Result<Box<dyn BatchSource>, Error> + 'a;
/// Measures the learner on the validation split.
pub type Evaluate<'a> = dyn Fn(&Learner) -> Result<Metrics, Error> + 'a;

/// Where a run reads, measures, saves and reports.
pub struct Run<'a> {
    /// Hyperparameters.
    pub config: &'a TrainConfig,
    /// The training rows.
    pub open: &'a OpenEpoch<'a>,
    /// The validation; without it the last epoch is the best.
    pub evaluate: Option<&'a Evaluate<'a>>,
    /// Directory of the checkpoints, which exists.
    pub dir: &'a Path,
    /// Called after every step.
    pub progress: &'a dyn Fn(&Progress),
}

/// Where a run is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Current epoch from 0.
    pub epoch: u32,
    /// Steps taken since the first epoch.
    pub step: u64,
    /// Candidates of this epoch so far.
    pub epoch_rows: u64,
    /// Candidates trained on by this process.
    pub rows: u64,
    /// Seconds this process has spent in training steps.
    pub seconds: f64,
    /// Mean loss of the epoch so far.
    pub loss: f64,
}

/// One evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Epoch from 0.
    pub epoch: u32,
    /// Steps taken before it.
    pub step: u64,
    /// Mean training loss since the epoch began.
    pub loss: f64,
    /// What was measured.
    pub metrics: Metrics,
}

/// What is saved beside the weights so that a killed run goes on exactly where it was.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// Epoch under way.
    pub epoch: u32,
    /// Batches of that epoch already trained on.
    pub batch: u64,
    /// Candidates of that epoch already trained on.
    pub epoch_rows: u64,
    /// Sum of the losses of those batches.
    pub epoch_loss: f64,
    /// Best value of the monitored metric, larger being better.
    pub best: Option<f64>,
    /// Evaluations since the best one.
    pub since_best: u32,
    /// Factor on the learning rates.
    pub rate: f32,
    /// All evaluations.
    pub evaluations: Vec<Evaluation>,
    /// Whether the run was stopped early; more epochs do not change that.
    pub finished: bool,
    /// What the run was begun with.
    #[serde(default)]
    pub config: Option<TrainConfig>,
}

/// Refuses to go on with hyperparameters under which the result would not be that of an unbroken run.
///
/// # Errors
/// Names the first key that differs. How long to train and when to save may change.
pub fn check_resumed(state: &RunState, config: &TrainConfig) -> Result<(), Error> {
    let Some(begun) = &state.config else { return Ok(()) };
    let begun = TrainConfig {
        epochs: config.epochs,
        patience: config.patience,
        checkpoint_every: config.checkpoint_every,
        ..begun.clone()
    };
    refuse_other_config(&begun, config)
}

/// Names the first key that differs.
pub(crate) fn refuse_other_config(begun: &TrainConfig, config: &TrainConfig) -> Result<(), Error> {
    if begun == config {
        return Ok(());
    }
    // By way of text, so that numbers are shown as they were written.
    let table = |c: &TrainConfig| -> Value {
        serde_json::to_string(c).and_then(|text| serde_json::from_str(&text)).unwrap_or_default()
    };
    let what =
        difference("training", &table(begun), &table(config)).map_or_else(String::new, |d| format!(": {d}"));
    Err(Error::Config(format!(
        "the run cannot go on with other hyperparameters{what}; give it those it began with, or train into \
         another folder"
    )))
}

/// The first key below `key` whose value differs, with both values; a key that is absent is `null`.
fn difference(key: &str, was: &Value, is: &Value) -> Option<String> {
    if was == is {
        return None;
    }
    let empty = serde_json::Map::new();
    let parts = match (was, is) {
        (Value::Object(was), Value::Object(is)) => Some((was, is)),
        // A table that was not there is told by its first key.
        (Value::Object(was), Value::Null) => Some((was, &empty)),
        (Value::Null, Value::Object(is)) => Some((&empty, is)),
        _ => None,
    };
    let Some((was, is)) = parts else { return Some(format!("{key} was {was} and is {is}")) };
    let value = |table: &serde_json::Map<String, Value>, k: &str| table.get(k).cloned().unwrap_or_default();
    let keys: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    keys.into_iter().find_map(|k| difference(&format!("{key}.{k}"), &value(was, k), &value(is, k)))
}

/// What a finished run reports.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// All evaluations, in order.
    pub evaluations: Vec<Evaluation>,
    /// The best one by validation.
    pub best: Option<Evaluation>,
    /// Candidates trained on by this process.
    pub rows: u64,
    /// Seconds in training steps, reading included, evaluation excluded.
    pub train_seconds: f64,
    /// Seconds in evaluation.
    pub evaluate_seconds: f64,
}

impl Run<'_> {
    /// Trains to the end. With `state` of an earlier, broken-off run it goes on from there.
    ///
    /// # Errors
    /// Reading, diverging, or saving fails.
    pub fn train(&self, learner: &mut Learner, state: Option<RunState>) -> Result<Outcome, Error> {
        self.config.check()?;
        if self.config.schedule.is_some_and(|s| s.needs_total()) {
            return Err(Error::Config("training.schedule: `total_steps` is missing".into()));
        }
        if let Some(state) = &state {
            check_resumed(state, self.config)?;
        }
        let mut state = state.unwrap_or(RunState { rate: 1.0, ..RunState::default() });
        state.config = Some(self.config.clone());
        learner.set_rate(state.rate);
        let mut clock = Clock::default();
        while state.epoch < self.config.epochs && !state.finished {
            self.epoch(learner, &mut state, &mut clock)?;
        }
        checkpoint::save(&self.dir.join(LATEST), learner, &state)?;
        if state.best.is_none() {
            learner.averaged(|best| {
                best.settle()?;
                checkpoint::save(&self.dir.join(BEST), best, &state)
            })?;
        }
        Ok(self.outcome(state, &clock))
    }

    fn epoch(&self, learner: &mut Learner, state: &mut RunState, clock: &mut Clock) -> Result<(), Error> {
        if self.config.reset_rows_each_epoch && state.epoch > 0 && state.batch == 0 {
            learner.reset_rows()?;
        }
        let mut source = (self.open)(state.epoch, state.batch)?;
        loop {
            let start = Instant::now();
            let Some(batch) = source.next_batch()? else { break };
            let loss = learner.step(&batch)?;
            learner.follow()?;
            clock.train += start.elapsed().as_secs_f64();
            clock.rows += batch.candidates() as u64;
            state.batch += 1;
            state.epoch_rows += batch.candidates() as u64;
            state.epoch_loss += f64::from(loss);
            (self.progress)(&self.progress_of(learner, state, clock));
            let steps = learner.steps();
            let due = |every: Option<u64>| every.is_some_and(|n| steps.is_multiple_of(n));
            if due(self.config.evaluate_every) && self.judge(learner, state, clock)? {
                return Ok(());
            }
            if due(self.config.checkpoint_every.or(self.config.evaluate_every)) {
                checkpoint::save(&self.dir.join(LATEST), learner, state)?;
            }
        }
        if state.batch == 0 {
            return Err(Error::Config("there is not a single row to train on".into()));
        }
        let stop = self.config.evaluate_every.is_none() && self.judge(learner, state, clock)?;
        state.epoch += 1;
        (state.batch, state.epoch_rows, state.epoch_loss) = (0, 0, 0.0);
        state.finished |= stop;
        checkpoint::save(&self.dir.join(LATEST), learner, state)
    }

    /// Evaluates, keeps the best, lowers the rate; true when training should stop.
    fn judge(&self, learner: &mut Learner, state: &mut RunState, clock: &mut Clock) -> Result<bool, Error> {
        if self.evaluate.is_none() {
            return Ok(false);
        }
        let better = learner.averaged(|learner| {
            learner.settle()?;
            self.is_better(learner, state, clock)
        })?;
        if !better {
            state.since_best += 1;
            if let Some(factor) = self.config.reduce_on_plateau {
                state.rate *= factor;
                learner.set_rate(state.rate);
            }
        }
        state.finished = state.since_best > 0 && state.since_best >= self.config.patience;
        Ok(state.finished)
    }

    /// Evaluates and, when nothing before was better, keeps the model.
    fn is_better(&self, learner: &Learner, state: &mut RunState, clock: &mut Clock) -> Result<bool, Error> {
        let Some(evaluate) = self.evaluate else { return Ok(false) };
        let start = Instant::now();
        let mut metrics = evaluate(learner)?;
        if let Some(weights) = learner.task_weights() {
            let named = learner.tasks().iter().zip(weights);
            metrics.extend(named.map(|(task, w)| (format!("{task}.weight"), f64::from(w))));
        }
        clock.evaluate += start.elapsed().as_secs_f64();
        let score = self.score(&metrics)?;
        let loss = state.epoch_loss / state.batch.max(1) as f64;
        state.evaluations.push(Evaluation { epoch: state.epoch, step: learner.steps(), loss, metrics });
        let better = state.best.is_none_or(|best| score > best);
        if better {
            state.best = Some(score);
            state.since_best = 0;
            checkpoint::save(&self.dir.join(BEST), learner, state)?;
        }
        Ok(better)
    }

    /// The monitored metric with larger being better.
    fn score(&self, metrics: &Metrics) -> Result<f64, Error> {
        let key = self.config.monitored(metrics);
        let value = metrics.get(key).copied().ok_or_else(|| {
            let valid: Vec<&str> = metrics.keys().map(String::as_str).collect();
            Error::Config(match (valid.is_empty(), nearest(key, valid.iter().copied())) {
                (true, _) => {
                    "nothing could be measured on the validation part, so that no state is the best".into()
                }
                (_, Some(near)) => {
                    format!("training.monitor: unknown metric `{key}`; did you mean `{near}`?")
                }
                (_, None) => format!(
                    "training.monitor: `{key}` has no value on the validation part; there are {}",
                    valid.join(", ")
                ),
            })
        })?;
        Ok(if key.ends_with("logloss") { -value } else { value })
    }

    fn progress_of(&self, learner: &Learner, state: &RunState, clock: &Clock) -> Progress {
        Progress {
            epoch: state.epoch,
            step: learner.steps(),
            epoch_rows: state.epoch_rows,
            rows: clock.rows,
            seconds: clock.train,
            loss: state.epoch_loss / state.batch as f64,
        }
    }

    fn outcome(&self, state: RunState, clock: &Clock) -> Outcome {
        let score = |e: &Evaluation| self.score(&e.metrics).unwrap_or(f64::NEG_INFINITY);
        // The first of equals is the one that was kept.
        let best = state.evaluations.iter().rev().max_by(|a, b| score(a).total_cmp(&score(b))).cloned();
        Outcome {
            evaluations: state.evaluations,
            best,
            rows: clock.rows,
            train_seconds: clock.train,
            evaluate_seconds: clock.evaluate,
        }
    }
}

#[derive(Default)]
struct Clock {
    rows: u64,
    train: f64,
    evaluate: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_goes_on_only_with_what_it_began_with() {
        let config = TrainConfig::default();
        let state = RunState { config: Some(config.clone()), ..RunState::default() };
        check_resumed(&state, &TrainConfig { epochs: 90, checkpoint_every: Some(3), ..config.clone() })
            .unwrap();
        let other = TrainConfig { batch_size: 17, ..config };
        let message = check_resumed(&state, &other).unwrap_err().to_string();
        assert!(message.contains("training.batch_size was 4096 and is 17"), "{message}");
        check_resumed(&RunState::default(), &other).unwrap();
    }

    #[test]
    fn what_differs_inside_a_table_is_told_with_its_whole_name() {
        let config = TrainConfig::default();
        let state = RunState { config: Some(config.clone()), ..RunState::default() };
        let told = |config: &TrainConfig| check_resumed(&state, config).unwrap_err().to_string();
        let mut other = config.clone();
        other.dense.beta1 = Some(0.5);
        assert!(told(&other).contains("training.dense.beta1 was null and is 0.5"), "{}", told(&other));
        let mut other = config.clone();
        other.fgm = Some(crate::config::FgmConfig { epsilon: 0.25 });
        assert!(told(&other).contains("training.fgm.epsilon was null and is 0.25"), "{}", told(&other));
        let other = TrainConfig { freeze: vec!["tower".into()], ..config };
        assert!(told(&other).contains("training.freeze was null and is [\"tower\"]"), "{}", told(&other));
    }
}
