//! Area under the ROC curve, exact.

use rayon::prelude::*;
use serde::Serialize;

use super::radix::{BUCKETS, Buckets, LEFT, sort_left};
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
/// (Mann and Whitney 1947; equal to (Σ ranks of positives − P(P + 1)/2)/(P N) with tied ranks averaged).
///
/// `scores` and `labels` are `[N]`, N < 2³²; `weights` is `[N]`, or empty when all are 1. O(N): a radix sort in
/// parallel. Without weights pairs are counted in whole numbers and the value is rounded once; with weights sums go
/// bucket by bucket in the order of scores. Neither depends on the number of threads.
pub fn weighted(scores: &[f32], labels: &[f32], weights: &[f32]) -> Auc {
    let n = scores.len().min(labels.len());
    let value = if weights.is_empty() {
        counted(&scores[..n], &labels[..n])
    } else {
        summed(&scores[..n], &labels[..n], weights)
    };
    let (positives, nan_scores) = tally(&scores[..n], &labels[..n]);
    Auc { value, positives, negatives: n as u64 - positives, nan_scores }
}

/// Positives and NaN scores.
fn tally(scores: &[f32], labels: &[f32]) -> (u64, u64) {
    let part = |(scores, labels): (&[f32], &[f32])| {
        let positives = labels.iter().filter(|&&y| y > POSITIVE).count() as u64;
        (positives, scores.iter().filter(|s| s.is_nan()).count() as u64)
    };
    let chunks = scores.par_chunks(1 << 16).zip(labels.par_chunks(1 << 16));
    chunks.map(part).reduce(|| (0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
}

/// Pairs won in whole numbers.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    positives: u64,
    negatives: u64,
    /// Twice the pairs won, ties counting 1.
    won: u128,
}

impl Counts {
    /// Adds counts of higher scores.
    fn then(self, higher: Self) -> Self {
        let across = 2 * u128::from(higher.positives) * u128::from(self.negatives);
        Self {
            positives: self.positives + higher.positives,
            negatives: self.negatives + higher.negatives,
            won: self.won + higher.won + across,
        }
    }

    /// Of items in rising order: score · 2 + positive.
    fn of(sorted: &[u32]) -> Self {
        let mut all = Self::default();
        for tied in sorted.chunk_by(|a, b| a >> 1 == b >> 1) {
            let positives = tied.iter().map(|item| u64::from(item & 1)).sum();
            let negatives = tied.len() as u64 - positives;
            let won = u128::from(positives) * u128::from(negatives);
            all = all.then(Self { positives, negatives, won });
        }
        all
    }
}

fn counted(scores: &[f32], labels: &[f32]) -> Option<f64> {
    let low = (1 << LEFT) - 1;
    let buckets = Buckets::divide(scores.len(), |i| {
        let order = order_of(scores[i]);
        (order, (order & low) << 1 | u32::from(labels[i] > POSITIVE))
    });
    let counts: Vec<Counts> = (0..BUCKETS)
        .into_par_iter()
        .map_init(Default::default, |(items, scratch), bucket| {
            buckets.collect(bucket, items);
            sort_left(items, scratch);
            Counts::of(items)
        })
        .collect();
    let all = counts.into_iter().fold(Counts::default(), Counts::then);
    let pairs = u128::from(all.positives) * u128::from(all.negatives);
    (pairs > 0).then(|| all.won as f64 / (2 * pairs) as f64)
}

fn summed(scores: &[f32], labels: &[f32], weights: &[f32]) -> Option<f64> {
    let buckets = Buckets::divide(scores.len(), |i| {
        let order = order_of(scores[i]);
        (order, u64::from(order) << 32 | i as u64)
    });
    let areas: Vec<Area> = (0..BUCKETS)
        .into_par_iter()
        .map_init(Vec::new, |items, bucket| {
            buckets.collect(bucket, items);
            items.sort_unstable();
            let mut area = Area::default();
            for &packed in items.iter() {
                let i = packed as u32 as usize;
                area.take((packed >> 32) as u32, labels[i] > POSITIVE, weight_of(weights, i));
            }
            area.close();
            area
        })
        .collect();
    areas.iter().fold(Area::default(), Area::then).finish()
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

    /// Adds sums, both closed, of higher scores.
    fn then(self, higher: &Self) -> Self {
        Self {
            won: self.won + higher.won + higher.positives * self.negatives,
            positives: self.positives + higher.positives,
            negatives: self.negatives + higher.negatives,
            ..self
        }
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
    fn many_scores_give_what_ranks_with_ties_averaged_give() {
        for (seed, coarse) in [(1, 1e9), (2, 300.0), (3, 1.0)] {
            let mut next = test_numbers(seed);
            let n = 200_000;
            let labels: Vec<f32> = (0..n).map(|_| f32::from(u8::from(next() < 0.1))).collect();
            let score = |y: &f32| (((next() + 0.3 * f64::from(*y)) * coarse).floor() / coarse) as f32;
            let scores: Vec<f32> = labels.iter().map(score).collect();
            let mut order: Vec<usize> = (0..n).collect();
            order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
            let (mut rank, mut sum) = (1.0, 0.0);
            for tied in order.chunk_by(|&a, &b| scores[a] == scores[b]) {
                let mean = rank + (tied.len() as f64 - 1.0) / 2.0;
                sum += mean * tied.iter().filter(|&&i| labels[i] > 0.5).count() as f64;
                rank += tied.len() as f64;
            }
            let p = labels.iter().filter(|&&y| y > 0.5).count() as f64;
            let naive = (sum - p * (p + 1.0) / 2.0) / (p * (n as f64 - p));
            assert!((auc(&scores, &labels).unwrap() - naive).abs() < 1e-12);
            let ones = vec![1.0; n];
            assert!((weighted(&scores, &labels, &ones).value.unwrap() - naive).abs() < 1e-12);
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
