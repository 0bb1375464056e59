//! Area under the ROC curve, exact.

use rayon::slice::ParallelSliceMut;
use serde::Serialize;

use super::{POSITIVE, order_of, weight_of};

/// Area under the ROC curve and what it was computed from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Auc {
    /// In [0, 1]; `None` when one class is missing.
    pub value: Option<f64>,
    /// Examples with a label above 0.5.
    pub positives: u64,
    /// All others.
    pub negatives: u64,
    /// Scores that are NaN; they rank below all others, tied.
    pub nan_scores: u64,
}

/// [`weighted`] with all weights 1: the value alone.
pub fn auc(scores: &[f32], labels: &[f32]) -> Option<f64> {
    weighted(scores, labels, &[]).value
}

/// Exact AUC: the chance that a random positive scores higher than a random negative, ties counting half
/// (Mann and Whitney 1947; equal to the area with tied ranks averaged).
///
/// `scores` and `labels` are `[N]`, N < 2³²; `weights` is `[N]`, or empty when all are 1. O(N log N), sorted in
/// parallel; the result does not depend on the number of threads.
pub fn weighted(scores: &[f32], labels: &[f32], weights: &[f32]) -> Auc {
    let n = scores.len().min(labels.len());
    let mut order: Vec<u64> =
        scores[..n].iter().enumerate().map(|(i, &s)| u64::from(order_of(s)) << 32 | i as u64).collect();
    order.par_sort_unstable();
    let mut area = Area::default();
    for &packed in &order {
        let i = (packed & u64::from(u32::MAX)) as usize;
        area.take((packed >> 32) as u32, labels[i] > POSITIVE, weight_of(weights, i));
    }
    let positives = labels[..n].iter().filter(|&&y| y > POSITIVE).count() as u64;
    Auc {
        value: area.finish(),
        positives,
        negatives: n as u64 - positives,
        nan_scores: scores[..n].iter().filter(|s| s.is_nan()).count() as u64,
    }
}

/// Sums pairs won while scores come in rising order.
#[derive(Debug, Default)]
pub(super) struct Area {
    score: Option<u32>,
    /// Weights of the tied run at hand.
    tied: (f64, f64),
    positives: f64,
    negatives: f64,
    won: f64,
}

impl Area {
    /// Takes the next example; `score` must not fall.
    #[inline]
    pub(super) fn take(&mut self, score: u32, positive: bool, weight: f64) {
        if self.score != Some(score) {
            self.close();
            self.score = Some(score);
        }
        if positive {
            self.tied.0 += weight;
        } else {
            self.tied.1 += weight;
        }
    }

    #[inline]
    fn close(&mut self) {
        let (positive, negative) = std::mem::take(&mut self.tied);
        self.won += positive * (self.negatives + 0.5 * negative);
        self.positives += positive;
        self.negatives += negative;
    }

    /// Share of pairs won; `None` without pairs.
    pub(super) fn finish(mut self) -> Option<f64> {
        self.close();
        let pairs = self.positives * self.negatives;
        (pairs > 0.0 && pairs.is_finite()).then(|| self.won / pairs)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::metrics::test_numbers;

    /// The naive twin: all pairs.
    pub(in crate::metrics) fn all_pairs(scores: &[f32], labels: &[f32], weights: &[f32]) -> Option<f64> {
        let low = |s: f32| if s.is_nan() { None } else { Some(s) };
        let (mut won, mut pairs) = (0.0, 0.0);
        for i in (0..scores.len()).filter(|&i| labels[i] > 0.5) {
            for j in (0..scores.len()).filter(|&j| labels[j] <= 0.5) {
                let pair = weight_of(weights, i) * weight_of(weights, j);
                pairs += pair;
                let (a, b) = (low(scores[i]), low(scores[j]));
                won += if a > b {
                    pair
                } else if a == b {
                    pair / 2.0
                } else {
                    0.0
                };
            }
        }
        (pairs > 0.0).then(|| won / pairs)
    }

    #[test]
    fn it_equals_counting_all_pairs_with_ties_weights_and_nan() {
        for seed in 0..20 {
            let mut next = test_numbers(seed);
            let n = 300;
            let coarse = if seed % 2 == 0 { 10.0 } else { 1e6 };
            let mut scores: Vec<f32> = (0..n).map(|_| ((next() - 0.5) * coarse).round() as f32).collect();
            scores[3] = f32::NAN;
            scores[4] = f32::NAN;
            scores[5] = -0.0;
            let labels: Vec<f32> = (0..n).map(|_| f32::from(u8::from(next() < 0.3))).collect();
            let weights: Vec<f32> = (0..n).map(|_| next() as f32).collect();
            for weights in [&weights[..], &[]] {
                let (fast, slow) =
                    (weighted(&scores, &labels, weights), all_pairs(&scores, &labels, weights));
                assert!((fast.value.unwrap() - slow.unwrap()).abs() < 1e-12);
                assert_eq!(fast.nan_scores, 2);
            }
        }
    }

    #[test]
    fn a_perfect_order_a_reversed_one_and_all_tied() {
        let labels = [0.0, 0.0, 1.0, 1.0];
        assert_eq!(auc(&[0.1, 0.2, 0.3, 0.4], &labels), Some(1.0));
        assert_eq!(auc(&[0.4, 0.3, 0.2, 0.1], &labels), Some(0.0));
        assert_eq!(auc(&[0.5; 4], &labels), Some(0.5));
        // Pairs: .35 > .1, .35 < .4, .8 > .1, .8 > .4.
        assert_eq!(auc(&[0.1, 0.4, 0.35, 0.8], &labels), Some(0.75));
    }

    #[test]
    fn one_class_or_nothing_has_no_auc() {
        assert_eq!(weighted(&[], &[], &[]), Auc::default());
        let one = weighted(&[0.1, 0.9], &[1.0, 1.0], &[]);
        assert_eq!((one.value, one.positives, one.negatives), (None, 2, 0));
        assert_eq!(weighted(&[0.1, 0.9], &[0.0, 1.0], &[1.0, 0.0]).value, None);
    }
}
