//! What a run was and what it reached, in one file of its folder: what reports are made of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use millstream_models::ModelConfig;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::metrics::{Curves, Decile, Scored};
use crate::run::{Evaluation, Metrics, Outcome};
use crate::stream::{Point, StreamOutcome};
use crate::{Error, TrainConfig};

/// File of the record inside a run's folder.
pub const RECORD: &str = "run.json";
/// Points of a drawn curve, about.
const POINTS: usize = 200;

/// A run. Options are kept as they were written, so that runs of other versions can still be reported.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunRecord {
    /// The `[model]` table.
    pub model: Value,
    /// The `[training]` table.
    pub training: Value,
    /// Names of the labels.
    pub tasks: Vec<String>,
    /// The prepared data it was trained on.
    pub prepared: PathBuf,
    /// Candidates trained on by the last process; a run that was resumed counts what came after.
    pub rows: u64,
    /// Seconds of that process in training steps, reading included, evaluation excluded.
    pub train_seconds: f64,
    /// Seconds of that process in evaluation.
    pub evaluate_seconds: f64,
    /// All evaluations on the validation split, in order.
    pub evaluations: Vec<Evaluation>,
    /// The best of them, whose weights were kept.
    pub best: Option<Evaluation>,
    /// What was measured later, by part: `valid`, `test`.
    pub parts: BTreeMap<String, PartRecord>,
}

/// What a model reached on a part of the data.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PartRecord {
    /// Metrics by key.
    pub metrics: Metrics,
    /// What they were measured on.
    pub sample: SampleSpace,
    /// ROC, precision-recall and reliability of each task; none for retrievers.
    pub curves: BTreeMap<String, Curves>,
    /// Calibration of each task by tenth of the rows; none for retrievers.
    pub deciles: BTreeMap<String, Vec<Decile>>,
}

/// Which rows or users were measured. A metric of one sample space says nothing about another.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SampleSpace {
    /// In words.
    pub what: String,
    /// Rows, or lists of a retriever.
    pub rows: u64,
    /// Share of positives of the first task; none where it was not counted, as for retrievers and streams.
    pub positive_share: Option<f64>,
    /// Users with both classes, over whom GAUC goes; for retrievers all users measured.
    pub users: Option<u64>,
    /// Users with one class only, whom GAUC leaves out.
    pub one_class_users: Option<u64>,
    /// Scores that are NaN.
    pub nan_scores: Option<u64>,
}

impl RunRecord {
    /// A run that has just ended.
    pub fn new(model: &ModelConfig, training: &TrainConfig, tasks: &[String], prepared: &Path) -> Self {
        // By way of text, so that single-precision numbers are shown as they were written.
        let as_written = |text: Result<String, serde_json::Error>| {
            text.and_then(|text| serde_json::from_str(&text)).unwrap_or_default()
        };
        Self {
            model: as_written(serde_json::to_string(model)),
            training: as_written(serde_json::to_string(training)),
            tasks: tasks.to_vec(),
            prepared: std::path::absolute(prepared).unwrap_or_else(|_| prepared.to_owned()),
            ..Self::default()
        }
    }

    /// The same with how it went.
    pub fn with_outcome(self, outcome: &Outcome) -> Self {
        Self {
            rows: outcome.rows,
            train_seconds: outcome.train_seconds,
            evaluate_seconds: outcome.evaluate_seconds,
            evaluations: outcome.evaluations.clone(),
            best: outcome.best.clone(),
            ..self
        }
    }

    /// The same with how a stream went: its points of progressive validation, and the part `progressive`.
    pub fn with_stream(self, outcome: &StreamOutcome) -> Self {
        let evaluation = |point: &Point| {
            let loss = *point.metrics.get("window.logloss")?;
            Some(Evaluation { epoch: 0, step: point.rows, loss, metrics: point.metrics.clone() })
        };
        let what = "every row of the stream, predicted before it was learned";
        let progressive = PartRecord::of_rows(outcome.metrics.clone(), outcome.rows, what);
        Self {
            rows: outcome.new_rows,
            train_seconds: outcome.seconds,
            evaluations: outcome.points.iter().filter_map(evaluation).collect(),
            parts: [("progressive".to_owned(), progressive)].into(),
            ..self
        }
    }

    /// Reads the record of a folder made by `train`, or by `recipe run --out`, whose run is in its folder `model`.
    ///
    /// # Errors
    /// There is none, or it does not read.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let places = [dir.join(RECORD), dir.join("model").join(RECORD)];
        let Some(path) = places.iter().find(|p| p.exists()) else {
            return Err(Error::Config(format!(
                "{}: holds no {RECORD}; name a folder that `train --out` or `recipe run --out` made and finished",
                dir.display()
            )));
        };
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Io { path: path.display().to_string(), source })?;
        serde_json::from_str(&text)
            .map_err(|e| Error::Corrupt(format!("{}: is not a run's record: {e}", path.display())))
    }

    /// Writes the record into the run's folder, whole or not at all.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn save(&self, dir: &Path) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::Corrupt(e.to_string()))?;
        Ok(millstream_data::write_text(&dir.join(RECORD), &text)?)
    }

    /// Rows per second of training.
    pub fn rows_per_second(&self) -> f64 {
        self.rows as f64 / self.train_seconds.max(1e-9)
    }

    /// The model's name.
    pub fn model_name(&self) -> &str {
        self.model.get("name").and_then(Value::as_str).unwrap_or("?")
    }
}

impl PartRecord {
    /// Of a ranker's scores, by task; `what` says in words which rows they are of.
    pub fn of_scores(tasks: &[String], scored: &[Scored], what: &str) -> Self {
        let reports: Vec<_> = scored.iter().map(Scored::report).collect();
        let mut out = Self {
            metrics: crate::eval::by_task(tasks, reports.iter().map(|r| r.values())),
            ..Self::default()
        };
        for ((task, scored), report) in tasks.iter().zip(scored).zip(&reports) {
            out.curves.insert(task.clone(), scored.curves(POINTS));
            out.deciles.insert(task.clone(), report.calibration.deciles.clone());
        }
        if let Some(first) = reports.first() {
            out.sample = SampleSpace {
                what: what.into(),
                rows: first.examples,
                positive_share: Some(first.positives as f64 / first.examples.max(1) as f64),
                users: Some(first.gauc.users),
                one_class_users: Some(first.gauc.one_class),
                nan_scores: Some(first.nan_scores),
            };
        }
        out
    }

    /// Of rows whose scores were not kept: of graded labels, or of a stream.
    pub fn of_rows(metrics: Metrics, rows: u64, what: &str) -> Self {
        Self {
            metrics,
            sample: SampleSpace { what: what.to_owned(), rows, ..SampleSpace::default() },
            ..Self::default()
        }
    }

    /// Of a retriever's lists.
    pub fn of_lists(metrics: Metrics, users: usize, what: &str) -> Self {
        let (rows, what) = (users as u64, what.to_owned());
        Self {
            metrics,
            sample: SampleSpace { what, rows, users: Some(rows), ..SampleSpace::default() },
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let (model, training) = (ModelConfig::named("deepfm"), TrainConfig::default());
        let mut record = RunRecord::new(&model, &training, &["click".into()], Path::new("prepared"));
        let mut scored = Scored::of_logits();
        scored.push(&[2.0, -1.0, 0.5], &[1.0, 0.0, 0.0], &[1, 1, 2], &[]);
        let part = PartRecord::of_scores(&["click".into()], &[scored], "all rows");
        assert_eq!((part.metrics["auc"], part.sample.one_class_users), (1.0, Some(1)));
        record.parts.insert("test".into(), part);
        record.save(dir.path()).unwrap();
        assert_eq!(RunRecord::open(dir.path()).unwrap(), record);
        assert_eq!(record.model_name(), "deepfm");
        assert!(record.prepared.is_absolute());
    }

    #[test]
    fn a_folder_without_a_record_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let said = RunRecord::open(dir.path()).unwrap_err().to_string();
        assert!(said.contains("holds no run.json"), "{said}");
        std::fs::create_dir(dir.path().join("model")).unwrap();
        std::fs::write(dir.path().join("model").join(RECORD), "[]x").unwrap();
        assert!(RunRecord::open(dir.path()).unwrap_err().to_string().contains("is not a run's record"));
    }
}
