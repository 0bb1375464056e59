//! `[training.task_weights]`: what the losses of several tasks count beside each other.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::key_error;
use crate::Error;

/// How the weights w_t of Σ_t w_t L_t are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightMethod {
    /// As written; 1 for a task that is not named.
    #[default]
    Fixed,
    /// Homoscedastic uncertainty (Kendall et al., CVPR 2018): Σ_t L_t / (2 σ_t²) + log σ_t, where the dense optimiser
    /// learns log σ_t². The paper has L_t / σ_t² for classification; σ_t² takes up the factor.
    Uncertainty,
    /// GradNorm (Chen et al., ICML 2018): the norms of ∂(w_t L_t)/∂W over shared weights W are pulled to their mean times
    /// r_t^alpha, r_t being how little of its first loss task t has lost, relative to the mean of the tasks.
    GradNorm,
}

/// The table as written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskWeights {
    /// How the weights are found.
    pub method: WeightMethod,
    /// Fixed weights by task, 0 or above; those of a `[[task]]` end up here.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, f32>,
    /// GradNorm: how strongly a task that learns slowly is helped, 0 or above; 1.5 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f32>,
    /// GradNorm: step of the weights, above 0; 0.025 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f32>,
    /// GradNorm: the shared weights W, by name or beginning of a name up to a dot; when empty, all dense weights of which
    /// some number gets a gradient from more than one task.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shared: Vec<String>,
}

impl TaskWeights {
    /// Whether all tasks count the same.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// GradNorm's α.
    pub fn alpha(&self) -> f32 {
        self.alpha.unwrap_or(1.5)
    }

    /// GradNorm's step.
    pub fn learning_rate(&self) -> f32 {
        self.learning_rate.unwrap_or(0.025)
    }

    /// Ranges, and keys of another method; `fgm`: whether there is a second pass over each batch.
    pub(super) fn check(&self, fgm: bool) -> Result<(), Error> {
        let set = [
            ("weights", !self.weights.is_empty(), WeightMethod::Fixed, "fixed"),
            ("alpha", self.alpha.is_some(), WeightMethod::GradNorm, "grad_norm"),
            ("learning_rate", self.learning_rate.is_some(), WeightMethod::GradNorm, "grad_norm"),
            ("shared", !self.shared.is_empty(), WeightMethod::GradNorm, "grad_norm"),
        ];
        if let Some((key, .., method)) = set.into_iter().find(|(_, set, of, _)| *set && *of != self.method) {
            return Err(Error::Config(format!(
                "training.task_weights.{key} goes with method = \"{method}\" only (a [[task]]'s `weight` is a fixed one)"
            )));
        }
        if let Some((task, w)) = self.weights.iter().find(|(_, w)| !(w.is_finite() && **w >= 0.0)) {
            return Err(key_error(&format!("task_weights.weights.{task}"), "0 or above", w));
        }
        if !(self.alpha().is_finite() && self.alpha() >= 0.0) {
            return Err(key_error("task_weights.alpha", "0 or above", self.alpha()));
        }
        if !(self.learning_rate().is_finite() && self.learning_rate() > 0.0) {
            return Err(key_error("task_weights.learning_rate", "above 0", self.learning_rate()));
        }
        if fgm && self.method == WeightMethod::GradNorm {
            return Err(Error::Config(
                "training.task_weights: \"grad_norm\" takes the gradients of each task, and fgm those of a second \
                 pass over all; take one of them"
                    .into(),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_belong_to_their_method_and_values_to_their_range() {
        let said = |text: &str, fgm| {
            let table: TaskWeights = toml::from_str(text).unwrap();
            table.check(fgm).err().map_or_else(String::new, |e| e.to_string())
        };
        assert_eq!(said("method = \"fixed\"\nweights = { a = 0.5 }", true), "");
        assert_eq!(said("method = \"grad_norm\"\nalpha = 0.0\nshared = [\"bottom\"]", false), "");
        for (text, wanted) in [
            ("method = \"uncertainty\"\nweights = { a = 1.0 }", "weights goes with method = \"fixed\" only"),
            ("alpha = 1.0", "alpha goes with method = \"grad_norm\" only"),
            ("weights = { a = -1.0 }", "task_weights.weights.a must be 0 or above, not -1"),
            ("method = \"grad_norm\"\nalpha = -0.5", "alpha must be 0 or above"),
            ("method = \"grad_norm\"\nlearning_rate = 0.0", "learning_rate must be above 0"),
        ] {
            assert!(said(text, false).contains(wanted), "{text}: {}", said(text, false));
        }
        assert!(said("method = \"grad_norm\"", true).contains("fgm"));
        assert!(toml::from_str::<TaskWeights>("method = \"gradnorm\"").is_err());
    }
}
