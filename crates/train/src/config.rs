//! What a `[training]` table says.

use serde::{Deserialize, Serialize};

use crate::Error;

/// How a model is trained. Every key has a default; an unknown one is an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Candidates per step (whole requests are kept together).
    pub batch_size: usize,
    /// Passes over the training rows, at most.
    pub epochs: u32,
    /// Seeds fresh weights, the order of rows, dropout and sampled negatives.
    pub seed: u64,
    /// Optimiser of the dense weights.
    pub dense: DenseConfig,
    /// Optimiser of the embedding rows.
    pub rows: RowsConfig,
    /// Gradients of the dense weights are scaled down to this norm.
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
    /// Retrievers: items drawn per step in addition to the batch's own positives.
    pub negatives: usize,
    /// Retrievers: negatives are drawn with probability ∝ (positives + 1)^power.
    pub negative_power: f64,
    /// Retrievers: what may serve as a negative. Only `sampled` is right; see the error of the other.
    pub negative_source: NegativeSource,
    /// Users whose lists are ranked at each validation of a retriever; all when absent.
    pub validation_users: Option<usize>,
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

/// Optimiser of the dense weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DenseConfig {
    /// `adam`, `adamw`, `adagrad` or `sgd`.
    pub optimizer: DenseOptimizer,
    /// Step size.
    pub learning_rate: f32,
    /// L2 penalty (decoupled decay for `adamw`).
    pub l2: f32,
}

/// Optimisers of dense weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DenseOptimizer {
    /// Kingma & Ba 2015.
    Adam,
    /// Loshchilov & Hutter 2019.
    AdamW,
    /// Duchi et al. 2011.
    AdaGrad,
    /// Plain gradient descent.
    Sgd,
}

/// Optimiser of the embedding rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RowsConfig {
    /// `adagrad` (row-wise), `adam` (lazy) or `sgd`.
    pub optimizer: RowOptimizer,
    /// Step size.
    pub learning_rate: f32,
    /// L2 penalty on the rows that a batch touches.
    pub l2: f32,
}

/// Optimisers of embedding rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowOptimizer {
    /// Row-wise AdaGrad: one accumulator per row.
    AdaGrad,
    /// Lazy Adam: moments move only when the row is touched.
    Adam,
    /// Plain gradient descent.
    Sgd,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            batch_size: 4096,
            epochs: 10,
            seed: 1,
            dense: DenseConfig::default(),
            rows: RowsConfig::default(),
            clip_norm: None,
            monitor: None,
            patience: 2,
            reduce_on_plateau: None,
            evaluate_every: None,
            checkpoint_every: None,
            negatives: 512,
            negative_power: 0.75,
            negative_source: NegativeSource::Sampled,
            validation_users: Some(2000),
        }
    }
}

impl Default for DenseConfig {
    fn default() -> Self {
        Self { optimizer: DenseOptimizer::Adam, learning_rate: 1e-3, l2: 0.0 }
    }
}

impl Default for RowsConfig {
    fn default() -> Self {
        Self { optimizer: RowOptimizer::Adam, learning_rate: 1e-3, l2: 0.0 }
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
        rate("dense.learning_rate", self.dense.learning_rate)?;
        rate("rows.learning_rate", self.rows.learning_rate)?;
        for (key, x) in [("dense.l2", self.dense.l2), ("rows.l2", self.rows.l2)] {
            if !(x.is_finite() && x >= 0.0) {
                return Err(key_error(key, "a number of at least 0", x));
            }
        }
        if let Some(norm) = self.clip_norm {
            rate("clip_norm", norm)?;
        }
        if let Some(factor) = self.reduce_on_plateau
            && !(factor > 0.0 && factor < 1.0)
        {
            return Err(key_error("reduce_on_plateau", "between 0 and 1", factor));
        }
        for (key, n) in [("batch_size", self.batch_size), ("epochs", self.epochs as usize)] {
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
    fn exposed_negatives_are_refused_with_the_reason() {
        let bad = TrainConfig { negative_source: NegativeSource::Exposed, ..TrainConfig::default() };
        assert!(bad.check().unwrap_err().to_string().contains("never train recall"));
    }
}
