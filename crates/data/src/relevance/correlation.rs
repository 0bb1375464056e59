//! Correlations, with the label and between columns.

use rayon::prelude::*;
use serde::Serialize;

use crate::sample::{Sample, SampleColumn};

/// Two columns that say the same.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Redundant {
    /// One.
    pub first: String,
    /// The other.
    pub second: String,
    /// `spearman` for two numbers, else `shared_information`: 2 I(a; b) / (H(a) + H(b)), in [0, 1].
    pub figure: &'static str,
    /// Its value.
    pub value: f64,
}

/// Pearson correlation of pairs; `None` where one side does not vary.
pub fn pearson(pairs: &[(f64, f64)]) -> Option<f64> {
    let n = pairs.len() as f64;
    let mean = pairs.iter().fold((0.0, 0.0), |a, p| (a.0 + p.0, a.1 + p.1));
    let (mx, my) = (mean.0 / n, mean.1 / n);
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in pairs {
        xx += (x - mx) * (x - mx);
        yy += (y - my) * (y - my);
        xy += (x - mx) * (y - my);
    }
    (xx > 0.0 && yy > 0.0).then(|| xy / (xx * yy).sqrt())
}

/// Ranks from 1, ties averaged.
pub fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let (mut out, mut before) = (vec![0.0; values.len()], 0.0);
    for tied in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let mean = before + (tied.len() as f64 + 1.0) / 2.0;
        tied.iter().for_each(|&i| out[i] = mean);
        before += tied.len() as f64;
    }
    out
}

/// Spearman correlation of pairs: Pearson's of the ranks.
pub fn spearman(pairs: &[(f64, f64)]) -> Option<f64> {
    let side = |of: fn(&(f64, f64)) -> f64| ranks(&pairs.iter().map(of).collect::<Vec<_>>());
    let pairs: Vec<(f64, f64)> = side(|p| p.0).into_iter().zip(side(|p| p.1)).collect();
    pearson(&pairs)
}

/// Pairs of columns that say nearly the same: |Spearman| or shared information of at least `least`, the greatest
/// first. At most `rows` evenly spread rows are looked at.
pub fn redundant(sample: &Sample, least: f64, rows: usize) -> Vec<Redundant> {
    let stride = sample.rows().div_ceil(rows.max(1)).max(1);
    let picked: Vec<usize> = (0..sample.rows()).step_by(stride).collect();
    let n = sample.columns.len();
    let pairs: Vec<(usize, usize)> = (0..n).flat_map(|a| (a + 1..n).map(move |b| (a, b))).collect();
    let mut out: Vec<Redundant> = pairs
        .into_par_iter()
        .filter_map(|(a, b)| {
            let (a, b) = (&sample.columns[a], &sample.columns[b]);
            let (figure, value) = likeness(a, b, &picked)?;
            (value.abs() >= least).then(|| Redundant {
                first: a.name.clone(),
                second: b.name.clone(),
                figure,
                value,
            })
        })
        .collect();
    out.sort_by(|a, b| b.value.abs().total_cmp(&a.value.abs()));
    out
}

fn likeness(a: &SampleColumn, b: &SampleColumn, rows: &[usize]) -> Option<(&'static str, f64)> {
    if a.numbers.is_empty() || b.numbers.is_empty() {
        return Some(("shared_information", shared(a, b, rows)?));
    }
    let pairs = rows.iter().map(|&r| (a.numbers[r], b.numbers[r]));
    let pairs: Vec<(f64, f64)> = pairs.filter(|p| !p.0.is_nan() && !p.1.is_nan()).collect();
    Some(("spearman", spearman(&pairs)?))
}

/// Symmetric uncertainty of the codes; `None` where a column has (nearly) a value per row, which determines anything.
fn shared(a: &SampleColumn, b: &SampleColumn, rows: &[usize]) -> Option<f64> {
    if [a, b].iter().any(|c| c.distinct as usize * 5 > rows.len()) {
        return None;
    }
    let entropy = |key: &dyn Fn(usize) -> u64| -> f64 {
        let mut keys: Vec<u64> = rows.iter().map(|&r| key(r)).collect();
        keys.sort_unstable();
        let n = keys.len() as f64;
        keys.chunk_by(|x, y| x == y).map(|run| run.len() as f64 / n).map(|p| -p * p.ln()).sum()
    };
    let code = |c: &SampleColumn, r: usize| u64::from(c.codes[r]);
    let (ha, hb) = (entropy(&|r| code(a, r)), entropy(&|r| code(b, r)));
    let both = entropy(&|r| code(a, r) << 32 | code(b, r));
    (ha + hb > 0.0).then(|| 2.0 * (ha + hb - both) / (ha + hb))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ```python
    /// from scipy.stats import pearsonr, spearmanr   # scipy 1.17.1
    /// x = [1, 2, 2, 5, 9, 9, 3, -4]
    /// y = [0, 0, 1, 1, 1, 0, 1, 0]
    /// print(pearsonr(x, y)[0], spearmanr(x, y)[0])
    /// ```
    #[test]
    fn correlations_equal_scipy() {
        let x = [1.0, 2.0, 2.0, 5.0, 9.0, 9.0, 3.0, -4.0];
        let y = [0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0];
        let pairs: Vec<(f64, f64)> = x.into_iter().zip(y).collect();
        assert!((pearson(&pairs).unwrap() - 0.3412596267067337).abs() < 1e-12);
        assert!((spearman(&pairs).unwrap() - 0.44172610429938614).abs() < 1e-12);
        assert_eq!(ranks(&[3.0, 1.0, 3.0]), [2.5, 1.0, 2.5]);
    }

    #[test]
    fn copies_are_redundant_and_independent_columns_are_not() {
        let column = |name: &str, codes: Vec<u32>, numbers: Vec<f64>| {
            let distinct = codes.iter().copied().max().unwrap_or(0);
            SampleColumn { name: name.into(), codes, distinct, numbers, times: false }
        };
        let a: Vec<u32> = (0..600u32).map(|i| 1 + i % 6).collect();
        let b: Vec<u32> = (0..600u32).map(|i| 1 + i / 6 % 5).collect();
        let x: Vec<f64> = (0..600).map(|i| f64::from(i * 37 % 101)).collect();
        let columns = vec![
            column("a", a.clone(), vec![]),
            column("renamed a", a.iter().map(|c| 7 - c).collect(), vec![]),
            column("b", b, vec![]),
            column("x", (1..=600).collect(), x.clone()),
            column("-x³", (1..=600).collect(), x.iter().map(|x| -x * x * x).collect()),
        ];
        let sample = Sample { columns, label: vec![true; 600], ..Sample::default() };
        let found = redundant(&sample, 0.9, 10_000);
        let names: Vec<(&str, &str)> = found.iter().map(|r| (r.first.as_str(), r.second.as_str())).collect();
        assert_eq!(names.len(), 2, "{found:?}");
        assert!(names.contains(&("a", "renamed a")) && names.contains(&("x", "-x³")));
        assert!(found.iter().all(|r| (r.value.abs() - 1.0).abs() < 1e-9));
    }
}
