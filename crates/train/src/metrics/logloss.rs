//! Logarithmic loss.

use rayon::prelude::*;
use serde::Serialize;

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

/// −(y ln p + (1 − y) ln(1 − p)), p clipped to [1e-7, 1 − 1e-7].
///
/// `probabilities` and `labels` are `[N]`, labels in [0, 1]; `weights` is `[N]`, or empty when all are 1.
pub fn weighted(probabilities: &[f32], labels: &[f32], weights: &[f32]) -> LogLoss {
    mean(probabilities, labels, weights, |p, y| {
        let p = if p.is_nan() { CLIP } else { p.clamp(CLIP, 1.0 - CLIP) };
        -(y * p.ln() + (1.0 - y) * (-p).ln_1p())
    })
}

/// [`weighted`] from logits x, without clipping: max(x, 0) − x y + ln(1 + e^−|x|).
///
/// A NaN counts as the logit of the lowest clipped probability; infinite logits are kept within ±1e6, so that the
/// result is finite.
pub fn weighted_from_logits(logits: &[f32], labels: &[f32], weights: &[f32]) -> LogLoss {
    let lowest = (CLIP / (1.0 - CLIP)).ln();
    mean(logits, labels, weights, |x, y| {
        let x = if x.is_nan() { lowest } else { x.clamp(-1e6, 1e6) };
        x.max(0.0) - x * y + (-x.abs()).exp().ln_1p()
    })
}

fn mean(scores: &[f32], labels: &[f32], weights: &[f32], loss: impl Fn(f64, f64) -> f64 + Sync) -> LogLoss {
    let n = scores.len().min(labels.len());
    let chunk = |start: usize| {
        let (mut sum, mut total, mut nan) = (0.0, 0.0, 0u64);
        for i in start..(start + CHUNK).min(n) {
            let weight = weight_of(weights, i);
            sum += weight * loss(f64::from(scores[i]), f64::from(labels[i]));
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
