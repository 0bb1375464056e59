//! All metrics of one task's scores.

use std::collections::BTreeMap;

use serde::Serialize;

use super::calibration::calibration;
use super::{Calibration, Gauc, auc, gauc, logloss};

/// Gathers the probabilities of one task batch by batch: 12 bytes per example, 16 with weights.
#[derive(Debug, Clone, Default)]
pub struct Scored {
    probabilities: Vec<f32>,
    labels: Vec<f32>,
    groups: Vec<u32>,
    weights: Vec<f32>,
}

/// What [`Scored`] comes to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoredReport {
    /// Examples.
    pub examples: u64,
    /// Those with a positive label.
    pub positives: u64,
    /// Scores that are NaN: ranked last, and the lowest probability to the loss.
    pub nan_scores: u64,
    /// Area under the ROC curve; `None` when one class is missing.
    pub auc: Option<f64>,
    /// The same within each user.
    pub gauc: Gauc,
    /// Mean logarithmic loss in nats.
    pub logloss: Option<f64>,
    /// Predicted against observed.
    pub calibration: Calibration,
}

impl Scored {
    /// Adds examples: probabilities, labels and groups (users) are `[N]`; `weights` is `[N]`, or empty when all
    /// are 1.
    pub fn push(&mut self, probabilities: &[f32], labels: &[f32], groups: &[u32], weights: &[f32]) {
        if !weights.is_empty() || !self.weights.is_empty() {
            self.weights.resize(self.labels.len(), 1.0);
            self.weights.extend_from_slice(weights);
            self.weights.resize(self.labels.len() + labels.len(), 1.0);
        }
        self.probabilities.extend_from_slice(probabilities);
        self.labels.extend_from_slice(labels);
        self.groups.extend_from_slice(groups);
    }

    /// Adds the examples of another.
    pub fn append(&mut self, other: &Self) {
        self.push(&other.probabilities, &other.labels, &other.groups, &other.weights);
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// All metrics.
    pub fn report(&self) -> ScoredReport {
        let (p, y, w) = (&self.probabilities, &self.labels, &self.weights);
        let area = auc::weighted(p, y, w);
        ScoredReport {
            examples: area.positives + area.negatives,
            positives: area.positives,
            nan_scores: area.nan_scores,
            auc: area.value,
            gauc: gauc::weighted(p, y, &self.groups, w),
            logloss: logloss::weighted(p, y, w).value,
            calibration: calibration(p, y, w),
        }
    }
}

impl ScoredReport {
    /// The metrics that could be computed, by key: `auc`, `gauc`, `logloss`, `calibration`.
    pub fn values(&self) -> BTreeMap<String, f64> {
        let all = [
            ("auc", self.auc),
            ("gauc", self.gauc.value),
            ("logloss", self.logloss),
            ("calibration", self.calibration.ratio),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_add_up_and_weights_may_come_late() {
        let mut parts = Scored::default();
        parts.push(&[0.9, 0.4], &[1.0, 0.0], &[1, 1], &[]);
        parts.push(&[0.3, 0.7], &[1.0, 0.0], &[2, 2], &[2.0, 1.0]);
        parts.push(&[0.5], &[0.0], &[3], &[]);
        let mut whole = Scored::default();
        whole.push(
            &[0.9, 0.4, 0.3, 0.7, 0.5],
            &[1.0, 0.0, 1.0, 0.0, 0.0],
            &[1, 1, 2, 2, 3],
            &[1.0, 1.0, 2.0, 1.0, 1.0],
        );
        assert_eq!(parts.report(), whole.report());
        let report = whole.report();
        assert_eq!(
            (report.examples, report.positives, report.gauc.users, report.gauc.one_class),
            (5, 2, 2, 1)
        );
        assert_eq!(report.gauc.value, Some(0.4));
        let keys: Vec<String> = report.values().into_keys().collect();
        assert_eq!(keys, ["auc", "calibration", "gauc", "logloss"]);
    }

    #[test]
    fn what_cannot_be_computed_is_left_out() {
        assert!(Scored::default().report().values().is_empty());
        let mut one_class = Scored::default();
        one_class.push(&[0.2, f32::NAN], &[0.0, 0.0], &[1, 2], &[]);
        let report = one_class.report();
        assert_eq!(report.nan_scores, 1);
        assert_eq!(report.values().into_keys().collect::<Vec<_>>(), ["logloss"]);
    }
}
