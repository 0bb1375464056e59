//! Several tasks' probabilities to one score.

use std::collections::BTreeMap;

use millstream_schema::suggest;
use serde::{Deserialize, Serialize};

use crate::Error;

/// How task probabilities are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FuseKind {
    /// Σ wᵢ sᵢ.
    #[default]
    Sum,
    /// Π sᵢ^wᵢ.
    Product,
}

/// The `[fuse]` table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FuseConfig {
    /// How.
    pub kind: FuseKind,
    /// Weight of each task that counts. Empty: all count with weight 1; otherwise a task not named counts for
    /// nothing.
    pub weights: BTreeMap<String, f32>,
}

/// A checked [`FuseConfig`] for a scorer's tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct Fuse {
    kind: FuseKind,
    weights: Vec<f32>,
}

impl Fuse {
    /// For these tasks, in the scorer's order.
    ///
    /// # Errors
    /// A weight names no task, or is not a finite number.
    pub fn new(config: &FuseConfig, tasks: &[String]) -> Result<Self, Error> {
        for (name, weight) in &config.weights {
            if !tasks.contains(name) {
                let valid: Vec<&str> = tasks.iter().map(String::as_str).collect();
                let problem = suggest::unknown("task", name, valid.iter().copied());
                return Err(Error::Config(format!("fuse.weights: {problem}")));
            }
            if !weight.is_finite() {
                return Err(Error::Config(format!(
                    "fuse.weights: the weight of `{name}` is not a finite number"
                )));
            }
        }
        let fallback = if config.weights.is_empty() { 1.0 } else { 0.0 };
        let weights = tasks.iter().map(|t| config.weights.get(t).copied().unwrap_or(fallback)).collect();
        Ok(Self { kind: config.kind, weights })
    }

    /// The score of one candidate's T probabilities.
    pub fn score(&self, probabilities: &[f32]) -> f32 {
        let pairs = probabilities.iter().zip(&self.weights);
        match self.kind {
            FuseKind::Sum => pairs.filter(|(_, w)| **w != 0.0).map(|(s, w)| s * w).sum(),
            FuseKind::Product => pairs.filter(|(_, w)| **w != 0.0).map(|(s, w)| s.powf(*w)).product(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fuse(kind: FuseKind, weights: &[(&str, f32)]) -> Result<Fuse, Error> {
        let weights = weights.iter().map(|(n, w)| ((*n).to_owned(), *w)).collect();
        Fuse::new(&FuseConfig { kind, weights }, &["click".into(), "like".into()])
    }

    #[test]
    fn sums_and_products_follow_their_formulas() {
        assert!((fuse(FuseKind::Sum, &[]).unwrap().score(&[0.25, 0.5]) - 0.75).abs() < 1e-6);
        let sum = fuse(FuseKind::Sum, &[("click", 2.0), ("like", -1.0)]).unwrap();
        assert!((sum.score(&[0.25, 0.1]) - 0.4).abs() < 1e-6);
        let product = fuse(FuseKind::Product, &[("click", 0.5), ("like", 2.0)]).unwrap();
        assert!((product.score(&[0.25, 0.5]) - 0.125).abs() < 1e-6);
    }

    #[test]
    fn a_task_without_weight_does_not_count_even_when_it_is_not_a_number() {
        assert_eq!(fuse(FuseKind::Sum, &[("like", 1.0)]).unwrap().score(&[f32::NAN, 0.5]), 0.5);
        assert_eq!(fuse(FuseKind::Product, &[("like", 1.0)]).unwrap().score(&[f32::NAN, 0.5]), 0.5);
    }

    #[test]
    fn unknown_tasks_are_answered_with_the_nearest() {
        let err = fuse(FuseKind::Sum, &[("clik", 1.0)]).unwrap_err().to_string();
        assert!(err.contains("did you mean `click`"), "{err}");
        assert!(fuse(FuseKind::Sum, &[("click", f32::NAN)]).is_err());
    }
}
