//! Whether probabilities mean what they say.

use rayon::slice::ParallelSliceMut;
use serde::{Deserialize, Serialize};

use super::{order_of, weight_of};

/// One tenth of the examples, by rising probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
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

/// Predicted against observed in equal widths of probability, in parts that add up.
///
/// Counts and sums are in double precision and in the order of pushing; merging adds the other's to one's own, so
/// that counts are the same in any order and sums agree to rounding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reliability {
    /// Per bin: examples, summed weight, summed weighted probability and label.
    bins: Vec<(u64, f64, f64, f64)>,
}

impl Reliability {
    /// With so many bins, at least 1; 10 to 20 are usual.
    pub fn new(bins: usize) -> Self {
        Self { bins: vec![(0, 0.0, 0.0, 0.0); bins.max(1)] }
    }

    /// Adds an example: a probability in [0, 1] (NaN counts as 0), a label in [0, 1], a weight of at least 0.
    pub fn push(&mut self, probability: f32, label: f32, weight: f32) {
        let p = if probability.is_nan() { 0.0 } else { f64::from(probability).clamp(0.0, 1.0) };
        let n = self.bins.len();
        let (w, bin) = (f64::from(weight), &mut self.bins[((p * n as f64) as usize).min(n - 1)]);
        *bin = (bin.0 + 1, bin.1 + w, bin.2 + w * p, bin.3 + w * f64::from(label));
    }

    /// Adds the examples of another with as many bins.
    ///
    /// # Panics
    /// When the number differs: both come from the caller's own code.
    pub fn merge(&mut self, other: &Self) {
        assert!(self.bins.len() == other.bins.len(), "reliabilities of different bins");
        for (a, b) in self.bins.iter_mut().zip(&other.bins) {
            *a = (a.0 + b.0, a.1 + b.1, a.2 + b.2, a.3 + b.3);
        }
    }

    /// The bins that hold something, by rising probability.
    pub fn points(&self) -> Vec<Decile> {
        let filled = self.bins.iter().filter(|b| b.1 > 0.0);
        filled.map(|b| Decile { count: b.0, predicted: b.2 / b.1, observed: b.3 / b.1 }).collect()
    }

    /// Σ probability / Σ label; `None` without positives.
    pub fn ratio(&self) -> Option<f64> {
        let (p, y) = self.bins.iter().fold((0.0, 0.0), |a, b| (a.0 + b.2, a.1 + b.3));
        (y > 0.0).then(|| p / y)
    }

    /// Expected calibration error (Guo et al., ICML 2017): Σ_b w_b |predicted_b − observed_b| / Σ w; `None` without
    /// weight.
    pub fn error(&self) -> Option<f64> {
        let (gap, weight) = self.bins.iter().fold((0.0, 0.0), |a, b| (a.0 + (b.2 - b.3).abs(), a.1 + b.1));
        (weight > 0.0).then(|| gap / weight)
    }
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
    fn equal_widths_equal_a_loop_over_bins_and_parts_add_up() {
        let mut next = test_numbers(8);
        let rows: Vec<(f32, f32, f32)> =
            (0..4_000).map(|_| (next() as f32, f32::from(u8::from(next() < 0.4)), next() as f32)).collect();
        let fill = |rows: &[(f32, f32, f32)]| {
            let mut out = Reliability::new(15);
            rows.iter().for_each(|&(p, y, w)| out.push(p, y, w));
            out
        };
        let whole = fill(&rows);
        let (mut naive, mut total) = (0.0, 0.0);
        for b in 0..15 {
            let inside = |p: f32| (f64::from(p) * 15.0) as usize == b;
            let gap: f64 = rows
                .iter()
                .filter(|r| inside(r.0))
                .map(|r| f64::from(r.2) * (f64::from(r.0) - f64::from(r.1)))
                .sum();
            naive += gap.abs();
            total += rows.iter().filter(|r| inside(r.0)).map(|r| f64::from(r.2)).sum::<f64>();
        }
        assert!((whole.error().unwrap() - naive / total).abs() < 1e-12);
        let mut parts = fill(&rows[3_000..]);
        parts.merge(&fill(&rows[..3_000]));
        let counts = |r: &Reliability| r.points().iter().map(|d| d.count).collect::<Vec<_>>();
        assert_eq!(counts(&whole), counts(&parts));
        assert!((whole.error().unwrap() - parts.error().unwrap()).abs() < 1e-12);
        assert!((whole.ratio().unwrap() - parts.ratio().unwrap()).abs() < 1e-12);
        assert_eq!((Reliability::new(0).error(), Reliability::new(3).ratio()), (None, None));
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
