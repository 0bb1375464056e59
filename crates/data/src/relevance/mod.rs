//! What each column says about the label by itself, and what columns say about each other, without a model.
//!
//! | figure | formula |
//! |---|---|
//! | variance | mean of (x − mean)², of numbers |
//! | Pearson, Spearman | correlation of numbers with the label; of their ranks, ties averaged |
//! | gain | H(y) − H(y \| bin), in bits: information gain, or mutual information |
//! | gain ratio | gain / H(bin) (Quinlan 1986), so that many values are no merit |
//! | information value | Σ_b (p_b − n_b) ln(p_b / n_b), p_b and n_b the bin's shares of positives and negatives, ½ added to each count |
//! | alone | AUC of the mean labels of bins (of categories: of every value), on the half of the rows that they were not taken from |
//!
//! Numbers are divided into bins of equal shares of the rows; missing values are a bin of their own. Of other columns
//! the most frequent values are bins and the rest is one more. Gain, ratio and information value are of the rows
//! themselves and rise with the number of bins by chance; `alone` does not.

mod correlation;
mod woe;

use std::cmp::Ordering;

use rayon::prelude::*;
use serde::Serialize;

use crate::leakage::skill;
use crate::sample::{Sample, SampleColumn};

pub use correlation::{Redundant, pearson, ranks, redundant, spearman};
pub use woe::WoeBin;

/// What a column says by itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Relevance {
    /// The column.
    pub name: String,
    /// Share of rows with a value, in [0, 1].
    pub filled: f64,
    /// Different values.
    pub distinct: u32,
    /// Mean of the numbers.
    pub mean: Option<f64>,
    /// Their variance.
    pub variance: Option<f64>,
    /// Pearson correlation of the numbers with the label.
    pub pearson: Option<f64>,
    /// Spearman correlation of the numbers with the label.
    pub spearman: Option<f64>,
    /// Information gain in bits.
    pub gain: f64,
    /// Gain by the bins' own entropy; 0 when all rows are in one bin.
    pub gain_ratio: f64,
    /// Information value: below 0.02 nothing, above 0.3 strong, above 0.5 worth a leakage check (Siddiqi 2006).
    pub information_value: f64,
    /// AUC of this column alone, on rows that it was not learned from.
    pub alone: f64,
    /// The bins, by rising number or falling frequency.
    pub bins: Vec<WoeBin>,
}

/// All columns, the greatest information value first. `bins` is at least 2.
pub fn of_columns(sample: &Sample, bins: usize) -> Vec<Relevance> {
    let mut out: Vec<Relevance> =
        sample.columns.par_iter().map(|column| of_column(column, &sample.label, bins.max(2))).collect();
    out.sort_by(|a, b| b.information_value.partial_cmp(&a.information_value).unwrap_or(Ordering::Equal));
    out
}

/// One column against the label, both `[N]`.
pub fn of_column(column: &SampleColumn, label: &[bool], bins: usize) -> Relevance {
    let (codes, count) = column.binned(bins);
    let (codes, count, rest) =
        if column.numbers.is_empty() { fold_rare(codes, count, bins) } else { (codes, count, false) };
    let table = woe::count(&codes, count, label);
    let (gain, own) = information(&table);
    let numbers: Vec<(f64, f64)> = column
        .numbers
        .iter()
        .zip(label)
        .filter(|(x, _)| !x.is_nan())
        .map(|(x, y)| (*x, f64::from(u8::from(*y))))
        .collect();
    let mean = numbers.iter().map(|n| n.0).sum::<f64>() / numbers.len() as f64;
    let variance = numbers.iter().map(|n| (n.0 - mean).powi(2)).sum::<f64>() / numbers.len() as f64;
    Relevance {
        name: column.name.clone(),
        filled: column.filled(),
        distinct: column.distinct,
        mean: mean.is_finite().then_some(mean),
        variance: variance.is_finite().then_some(variance),
        pearson: pearson(&numbers),
        spearman: spearman(&numbers),
        gain,
        gain_ratio: if own > 0.0 { gain / own } else { 0.0 },
        information_value: woe::information_value(&table),
        alone: match column.numbers.is_empty() {
            true => skill(&column.codes, column.distinct, label).auc,
            false => skill(&codes, count, label).auc,
        },
        bins: woe::bins(column, &table, bins, rest),
    }
}

/// Keeps the `bins` − 1 most frequent codes, by falling frequency, and makes the others one more; also whether there are
/// others.
fn fold_rare(codes: Vec<u32>, distinct: u32, bins: usize) -> (Vec<u32>, u32, bool) {
    let mut counts = vec![0u64; distinct as usize + 1];
    codes.iter().for_each(|&c| counts[c as usize] += 1);
    let mut order: Vec<u32> = (1..=distinct).collect();
    order.sort_by_key(|&c| std::cmp::Reverse(counts[c as usize]));
    let kept = if distinct as usize <= bins { order.len() } else { bins - 1 };
    let mut renamed = vec![kept as u32 + 1; distinct as usize + 1];
    renamed[0] = 0;
    order.iter().take(kept).enumerate().for_each(|(place, &c)| renamed[c as usize] = place as u32 + 1);
    let rest = kept < order.len();
    (codes.iter().map(|&c| renamed[c as usize]).collect(), kept as u32 + u32::from(rest), rest)
}

/// Information gain about the label, and the entropy of the bins, in bits.
fn information(table: &[(f64, f64)]) -> (f64, f64) {
    let entropy = |parts: &[f64]| -> f64 {
        let all: f64 = parts.iter().sum();
        parts.iter().filter(|p| **p > 0.0).map(|p| -p / all * (p / all).log2()).sum()
    };
    let all = table.iter().fold((0.0, 0.0), |a, t| (a.0 + t.0, a.1 + t.1));
    let rows = all.0 + all.1;
    let within: f64 = table.iter().map(|t| (t.0 + t.1) / rows * entropy(&[t.0, t.1])).sum();
    let own = entropy(&table.iter().map(|t| t.0 + t.1).collect::<Vec<_>>());
    ((entropy(&[all.0, all.1]) - within).max(0.0), own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn categories(codes: &[u32]) -> SampleColumn {
        let distinct = codes.iter().copied().max().unwrap_or(0);
        SampleColumn { name: "c".into(), codes: codes.to_vec(), distinct, ..SampleColumn::default() }
    }

    fn labels(text: &str) -> Vec<bool> {
        text.chars().map(|c| c == '1').collect()
    }

    /// ```python
    /// from sklearn.metrics import mutual_info_score   # scikit-learn 1.9.1
    /// from scipy.stats import entropy
    /// import numpy as np
    /// x = np.array([1, 1, 1, 2, 2, 3, 3, 3, 3, 0, 0, 2])
    /// y = np.array([1, 1, 0, 0, 1, 0, 0, 0, 1, 1, 1, 0])
    /// gain = mutual_info_score(x, y) / np.log(2)
    /// print(gain, gain / entropy(np.bincount(x), base=2))
    /// ```
    #[test]
    fn gain_and_ratio_equal_scikit_learn() {
        let column = categories(&[1, 1, 1, 2, 2, 3, 3, 3, 3, 0, 0, 2]);
        let found = of_column(&column, &labels("110010001110"), 10);
        assert!((found.gain - 0.2704260414863779).abs() < 1e-12, "{}", found.gain);
        assert!((found.gain_ratio - 0.13803247786247536).abs() < 1e-12, "{}", found.gain_ratio);
    }

    #[test]
    fn rare_values_are_one_bin_and_nothing_is_lost() {
        let codes: Vec<u32> = (0..100)
            .map(|i| {
                if i < 60 {
                    1
                } else if i < 85 {
                    2
                } else {
                    3 + i % 15
                }
            })
            .collect();
        let (folded, bins, rest) = fold_rare(codes, 17, 4);
        assert_eq!((bins, rest), (4, true));
        assert_eq!(folded.iter().filter(|&&c| c == 1).count(), 60);
        assert_eq!(folded.iter().filter(|&&c| c == 4).count(), 14);
        assert_eq!(fold_rare(vec![2, 2, 1], 2, 4), (vec![1, 1, 2], 2, false));
    }

    #[test]
    fn a_column_that_decides_beats_one_that_does_not() {
        let label: Vec<bool> = (0..900).map(|i| i % 3 == 0).collect();
        let strong = categories(&(0..900).map(|i| 1 + u32::from(i % 3 == 0)).collect::<Vec<_>>());
        let weak = categories(&(0..900).map(|i| 1 + i % 7).collect::<Vec<_>>());
        let sample = Sample { columns: vec![weak, strong], label, ..Sample::default() };
        let found = of_columns(&sample, 10);
        assert_eq!(found[0].distinct, 2);
        assert!((found[0].gain_ratio - 1.0).abs() < 1e-12 && found[0].information_value > 5.0);
        assert!(found[1].information_value < 0.05 && (found[1].alone - 0.5).abs() < 0.06);
    }

    #[test]
    fn a_constant_column_says_nothing() {
        let column = SampleColumn { numbers: vec![3.0; 6], ..categories(&[1; 6]) };
        let found = of_column(&column, &labels("101010"), 5);
        assert_eq!((found.gain, found.gain_ratio, found.variance), (0.0, 0.0, Some(0.0)));
        assert_eq!((found.pearson, found.spearman), (None, None));
        let empty = SampleColumn { numbers: vec![f64::NAN; 6], ..categories(&[0; 6]) };
        let found = of_column(&empty, &labels("101010"), 5);
        assert_eq!((found.filled, found.mean, found.variance), (0.0, None, None));
    }
}
