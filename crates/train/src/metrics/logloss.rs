//! Logarithmic loss.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::weight_of;

/// Probabilities are kept in [`CLIP`, 1 − `CLIP`].
pub const CLIP: f64 = 1e-7;
/// Examples summed in one go: fixed, so that the sum does not depend on the number of threads.
const CHUNK: usize = 1 << 14;

/// Mean logarithmic loss in nats, and what it was computed from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct LogLoss {
    /// Weighted mean; `None` when there is nothing to average.
    pub value: Option<f64>,
    /// Scores that are NaN; they count as the lowest probability.
    pub nan_scores: u64,
}

/// [`weighted`] with all weights 1: the value alone.
pub fn from_probabilities(probabilities: &[f32], labels: &[f32]) -> Option<f64> {
    weighted(probabilities, labels, &[]).value
}

/// [`weighted_from_logits`] with all weights 1: the value alone.
pub fn from_logits(logits: &[f32], labels: &[f32]) -> Option<f64> {
    weighted_from_logits(logits, labels, &[]).value
}

/// The loss of one probability; see [`weighted`].
pub fn of_probability(probability: f32, label: f32) -> f64 {
    let (p, y) = (f64::from(probability), f64::from(label));
    let p = if p.is_nan() { CLIP } else { p.clamp(CLIP, 1.0 - CLIP) };
    -(y * p.ln() + (1.0 - y) * (-p).ln_1p())
}

/// The loss of one logit; see [`weighted_from_logits`].
pub fn of_logit(logit: f32, label: f32) -> f64 {
    let (x, y) = (f64::from(logit), f64::from(label));
    let x = if x.is_nan() { (CLIP / (1.0 - CLIP)).ln() } else { x.clamp(-1e6, 1e6) };
    x.max(0.0) - x * y + (-x.abs()).exp().ln_1p()
}

/// Entropy in nats of a label that is 1 with probability `rate`; 0 at 0 and 1.
pub fn entropy(rate: f64) -> f64 {
    let term = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
    term(rate) + term(1.0 - rate)
}

/// Log-loss and normalised entropy of a stream, in parts that add up.
///
/// Sums are in double precision and in the order of pushing; merging adds the other's sums to one's own. Parts merged
/// in another order agree to rounding (about 1e-16 per term).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct LossSums {
    loss: f64,
    weight: f64,
    positive: f64,
    examples: u64,
}

impl LossSums {
    /// Adds an example by its logit.
    pub fn push_logit(&mut self, logit: f32, label: f32, weight: f32) {
        self.push(of_logit(logit, label), label, weight);
    }

    /// Adds an example by its probability.
    pub fn push_probability(&mut self, probability: f32, label: f32, weight: f32) {
        self.push(of_probability(probability, label), label, weight);
    }

    fn push(&mut self, loss: f64, label: f32, weight: f32) {
        let weight = f64::from(weight);
        self.loss += weight * loss;
        self.weight += weight;
        self.positive += weight * f64::from(label);
        self.examples += 1;
    }

    /// Adds the examples of another.
    pub fn merge(&mut self, other: &Self) {
        self.loss += other.loss;
        self.weight += other.weight;
        self.positive += other.positive;
        self.examples += other.examples;
    }

    /// Number of examples.
    pub fn examples(&self) -> u64 {
        self.examples
    }

    /// Mean loss in nats; `None` without weight.
    pub fn value(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.loss / self.weight).filter(|v| v.is_finite())
    }

    /// Mean label; `None` without weight.
    pub fn rate(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.positive / self.weight)
    }

    /// Normalised entropy (He et al., ADKDD 2014): the mean loss divided by the loss of always saying the mean label. 1
    /// is no better than that, 0 is perfect; `None` when there is one class only.
    pub fn normalised_entropy(&self) -> Option<f64> {
        let base = entropy(self.rate()?);
        (base > 0.0).then_some(self.value()? / base)
    }
}

/// −(y ln p + (1 − y) ln(1 − p)), p clipped to [1e-7, 1 − 1e-7].
///
/// `probabilities` and `labels` are `[N]`, labels in [0, 1]; `weights` is `[N]`, or empty when all are 1.
pub fn weighted(probabilities: &[f32], labels: &[f32], weights: &[f32]) -> LogLoss {
    mean(probabilities, labels, weights, of_probability)
}

/// [`weighted`] from logits x, without clipping: max(x, 0) − x y + ln(1 + e^−|x|).
///
/// A NaN counts as the logit of the lowest clipped probability; infinite logits are kept within ±1e6, so that the
/// result is finite.
pub fn weighted_from_logits(logits: &[f32], labels: &[f32], weights: &[f32]) -> LogLoss {
    mean(logits, labels, weights, of_logit)
}

fn mean(scores: &[f32], labels: &[f32], weights: &[f32], loss: fn(f32, f32) -> f64) -> LogLoss {
    let n = scores.len().min(labels.len());
    let chunk = |start: usize| {
        let (mut sum, mut total, mut nan) = (0.0, 0.0, 0u64);
        for i in start..(start + CHUNK).min(n) {
            let weight = weight_of(weights, i);
            sum += weight * loss(scores[i], labels[i]);
            total += weight;
            nan += u64::from(scores[i].is_nan());
        }
        (sum, total, nan)
    };
    let parts: Vec<(f64, f64, u64)> =
        (0..n.div_ceil(CHUNK)).into_par_iter().map(|c| chunk(c * CHUNK)).collect();
    let (sum, total, nan_scores) = parts.iter().fold((0.0, 0.0, 0), |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2));
    let value = (total > 0.0).then(|| sum / total).filter(|v| v.is_finite());
    LogLoss { value, nan_scores }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::test_numbers;

    fn close(a: Option<f64>, b: f64) -> bool {
        a.is_some_and(|a| (a - b).abs() < 1e-9)
    }

    #[test]
    fn known_values_by_hand() {
        assert!(close(weighted(&[0.5, 0.5], &[1.0, 0.0], &[]).value, 2f64.ln()));
        assert!(close(
            weighted(&[0.25, 0.75], &[1.0, 1.0], &[3.0, 1.0]).value,
            (3.0 * 4f64.ln() + (4f64 / 3.0).ln()) / 4.0
        ));
        assert!(close(weighted(&[0.0], &[1.0], &[]).value, -CLIP.ln()));
        assert!(close(weighted(&[1.0], &[0.0], &[]).value, -CLIP.ln()));
    }

    #[test]
    fn logits_and_their_probabilities_agree() {
        let mut next = test_numbers(3);
        let logits: Vec<f32> = (0..40_000).map(|_| (next() * 16.0 - 8.0) as f32).collect();
        let labels: Vec<f32> = (0..40_000).map(|_| f32::from(u8::from(next() < 0.4))).collect();
        let naive: f64 = logits
            .iter()
            .zip(&labels)
            .map(|(&x, &y)| {
                let p = 1.0 / (1.0 + (-f64::from(x)).exp());
                -(if y > 0.5 { p } else { 1.0 - p }).ln()
            })
            .sum::<f64>()
            / 40_000.0;
        let probabilities: Vec<f32> = logits.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect();
        assert!(close(from_logits(&logits, &labels), naive));
        assert!((from_probabilities(&probabilities, &labels).unwrap() - naive).abs() < 1e-4);
    }

    #[test]
    fn sums_of_parts_equal_one_pass_and_know_the_normalised_entropy() {
        let mut next = test_numbers(6);
        let rows: Vec<(f32, f32, f32)> = (0..3_000)
            .map(|_| ((next() * 8.0 - 4.0) as f32, f32::from(u8::from(next() < 0.3)), next() as f32))
            .collect();
        let sum = |rows: &[(f32, f32, f32)]| {
            let mut sums = LossSums::default();
            rows.iter().for_each(|&(x, y, w)| sums.push_logit(x, y, w));
            sums
        };
        let (whole, mut parts) = (sum(&rows), LossSums::default());
        rows.chunks(257).rev().for_each(|chunk| parts.merge(&sum(chunk)));
        assert_eq!(whole.examples(), parts.examples());
        assert!((whole.value().unwrap() - parts.value().unwrap()).abs() < 1e-12);
        let part = |pick: fn(&(f32, f32, f32)) -> f32| rows.iter().map(pick).collect::<Vec<f32>>();
        let batch = weighted_from_logits(&part(|r| r.0), &part(|r| r.1), &part(|r| r.2)).value.unwrap();
        assert!((whole.value().unwrap() - batch).abs() < 1e-12);
        let mut flat = LossSums::default();
        rows.iter().for_each(|&(_, y, w)| flat.push_probability(whole.rate().unwrap() as f32, y, w));
        assert!((flat.normalised_entropy().unwrap() - 1.0).abs() < 1e-6);
        let expected = batch / flat.value().unwrap();
        assert!((whole.normalised_entropy().unwrap() - expected).abs() < 1e-6);
        assert_eq!(LossSums::default().normalised_entropy(), None);
    }

    #[test]
    fn nothing_is_none_and_bad_scores_stay_finite() {
        assert_eq!(weighted(&[], &[], &[]), LogLoss::default());
        let bad = weighted(&[f32::NAN], &[1.0], &[]);
        assert_eq!(bad.nan_scores, 1);
        assert!(close(bad.value, -CLIP.ln()));
        assert!(close(weighted_from_logits(&[f32::NAN], &[1.0], &[]).value, -CLIP.ln()));
        let far = weighted_from_logits(&[f32::INFINITY, f32::NEG_INFINITY], &[1.0, 0.0], &[]);
        assert_eq!(far.value, Some(0.0));
        assert_eq!(weighted_from_logits(&[f32::INFINITY], &[0.0], &[]).value, Some(1e6));
    }
}
