//! What a `[training]` table says.

mod means;
mod optimiser;
mod task_weights;

use millstream_models::retriever::Scope;
use millstream_nn::loss::TaskLoss;
use millstream_nn::{LookAhead, Schedule};
use millstream_store::RowType;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::Error;
use crate::frequency::FrequencyConfig;
use crate::positives::Past;

pub use crate::average::AverageConfig;
pub use means::check_keys;
pub use optimiser::{AdmissionConfig, DenseConfig, DenseOptimizer, ExpiryConfig, RowOptimizer, RowsConfig};
pub use task_weights::{TaskWeights, WeightMethod};

/// How a model is trained. Every key has a default; an unknown one is an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// How the rows are gone through.
    pub mode: TrainMode,
    /// What one update is made from.
    pub updates: Updates,
    /// Streams: rows of the sliding window of progressive validation.
    pub window: u64,
    /// Candidates per step (whole requests are kept together); of models that learn from whole sequences, sequences.
    pub batch_size: usize,
    /// Passes over the training rows, at most.
    pub epochs: u32,
    /// Seeds fresh weights, the order of rows, dropout and sampled negatives.
    pub seed: u64,
    /// Optimiser of the dense weights.
    pub dense: DenseConfig,
    /// Optimiser of the embedding rows.
    pub rows: RowsConfig,
    /// Optimisers of parameter groups, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, GroupConfig>,
    /// Factor of all learning rates over the steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// What rankers are trained for; retrievers have their own.
    pub loss: TaskLoss,
    /// Losses of single tasks, by name, in place of `loss`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub losses: BTreeMap<String, TaskLoss>,
    /// What the losses of several tasks count beside each other.
    #[serde(skip_serializing_if = "TaskWeights::is_default")]
    pub task_weights: TaskWeights,
    /// Slow copies of the dense weights that follow the fast ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookahead: Option<LookAhead>,
    /// A moving average of all weights, which is judged and saved in their place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average: Option<AverageConfig>,
    /// Adversarial moves of the embeddings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fgm: Option<FgmConfig>,
    /// Dense weights that stay as they are: names, or beginnings of names up to a dot.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<String>,
    /// Whether each epoch begins with fresh embedding rows; dense weights are kept.
    pub reset_rows_each_epoch: bool,
    /// All gradients of a step together are scaled down to this norm.
    pub clip_norm: Option<f32>,
    /// Metric on the validation split that says which epoch is best, such as `auc` or `recall@50`.
    pub monitor: Option<String>,
    /// Evaluations without a better one before training stops.
    pub patience: u32,
    /// Factor on both learning rates after each evaluation without a better one.
    pub reduce_on_plateau: Option<f32>,
    /// Steps between evaluations; each epoch's end when absent.
    pub evaluate_every: Option<u64>,
    /// Steps between checkpoints; each evaluation when absent.
    pub checkpoint_every: Option<u64>,
    /// Retrievers: items drawn per step (or sequence, or element: see `negatives_for`) in addition to the batch's own
    /// positives.
    pub negatives: usize,
    /// Retrievers that learn from whole sequences: which elements a drawn item is compared with.
    pub negatives_for: Scope,
    /// Retrievers: whether the other positives of a batch are negatives too. Models of whole sequences have an option of their own.
    pub in_batch: bool,
    /// Retrievers: what the log-Q correction counts: 1 takes an item's log-probability of being a negative off its score, 0 takes off
    /// nothing, so that items met often are held down.
    pub log_q_weight: f32,
    /// Retrievers: negatives are drawn with probability ∝ (positives + 1)^power.
    pub negative_power: f64,
    /// Retrievers that learn from single positives cut from whole sequences: what a positive's request knows of its user.
    pub history: Past,
    /// Retrievers: how often items are in a batch is estimated from the batches as they come, in place of counting all positives beforehand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency: Option<FrequencyConfig>,
    /// Retrievers of single positives: hard negatives that a serving chain's log names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hard_negatives: Option<HardNegatives>,
    /// Retrievers: what may serve as a negative. Only `sampled` is right; see the error of the other.
    pub negative_source: NegativeSource,
    /// Users whose lists are ranked at each validation of a retriever; all when absent.
    pub validation_users: Option<usize>,
}

/// `[training.hard_negatives]`: what recall found for a user, ranking left behind, and the user never took (Huang et al., KDD 2020, §6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HardNegatives {
    /// The log, as `[passed_over]` of a run has it written, or `recall mine`.
    pub file: PathBuf,
    /// Drawn for each positive from its user's record nearest in time, above 0; a negative of that positive alone.
    #[serde(default = "one")]
    pub each: usize,
}

fn one() -> usize {
    1
}

/// Where a retriever's negatives come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NegativeSource {
    /// The other positives of the batch, and items sampled from the whole catalogue.
    Sampled,
    /// Impressions without a click: refused.
    Exposed,
}

/// How the rows are gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainMode {
    /// So often, in a new order each time, judged on the validation split.
    #[default]
    Epochs,
    /// Once, in the order of the files; every batch is predicted before it is learned.
    Stream,
}

/// What one update of the weights is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Updates {
    /// The mean gradient of a batch.
    #[default]
    Batch,
    /// Each row by itself, in order; for rankers with a sample-at-a-time kernel.
    Row,
}

/// Fast gradient method: a second pass over a batch whose embeddings are moved where the loss rises most
/// (Miyato et al. 2017).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FgmConfig {
    /// Length of the move of each table's rows of a batch, above 0.
    pub epsilon: f32,
}

/// `[training.groups.NAME]`: optimisers of one parameter group of a model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GroupConfig {
    /// Optimiser of its dense weights; that of the others when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dense: Option<DenseConfig>,
    /// Optimiser of its embedding rows; that of the others when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<RowsConfig>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            mode: TrainMode::Epochs,
            updates: Updates::Batch,
            window: 10_000,
            batch_size: 4096,
            epochs: 10,
            seed: 1,
            dense: DenseConfig::default(),
            rows: RowsConfig::default(),
            groups: BTreeMap::new(),
            schedule: None,
            loss: TaskLoss::default(),
            losses: BTreeMap::new(),
            task_weights: TaskWeights::default(),
            lookahead: None,
            average: None,
            fgm: None,
            freeze: Vec::new(),
            reset_rows_each_epoch: false,
            clip_norm: None,
            monitor: None,
            patience: 2,
            reduce_on_plateau: None,
            evaluate_every: None,
            checkpoint_every: None,
            negatives: 512,
            negatives_for: Scope::Batch,
            in_batch: true,
            log_q_weight: 1.0,
            negative_power: 0.75,
            history: Past::Before,
            frequency: None,
            hard_negatives: None,
            negative_source: NegativeSource::Sampled,
            validation_users: Some(2000),
        }
    }
}

impl TrainConfig {
    /// Checks ranges.
    ///
    /// # Errors
    /// Names the key and what it must be.
    pub fn check(&self) -> Result<(), Error> {
        let rate = |key: &str, x: f32| {
            if x.is_finite() && x > 0.0 { Ok(()) } else { Err(key_error(key, "a number above 0", x)) }
        };
        self.check_optimisers()?;
        self.task_weights.check(self.fgm.is_some())?;
        self.check_updates()?;
        self.check_mode()?;
        self.check_average()?;
        self.frequency.map_or(Ok(()), |frequency| frequency.check())?;
        if let Some(fgm) = self.fgm {
            rate("fgm.epsilon", fgm.epsilon)?;
        }
        if let Some(norm) = self.clip_norm {
            rate("clip_norm", norm)?;
        }
        if let Some(factor) = self.reduce_on_plateau
            && !(factor > 0.0 && factor < 1.0)
        {
            return Err(key_error("reduce_on_plateau", "between 0 and 1", factor));
        }
        for (key, n) in [
            ("batch_size", self.batch_size as u64),
            ("epochs", u64::from(self.epochs)),
            ("window", self.window),
        ] {
            if n == 0 {
                return Err(key_error(key, "above 0", n));
            }
        }
        for (key, n) in [("evaluate_every", self.evaluate_every), ("checkpoint_every", self.checkpoint_every)]
        {
            if n == Some(0) {
                return Err(key_error(key, "above 0", 0));
            }
        }
        if !(0.0..=2.0).contains(&self.negative_power) {
            return Err(key_error("negative_power", "between 0 and 2", self.negative_power));
        }
        if !(0.0..=1.0).contains(&self.log_q_weight) {
            return Err(key_error("log_q_weight", "between 0 and 1", self.log_q_weight));
        }
        if self.hard_negatives.as_ref().is_some_and(|hard| hard.each == 0) {
            return Err(key_error("hard_negatives.each", "above 0", 0));
        }
        if !self.in_batch && self.negatives == 0 {
            return Err(Error::Config(
                "training.in_batch: without the batch's other positives, `negatives` must be above 0".into(),
            ));
        }
        if self.negative_source == NegativeSource::Exposed {
            return Err(Error::Config(
                "training.negative_source: exposed-not-clicked rows never train recall: they were already \
                 chosen for this user, so a retriever taught to reject them unlearns what recall is for; \
                 use \"sampled\""
                    .into(),
            ));
        }
        Ok(())
    }

    /// Negatives that each positive has for itself.
    pub fn own_negatives(&self) -> usize {
        self.hard_negatives.as_ref().map_or(0, |hard| hard.each)
    }

    /// Key of the metric that says which evaluation is best: `monitor`, or the first usual one that was measured; where lists
    /// are measured at none of the usual cut-offs, NDCG at the smallest.
    pub fn monitored<'a>(&'a self, metrics: &'a BTreeMap<String, f64>) -> &'a str {
        let cut = |key: &String| key.strip_prefix("ndcg@")?.parse::<usize>().ok();
        let smallest = || metrics.keys().filter_map(|key| Some((cut(key)?, key.as_str()))).min();
        let usual = || {
            let usual = ["auc", "ndcg@10", "recall@50", "logloss"];
            usual.into_iter().find(|k| metrics.contains_key(*k)).or_else(|| Some(smallest()?.1))
        };
        self.monitor.as_deref().or_else(usual).unwrap_or("auc")
    }

    fn check_average(&self) -> Result<(), Error> {
        let Some(average) = self.average else { return Ok(()) };
        average.check()?;
        let groups = self.groups.values().filter_map(|group| group.rows.as_ref());
        let mut rows = groups.chain([&self.rows]);
        match rows.any(|rows| !rows.stays_f32()) {
            true => Err(Error::Config(
                "training.average is of f32 rows that stay; it cannot go with `expiry` or another `dtype`"
                    .into(),
            )),
            false => Ok(()),
        }
    }

    fn check_optimisers(&self) -> Result<(), Error> {
        self.dense.check("dense")?;
        self.rows.check("rows")?;
        for (name, group) in &self.groups {
            if let Some(dense) = &group.dense {
                dense.check(&format!("groups.{name}.dense"))?;
            }
            if let Some(rows) = &group.rows {
                rows.check(&format!("groups.{name}.rows"))?;
            }
            if group.dense.is_none() && group.rows.is_none() {
                return Err(Error::Config(format!(
                    "training.groups.{name} says nothing; give it `dense` or `rows`"
                )));
            }
        }
        let place =
            |key: String| move |e: millstream_nn::Error| Error::Config(format!("training.{key}: {e}"));
        self.lookahead.map_or(Ok(()), |l| l.check().map_err(place("lookahead".into())))?;
        self.schedule.map_or(Ok(()), |s| s.check().map_err(place("schedule".into())))?;
        self.loss.check().map_err(place("loss".into()))?;
        self.losses.iter().try_for_each(|(task, loss)| loss.check().map_err(place(format!("losses.{task}"))))
    }

    /// What goes by epochs or by a validation split says nothing to a stream.
    fn check_mode(&self) -> Result<(), Error> {
        if self.mode == TrainMode::Epochs {
            return Ok(());
        }
        let set = [
            ("average", self.average.is_some()),
            ("monitor", self.monitor.is_some()),
            ("evaluate_every", self.evaluate_every.is_some()),
            ("reduce_on_plateau", self.reduce_on_plateau.is_some()),
            ("reset_rows_each_epoch", self.reset_rows_each_epoch),
        ];
        match set.into_iter().find(|(_, set)| *set) {
            Some((key, _)) => Err(Error::Config(format!(
                "training.{key} means nothing in mode = \"stream\", which has no epochs and no validation split"
            ))),
            None if self.schedule.is_some_and(|s| s.needs_total()) => Err(Error::Config(
                "training.schedule: where a stream ends is not known beforehand; give `total_steps`".into(),
            )),
            None => Ok(()),
        }
    }

    /// Updates row by row are plain steps of the optimisers: nothing that works on a whole batch goes with them.
    fn check_updates(&self) -> Result<(), Error> {
        if self.updates == Updates::Batch {
            return Ok(());
        }
        let groups = self
            .groups
            .iter()
            .filter_map(|(name, g)| Some((format!("groups.{name}.rows"), g.rows.as_ref()?)));
        for (place, rows) in groups.chain([("rows".to_owned(), &self.rows)]) {
            if rows.every_step {
                return Err(Error::Config(format!(
                    "training.{place}.every_step moves whole tables at each step and cannot go with updates = \"row\""
                )));
            }
            if rows.dtype != RowType::F32 {
                return Err(Error::Config(format!(
                    "training.{place}.dtype: updates = \"row\" changes rows where they lie, which takes \"f32\""
                )));
            }
        }
        let set = [
            ("loss", self.loss != TaskLoss::default()),
            ("losses", !self.losses.is_empty()),
            ("task_weights", !self.task_weights.is_default()),
            ("schedule", self.schedule.is_some()),
            ("reduce_on_plateau", self.reduce_on_plateau.is_some()),
            ("lookahead", self.lookahead.is_some()),
            ("fgm", self.fgm.is_some()),
            ("clip_norm", self.clip_norm.is_some()),
            ("freeze", !self.freeze.is_empty()),
        ];
        match set.into_iter().find(|(_, set)| *set) {
            Some((key, _)) => Err(Error::Config(format!(
                "training.{key} works on whole batches and cannot go with updates = \"row\""
            ))),
            None => Ok(()),
        }
    }
}

fn key_error(key: &str, expected: &str, got: impl std::fmt::Display) -> Error {
    Error::Config(format!("training.{key} must be {expected}, not {got}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_bad_values_name_their_key() {
        TrainConfig::default().check().unwrap();
        let bad = TrainConfig { batch_size: 0, ..TrainConfig::default() };
        assert_eq!(bad.check().unwrap_err().to_string(), "training.batch_size must be above 0, not 0");
    }

    #[test]
    fn what_every_step_and_bf16_do_not_go_with_is_refused_by_key() {
        let said = |config: &TrainConfig| config.check().unwrap_err().to_string();
        let every = RowsConfig { every_step: true, ..RowsConfig::default() };
        let bf16 = RowsConfig { dtype: RowType::Bf16, ..RowsConfig::default() };
        let row = TrainConfig { updates: Updates::Row, ..TrainConfig::default() };
        assert!(
            said(&TrainConfig { rows: every.clone(), ..row.clone() }).contains("training.rows.every_step")
        );
        assert!(said(&TrainConfig { rows: bf16, ..row.clone() }).contains("training.rows.dtype"));
        let group = GroupConfig { rows: Some(every.clone()), ..GroupConfig::default() };
        let groups = BTreeMap::from([("wide".to_owned(), group)]);
        assert!(said(&TrainConfig { groups, ..row }).contains("training.groups.wide.rows.every_step"));
        let expiry = Some(ExpiryConfig { max_age: Some(9), ..ExpiryConfig::default() });
        let expired = TrainConfig { rows: RowsConfig { expiry, ..every }, ..TrainConfig::default() };
        assert!(said(&expired).contains("training.rows.expiry"));
    }

    #[test]
    fn the_usual_metric_is_one_that_was_measured() {
        let metrics = |keys: &[&str]| keys.iter().map(|k| ((*k).to_owned(), 0.5)).collect::<BTreeMap<_, _>>();
        let usual = TrainConfig::default();
        assert_eq!(usual.monitored(&metrics(&["logloss", "auc"])), "auc");
        assert_eq!(usual.monitored(&metrics(&["ndcg@20", "ndcg@5", "recall@5"])), "ndcg@5");
        assert_eq!(usual.monitored(&metrics(&["ndcg@20", "ndcg@10"])), "ndcg@10");
    }

    #[test]
    fn exposed_negatives_are_refused_with_the_reason() {
        let bad = TrainConfig { negative_source: NegativeSource::Exposed, ..TrainConfig::default() };
        assert!(bad.check().unwrap_err().to_string().contains("never train recall"));
    }
}
