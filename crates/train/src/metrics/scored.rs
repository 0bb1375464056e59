//! All metrics of one task's scores.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::calibration::calibration;
use super::{BestF1, Calibration, Confusion, Curve, Decile, Gauc, Reliability, auc, gauc, logloss};

/// Bins of the expected calibration error.
const ECE_BINS: usize = 15;
/// Bins of the reliability chart.
const CHART_BINS: usize = 20;

/// Gathers the scores of one task batch by batch: 12 bytes per example, 16 with weights.
///
/// Parts gathered on several threads are joined with [`Self::append`], in the order of the data: then the metrics are
/// those of one pass, bit for bit.
#[derive(Debug, Clone, Default)]
pub struct Scored {
    logits: bool,
    scores: Vec<f32>,
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
    /// The loss divided by that of always saying the mean label.
    pub ne: Option<f64>,
    /// Area under the precision-recall curve, as steps.
    pub pr_auc: Option<f64>,
    /// F1 when a probability of at least 0.5 means yes.
    pub f1: Option<f64>,
    /// The best threshold by F1.
    pub best_f1: Option<BestF1>,
    /// Expected calibration error over fifteen equal widths of probability.
    pub ece: Option<f64>,
    /// Predicted against observed.
    pub calibration: Calibration,
}

/// Points to draw.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Curves {
    /// False positive rate and true positive rate.
    pub roc: Vec<(f64, f64)>,
    /// Recall and precision.
    pub precision_recall: Vec<(f64, f64)>,
    /// By twentieth of probability: examples, mean probability, mean label.
    pub reliability: Vec<Decile>,
}

impl Scored {
    /// For scores that are logits: the order and the loss are then those before squashing, without its rounding.
    pub fn of_logits() -> Self {
        Self { logits: true, ..Self::default() }
    }

    /// Adds examples: probabilities (or logits), labels and groups (users) are `[N]`; `weights` is `[N]`, or empty
    /// when all are 1. An example whose label is NaN, being outside of its task's space, is left out.
    pub fn push(&mut self, scores: &[f32], labels: &[f32], groups: &[u32], weights: &[f32]) {
        if labels.iter().any(|y| y.is_nan()) {
            fn inside<T: Copy>(labels: &[f32], from: &[T]) -> Vec<T> {
                from.iter().zip(labels).filter(|(_, y)| !y.is_nan()).map(|(x, _)| *x).collect()
            }
            let (scores, weights) = (inside(labels, scores), inside(labels, weights));
            return self.push(&scores, &inside(labels, labels), &inside(labels, groups), &weights);
        }
        if !weights.is_empty() || !self.weights.is_empty() {
            self.weights.resize(self.labels.len(), 1.0);
            self.weights.extend_from_slice(weights);
            self.weights.resize(self.labels.len() + labels.len(), 1.0);
        }
        self.scores.extend_from_slice(scores);
        self.labels.extend_from_slice(labels);
        self.groups.extend_from_slice(groups);
    }

    /// Adds the examples of another with the same kind of scores.
    ///
    /// # Panics
    /// When one holds logits and the other probabilities: both come from the caller's own code.
    pub fn append(&mut self, other: &Self) {
        assert!(self.logits == other.logits, "logits and probabilities cannot be joined");
        self.push(&other.scores, &other.labels, &other.groups, &other.weights);
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The probabilities, squashed if need be.
    pub fn probabilities(&self) -> Vec<f32> {
        let squash = |x: &f32| (1.0 / (1.0 + (-f64::from(*x)).exp())) as f32;
        if self.logits { self.scores.iter().map(squash).collect() } else { self.scores.clone() }
    }

    /// AUC, GAUC and log-loss by key: what one looks at after each epoch.
    pub fn brief(&self) -> BTreeMap<String, f64> {
        let (x, y, w) = (&self.scores, &self.labels, &self.weights);
        let all = [
            ("auc", auc::weighted(x, y, w).value),
            ("gauc", gauc::weighted(x, y, &self.groups, w).value),
            ("logloss", self.loss()),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }

    fn loss(&self) -> Option<f64> {
        let of = if self.logits { logloss::weighted_from_logits } else { logloss::weighted };
        of(&self.scores, &self.labels, &self.weights).value
    }

    /// All metrics.
    pub fn report(&self) -> ScoredReport {
        let (x, y, w, p) = (&self.scores, &self.labels, &self.weights, self.probabilities());
        let area = auc::weighted(x, y, w);
        let curve = Curve::new(x, y, w);
        let squash = |best: BestF1| BestF1 { threshold: self.probability(best.threshold), ..best };
        let logloss = self.loss();
        ScoredReport {
            examples: area.positives + area.negatives,
            positives: area.positives,
            nan_scores: area.nan_scores,
            auc: area.value,
            gauc: gauc::weighted(x, y, &self.groups, w),
            logloss,
            ne: logloss.and_then(|loss| self.normalised(loss)),
            pr_auc: curve.average_precision(),
            f1: Confusion::at(0.5, &p, y, w).f1(),
            best_f1: curve.best_f1().map(squash),
            ece: self.reliability(&p, ECE_BINS).error(),
            calibration: calibration(&p, y, w),
        }
    }

    /// Points to draw; ROC and precision-recall have at most about `most`.
    pub fn curves(&self, most: usize) -> Curves {
        let curve = Curve::new(&self.scores, &self.labels, &self.weights);
        Curves {
            roc: curve.roc(most),
            precision_recall: curve.precision_recall(most),
            reliability: self.reliability(&self.probabilities(), CHART_BINS).points(),
        }
    }

    fn probability(&self, score: f32) -> f32 {
        if self.logits { (1.0 / (1.0 + (-f64::from(score)).exp())) as f32 } else { score }
    }

    fn normalised(&self, loss: f64) -> Option<f64> {
        let mut sums = (0.0, 0.0);
        for (i, &y) in self.labels.iter().enumerate() {
            let weight = super::weight_of(&self.weights, i);
            sums = (sums.0 + weight * f64::from(y), sums.1 + weight);
        }
        let base = logloss::entropy(sums.0 / sums.1);
        (base > 0.0).then(|| loss / base)
    }

    fn reliability(&self, probabilities: &[f32], bins: usize) -> Reliability {
        let mut out = Reliability::new(bins);
        for (i, (p, y)) in probabilities.iter().zip(&self.labels).enumerate() {
            out.push(*p, *y, super::weight_of(&self.weights, i) as f32);
        }
        out
    }
}

impl ScoredReport {
    /// The metrics that could be computed, by key: `auc`, `gauc`, `logloss`, `ne`, `pr_auc`, `f1` (at 0.5), `best_f1`,
    /// `calibration` (predicted/observed), `ece`.
    pub fn values(&self) -> BTreeMap<String, f64> {
        let all = [
            ("auc", self.auc),
            ("gauc", self.gauc.value),
            ("logloss", self.logloss),
            ("ne", self.ne),
            ("pr_auc", self.pr_auc),
            ("f1", self.f1),
            ("best_f1", self.best_f1.map(|b| b.f1)),
            ("calibration", self.calibration.ratio),
            ("ece", self.ece),
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
        assert_eq!(parts.curves(50), whole.curves(50));
        let report = whole.report();
        assert_eq!(
            (report.examples, report.positives, report.gauc.users, report.gauc.one_class),
            (5, 2, 2, 1)
        );
        assert_eq!(report.gauc.value, Some(0.4));
        let keys: Vec<String> = report.values().into_keys().collect();
        let all = ["auc", "best_f1", "calibration", "ece", "f1", "gauc", "logloss", "ne", "pr_auc"];
        assert_eq!(keys, all);
    }

    /// ```python
    /// import numpy as np
    /// from sklearn.metrics import *   # scikit-learn 1.9.1
    /// y = np.array([0, 1, 0, 1, 1, 0, 0, 1, 0, 0, 1, 0])
    /// p = np.array([.1, .9, .4, .4, .75, .6, .2, .3, .3, .05, .95, .6])
    /// w = np.array([1, 2, 1, .5, 1, 3, 1, 1, 2, 1, 1, .25])
    /// for s in (None, w):
    ///     print(roc_auc_score(y, p, sample_weight=s), average_precision_score(y, p, sample_weight=s),
    ///           log_loss(y, p, sample_weight=s), f1_score(y, p >= .5, sample_weight=s))
    ///     P, R, T = precision_recall_curve(y, p, sample_weight=s)
    ///     F = 2 * P * R / np.maximum(P + R, 1e-12)
    ///     print(F.max(), T[F.argmax()])
    /// ```
    #[test]
    fn it_equals_scikit_learn_with_and_without_weights() {
        let y = [0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0];
        let p = [0.1, 0.9, 0.4, 0.4, 0.75, 0.6, 0.2, 0.3, 0.3, 0.05, 0.95, 0.6f32];
        let weights = [1.0, 2.0, 1.0, 0.5, 1.0, 3.0, 1.0, 1.0, 2.0, 1.0, 1.0, 0.25f32];
        let golden = [
            [0.8285714285714285, 0.8253968253968254, 0.47037323429248895, 0.6, 0.75],
            [
                0.85995085995086,
                0.8591323570046974,
                0.4605920216957317,
                0.6274509803921569,
                0.8421052631578948,
            ],
        ];
        let logits: Vec<f32> = p.iter().map(|p| (p / (1.0 - p)).ln()).collect();
        for (w, golden) in [&[][..], &weights].into_iter().zip(golden) {
            let (mut plain, mut squashed) = (Scored::default(), Scored::of_logits());
            plain.push(&p, &y, &[0; 12], w);
            squashed.push(&logits, &y, &[0; 12], w);
            for report in [plain.report(), squashed.report()] {
                let best = report.best_f1.unwrap();
                let found = [report.auc, report.pr_auc, report.logloss, report.f1, Some(best.f1)];
                for (found, golden) in found.into_iter().zip(golden) {
                    assert!((found.unwrap() - golden).abs() < 1e-6, "{found:?} is not {golden}");
                }
                assert!((best.threshold - 0.75).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn what_cannot_be_computed_is_left_out() {
        assert!(Scored::default().report().values().is_empty());
        let mut one_class = Scored::default();
        one_class.push(&[0.2, f32::NAN], &[0.0, 0.0], &[1, 2], &[]);
        let report = one_class.report();
        assert_eq!(report.nan_scores, 1);
        assert_eq!(report.values().into_keys().collect::<Vec<_>>(), ["ece", "logloss"]);
    }
}
