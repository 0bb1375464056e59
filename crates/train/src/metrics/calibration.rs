//! Whether probabilities mean what they say.

use rayon::slice::ParallelSliceMut;
use serde::Serialize;

use super::{order_of, weight_of};

/// One tenth of the examples, by rising probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Decile {
    /// Examples in it.
    pub count: u64,
    /// Their mean probability.
    pub predicted: f64,
    /// Their mean label.
    pub observed: f64,
}

/// Predicted against observed.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Calibration {
    /// Σ probability / Σ label: 1 is right, above 1 promises too much; `None` without positives.
    pub ratio: Option<f64>,
    /// Tenths by rising probability; fewer when there are less than ten examples.
    pub deciles: Vec<Decile>,
    /// Mean |predicted − observed| over the tenths, weighed by their weight (expected calibration error).
    pub error: Option<f64>,
}

/// Calibration of `probabilities` (`[N]`, in [0, 1]; NaN counts as 0) against `labels` (`[N]`, in [0, 1]);
/// `weights` is `[N]`, or empty when all are 1.
pub fn calibration(probabilities: &[f32], labels: &[f32], weights: &[f32]) -> Calibration {
    let n = probabilities.len().min(labels.len());
    let mut order: Vec<u64> = probabilities[..n]
        .iter()
        .enumerate()
        .map(|(i, &p)| u64::from(order_of(p)) << 32 | i as u64)
        .collect();
    order.par_sort_unstable();
    let mut sums = Sums::default();
    let (mut deciles, mut gap) = (Vec::new(), 0.0);
    for tenth in 0..10 {
        let rows = &order[tenth * n / 10..(tenth + 1) * n / 10];
        let mut part = Sums::default();
        for &packed in rows {
            let i = (packed & u64::from(u32::MAX)) as usize;
            let p = if probabilities[i].is_nan() { 0.0 } else { f64::from(probabilities[i]) };
            part.take(p, f64::from(labels[i]), weight_of(weights, i));
        }
        if part.weight > 0.0 {
            let (predicted, observed) = (part.predicted / part.weight, part.observed / part.weight);
            deciles.push(Decile { count: rows.len() as u64, predicted, observed });
            gap += part.weight * (predicted - observed).abs();
        }
        sums.add(&part);
    }
    Calibration {
        ratio: (sums.observed > 0.0).then(|| sums.predicted / sums.observed),
        error: (sums.weight > 0.0).then(|| gap / sums.weight),
        deciles,
    }
}

#[derive(Default)]
struct Sums {
    predicted: f64,
    observed: f64,
    weight: f64,
}

impl Sums {
    fn take(&mut self, p: f64, y: f64, weight: f64) {
        self.predicted += weight * p;
        self.observed += weight * y;
        self.weight += weight;
    }

    fn add(&mut self, other: &Self) {
        self.predicted += other.predicted;
        self.observed += other.observed;
        self.weight += other.weight;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::test_numbers;

    #[test]
    fn honest_probabilities_are_calibrated_and_doubled_ones_are_not() {
        let mut next = test_numbers(5);
        let p: Vec<f32> = (0..50_000).map(|_| next() as f32 * 0.5).collect();
        let y: Vec<f32> = p.iter().map(|&p| f32::from(u8::from(next() < f64::from(p)))).collect();
        let honest = calibration(&p, &y, &[]);
        assert!((honest.ratio.unwrap() - 1.0).abs() < 0.03);
        assert!(honest.error.unwrap() < 0.02);
        assert_eq!(honest.deciles.len(), 10);
        assert!(honest.deciles.windows(2).all(|w| w[0].predicted < w[1].predicted));
        assert_eq!(honest.deciles.iter().map(|d| d.count).sum::<u64>(), 50_000);
        let doubled: Vec<f32> = p.iter().map(|p| p * 2.0).collect();
        assert!((calibration(&doubled, &y, &[]).ratio.unwrap() - 2.0).abs() < 0.06);
    }

    #[test]
    fn few_examples_and_none() {
        assert_eq!(calibration(&[], &[], &[]), Calibration::default());
        let few = calibration(&[0.2, 0.8, f32::NAN], &[0.0, 1.0, 0.0], &[1.0, 3.0, 1.0]);
        assert_eq!(few.deciles.iter().map(|d| d.count).sum::<u64>(), 3);
        assert!((few.ratio.unwrap() - 2.6 / 3.0).abs() < 1e-6);
        assert_eq!(calibration(&[0.5], &[0.0], &[]).ratio, None);
    }
}
