//! Everything that moves along a threshold: ROC, precision and recall, F1.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::radix::{BUCKETS, Buckets};
use super::{POSITIVE, StreamAuc, order_of, weight_of};

/// What happens when a score of at least the threshold means yes; summed weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Confusion {
    /// Yes, and right.
    pub true_positives: f64,
    /// Yes, and wrong.
    pub false_positives: f64,
    /// No, and right.
    pub true_negatives: f64,
    /// No, and wrong.
    pub false_negatives: f64,
}

impl Confusion {
    /// Counts examples; `scores` and `labels` are `[N]`, `weights` `[N]`, or empty when all are 1. NaN is no.
    pub fn at(threshold: f32, scores: &[f32], labels: &[f32], weights: &[f32]) -> Self {
        let mut out = Self::default();
        for (i, (score, label)) in scores.iter().zip(labels).enumerate() {
            out.push(*score >= threshold, *label > POSITIVE, weight_of(weights, i));
        }
        out
    }

    /// Adds an example.
    pub fn push(&mut self, yes: bool, positive: bool, weight: f64) {
        *match (yes, positive) {
            (true, true) => &mut self.true_positives,
            (true, false) => &mut self.false_positives,
            (false, false) => &mut self.true_negatives,
            (false, true) => &mut self.false_negatives,
        } += weight;
    }

    /// Adds the examples of another.
    pub fn merge(&mut self, other: &Self) {
        self.true_positives += other.true_positives;
        self.false_positives += other.false_positives;
        self.true_negatives += other.true_negatives;
        self.false_negatives += other.false_negatives;
    }

    /// Share of the yes that is right; `None` without a yes.
    pub fn precision(&self) -> Option<f64> {
        share(self.true_positives, self.true_positives + self.false_positives)
    }

    /// Share of the positives that got a yes; `None` without positives.
    pub fn recall(&self) -> Option<f64> {
        share(self.true_positives, self.true_positives + self.false_negatives)
    }

    /// 2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall; `None` without positives and yes.
    pub fn f1(&self) -> Option<f64> {
        let twice = 2.0 * self.true_positives;
        share(twice, twice + self.false_positives + self.false_negatives)
    }

    /// Share that is right; `None` without examples.
    pub fn accuracy(&self) -> Option<f64> {
        let right = self.true_positives + self.true_negatives;
        share(right, right + self.false_positives + self.false_negatives)
    }
}

fn share(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0 && whole.is_finite()).then(|| part / whole)
}

/// Examples of one score.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Run {
    score: f32,
    positives: f64,
    negatives: f64,
}

/// All thresholds of a set of scores, from the highest score down. 16 to 24 bytes per different score.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Curve {
    runs: Vec<Run>,
    positives: f64,
    negatives: f64,
}

/// The threshold with the highest F1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BestF1 {
    /// In [0, 1].
    pub f1: f64,
    /// A score of at least this means yes; the highest of equally good ones.
    pub threshold: f32,
    /// What that comes to.
    pub confusion: Confusion,
}

impl Curve {
    /// Of `[N]` scores and labels, N < 2³²; `weights` is `[N]`, or empty when all are 1. O(N), sorted in parallel;
    /// sums go from the highest score down, equal scores in the order of the examples.
    pub fn new(scores: &[f32], labels: &[f32], weights: &[f32]) -> Self {
        let n = scores.len().min(labels.len());
        let buckets = Buckets::divide(n, |i| {
            let order = !order_of(scores[i]);
            (order, u64::from(order) << 32 | i as u64)
        });
        let runs: Vec<Vec<Run>> = (0..BUCKETS)
            .into_par_iter()
            .map_init(Vec::new, |items, bucket| {
                buckets.collect(bucket, items);
                items.sort_unstable();
                items
                    .chunk_by(|a, b| a >> 32 == b >> 32)
                    .map(|tied| Run::of(tied, scores, labels, weights))
                    .collect()
            })
            .collect();
        Self::of_runs(runs.concat())
    }

    /// Of a histogram: each bin stands for its middle.
    pub fn of_stream(stream: &StreamAuc) -> Self {
        let run = |(score, positives, negatives)| Run { score, positives, negatives };
        Self::of_runs(stream.filled().rev().map(run).collect())
    }

    fn of_runs(runs: Vec<Run>) -> Self {
        let (positives, negatives) =
            runs.iter().fold((0.0, 0.0), |a, r| (a.0 + r.positives, a.1 + r.negatives));
        Self { runs, positives, negatives }
    }

    /// After each run: it, and the summed positives and negatives so far.
    fn walk(&self) -> impl Iterator<Item = (&Run, f64, f64)> {
        self.runs.iter().scan((0.0, 0.0), |sums, run| {
            sums.0 += run.positives;
            sums.1 += run.negatives;
            Some((run, sums.0, sums.1))
        })
    }

    /// Average precision, the area under the precision-recall curve as steps: Σ (Rᵢ − Rᵢ₋₁) Pᵢ over thresholds;
    /// `None` without positives.
    pub fn average_precision(&self) -> Option<f64> {
        let sum: f64 = self
            .walk()
            .filter(|(run, ..)| run.positives > 0.0)
            .map(|(run, p, n)| run.positives * p / (p + n))
            .sum();
        share(sum, self.positives)
    }

    /// The best threshold by F1; `None` without positives.
    pub fn best_f1(&self) -> Option<BestF1> {
        let mut best: Option<BestF1> = None;
        for (run, p, n) in self.walk() {
            let confusion = Confusion {
                true_positives: p,
                false_positives: n,
                true_negatives: self.negatives - n,
                false_negatives: self.positives - p,
            };
            let f1 = confusion.f1().filter(|_| self.positives > 0.0);
            if let Some(f1) = f1.filter(|f1| best.is_none_or(|b| *f1 > b.f1)) {
                best = Some(BestF1 { f1, threshold: run.score, confusion });
            }
        }
        best
    }

    /// Points (false positive rate, true positive rate) from (0, 0) to (1, 1); at most about `most`, evenly spread
    /// over the length of the curve. Empty when one class is missing.
    pub fn roc(&self, most: usize) -> Vec<(f64, f64)> {
        if !(self.positives > 0.0 && self.negatives > 0.0) {
            return Vec::new();
        }
        let points = self.walk().map(|(_, p, n)| (n / self.negatives, p / self.positives));
        thin(std::iter::once((0.0, 0.0)).chain(points), most)
    }

    /// Points (recall, precision) by rising recall; at most about `most`. Empty without positives.
    pub fn precision_recall(&self, most: usize) -> Vec<(f64, f64)> {
        if self.positives <= 0.0 {
            return Vec::new();
        }
        thin(
            self.walk().filter(|(_, p, n)| p + n > 0.0).map(|(_, p, n)| (p / self.positives, p / (p + n))),
            most,
        )
    }
}

impl Run {
    fn of(tied: &[u64], scores: &[f32], labels: &[f32], weights: &[f32]) -> Self {
        let first = tied.first().map_or(0, |&packed| packed as u32 as usize);
        let mut run = Self { score: scores[first], positives: 0.0, negatives: 0.0 };
        for &packed in tied {
            let i = packed as u32 as usize;
            let side = if labels[i] > POSITIVE { &mut run.positives } else { &mut run.negatives };
            *side += weight_of(weights, i);
        }
        run
    }
}

/// Leaves out points that lie nearer than 2/`most` to the last one kept; the last point stays.
fn thin(points: impl Iterator<Item = (f64, f64)>, most: usize) -> Vec<(f64, f64)> {
    let step = 2.0 / most.max(2) as f64;
    let (mut kept, mut last): (Vec<(f64, f64)>, _) = (Vec::new(), None);
    for point in points {
        let far = kept.last().is_none_or(|k| (k.0 - point.0).abs() + (k.1 - point.1).abs() >= step);
        if far {
            kept.push(point);
        }
        last = (!far).then_some(point);
    }
    kept.extend(last);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Bins, auc, test_numbers};

    fn rows(seed: u64, n: usize) -> [Vec<f32>; 3] {
        let mut next = test_numbers(seed);
        let labels: Vec<f32> = (0..n).map(|_| f32::from(u8::from(next() < 0.3))).collect();
        let scores = labels.iter().map(|y| ((next() + 0.4 * f64::from(*y)) * 50.0).floor() as f32 / 50.0);
        let scores = scores.collect();
        [scores, labels, (0..n).map(|_| next() as f32).collect()]
    }

    #[test]
    fn areas_and_best_f1_equal_trying_every_threshold() {
        for seed in 0..5 {
            let [scores, labels, weights] = rows(seed, 400);
            for weights in [&weights[..], &[]] {
                let curve = Curve::new(&scores, &labels, weights);
                let mut thresholds = scores.clone();
                thresholds.sort_by(|a, b| b.total_cmp(a));
                thresholds.dedup();
                let (mut area, mut recall, mut best) = (0.0, 0.0, 0.0f64);
                for &t in &thresholds {
                    let at = Confusion::at(t, &scores, &labels, weights);
                    area += (at.recall().unwrap() - recall) * at.precision().unwrap();
                    recall = at.recall().unwrap();
                    best = best.max(at.f1().unwrap());
                }
                assert!((curve.average_precision().unwrap() - area).abs() < 1e-12);
                let found = curve.best_f1().unwrap();
                assert!((found.f1 - best).abs() < 1e-12);
                let at = Confusion::at(found.threshold, &scores, &labels, weights);
                assert!((at.f1().unwrap() - best).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn the_roc_encloses_the_auc_and_is_thinned() {
        let [scores, labels, weights] = rows(8, 3_000);
        let curve = Curve::new(&scores, &labels, &weights);
        let area = |points: &[(f64, f64)]| -> f64 {
            points.windows(2).map(|w| (w[1].0 - w[0].0) * (w[0].1 + w[1].1) / 2.0).sum()
        };
        let exact = auc::weighted(&scores, &labels, &weights).value.unwrap();
        assert!((area(&curve.roc(usize::MAX)) - exact).abs() < 1e-12);
        let thin = curve.roc(20);
        assert!(thin.len() <= 22 && (area(&thin) - exact).abs() < 0.01);
        assert_eq!((thin[0], thin[thin.len() - 1]), ((0.0, 0.0), (1.0, 1.0)));
    }

    #[test]
    fn a_histogram_gives_the_same_curve_when_each_score_has_its_bin() {
        let [scores, labels, _] = rows(4, 500);
        let mut stream = StreamAuc::new(Bins::Probability(1000));
        scores.iter().zip(&labels).for_each(|(s, y)| stream.push(s + 1e-4, *y, 1.0));
        let (a, b) = (Curve::new(&scores, &labels, &[]), Curve::of_stream(&stream));
        // Scores above 1 share the last bin.
        assert!((a.average_precision().unwrap() - b.average_precision().unwrap()).abs() < 0.05);
        assert!((a.best_f1().unwrap().f1 - b.best_f1().unwrap().f1).abs() < 1e-12);
    }

    #[test]
    fn parts_of_a_confusion_add_up() {
        let [scores, labels, _] = rows(6, 300);
        let whole = Confusion::at(0.5, &scores, &labels, &[]);
        let mut parts = Confusion::at(0.5, &scores[200..], &labels[200..], &[]);
        parts.merge(&Confusion::at(0.5, &scores[..200], &labels[..200], &[]));
        assert_eq!(whole, parts);
        assert_eq!(
            whole.accuracy().map(|a| (a * 300.0).round() as u64),
            Some(scores.iter().zip(&labels).filter(|(s, y)| (**s >= 0.5) == (**y > 0.5)).count() as u64)
        );
    }

    #[test]
    fn nothing_has_no_curve() {
        let none = Curve::new(&[], &[], &[]);
        assert_eq!(
            (none.average_precision(), none.best_f1(), none.roc(9), none.precision_recall(9)),
            (None, None, vec![], vec![])
        );
        assert_eq!(Confusion::default().f1(), None);
        assert_eq!(Curve::new(&[0.3], &[0.0], &[]).best_f1(), None);
        assert_eq!(Curve::new(&[f32::NAN, 0.1], &[1.0, 0.0], &[]).average_precision(), Some(0.5));
    }
}
