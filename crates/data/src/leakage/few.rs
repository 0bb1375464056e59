//! Copies of the label in few rows, where chance is counted out.

use super::{Finding, Leak};
use crate::sample::{Sample, SampleColumn};

/// Chance, over all columns together, that one looks like a copy: of words and of missing values, and of a threshold. A
/// number that is honest and strong divides few rows by itself sometimes.
const CHANCE: f64 = 1e-6;
const CHANCE_OF_THRESHOLD: f64 = 1e-9;

/// The copies among all columns; each value, missing ones too, has rows of one class only.
pub(super) fn check(sample: &Sample) -> Vec<Finding> {
    let positives = sample.label.iter().filter(|y| **y).count();
    let rarer = positives.min(sample.rows() - positives);
    // Two ways to look at each column.
    let tries = 2.0 * sample.columns.len() as f64;
    let ways = Ways { rarer, assignments: ln_choose(sample.rows(), rarer), tries };
    sample
        .columns
        .iter()
        .filter_map(|column| ways.missing(sample, column).or_else(|| ways.copy(sample, column)))
        .collect()
}

struct Ways {
    rarer: usize,
    /// ln of the ways to choose which rows are of the rarer class.
    assignments: f64,
    tries: f64,
}

impl Ways {
    fn missing(&self, sample: &Sample, column: &SampleColumn) -> Option<Finding> {
        let filled: Vec<u32> = column.codes.iter().map(|&c| u32::from(c > 0)).collect();
        let chance = self.of_values(&filled, 1, &sample.label)?;
        (chance < CHANCE).then(|| Finding {
            kind: Leak::Missing,
            column: Some(column.name.clone()),
            figure: chance,
            reason: format!(
                "all rows with a value are of one class and all without are of the other; the chance of that is {}",
                shown(chance)
            ),
            advice: super::column::MISSING_ADVICE.into(),
        })
    }

    fn copy(&self, sample: &Sample, column: &SampleColumn) -> Option<Finding> {
        let by_value = self.of_values(&column.codes, column.distinct, &sample.label).filter(|c| *c < CHANCE);
        let (chance, how) = match by_value {
            Some(chance) => (chance, "rows of equal value are of one class throughout"),
            None => {
                let chance = self.of_threshold(column, &sample.label).filter(|c| *c < CHANCE_OF_THRESHOLD)?;
                (chance, "a limit has all positives on one side and all negatives on the other")
            }
        };
        Some(Finding {
            kind: Leak::LabelCopy,
            column: Some(column.name.clone()),
            figure: chance,
            reason: format!("{how}; the chance of that in {} rows is {}", sample.rows(), shown(chance)),
            advice: super::column::COPY_ADVICE.into(),
        })
    }

    /// Chance that values part the classes; `None` where they do not. Of all ways to choose the rarer class's rows, those
    /// are counted that take values whole.
    fn of_values(&self, codes: &[u32], distinct: u32, label: &[bool]) -> Option<f64> {
        let mut rows = vec![[0usize; 2]; distinct as usize + 1];
        codes.iter().zip(label).for_each(|(&code, &y)| rows[code as usize][usize::from(y)] += 1);
        if rows.iter().any(|r| r[0] > 0 && r[1] > 0) {
            return None;
        }
        let mut ways = vec![0.0; self.rarer + 1];
        ways[0] = 1.0;
        for size in rows.iter().map(|r| r[0] + r[1]).filter(|&size| size > 0 && size <= self.rarer) {
            for sum in (size..=self.rarer).rev() {
                ways[sum] += ways[sum - size];
            }
        }
        let ways: f64 = ways[self.rarer];
        Some(self.tries * (ways.ln() - self.assignments).exp())
    }

    /// Chance that a limit parts the classes, from above or from below; `None` where none does, or values are missing.
    fn of_threshold(&self, column: &SampleColumn, label: &[bool]) -> Option<f64> {
        let none = (f64::INFINITY, f64::NEG_INFINITY);
        let mut ranges = [none; 2];
        for (x, y) in column.numbers.iter().zip(label) {
            if x.is_nan() {
                return None;
            }
            let range = &mut ranges[usize::from(*y)];
            *range = (range.0.min(*x), range.1.max(*x));
        }
        let [negative, positive] = ranges;
        let apart = !column.numbers.is_empty() && (negative.1 < positive.0 || positive.1 < negative.0);
        apart.then(|| self.tries * (2f64.ln() - self.assignments).exp())
    }
}

fn shown(chance: f64) -> String {
    format!("{:.0e}", chance.max(f64::MIN_POSITIVE))
}

/// ln of n over k.
fn ln_choose(n: usize, k: usize) -> f64 {
    (0..k).map(|i| ((n - i) as f64 / (i + 1) as f64).ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_are_those_of_counting() {
        // Eight rows, three positives; values in groups of 3, 2, 2, 1.
        let label = [true, true, true, false, false, false, false, false];
        let ways = Ways { rarer: 3, assignments: ln_choose(8, 3), tries: 1.0 };
        let near =
            |found: Option<f64>, wanted: f64| assert!((found.unwrap() - wanted).abs() < 1e-12, "{found:?}");
        // {3}, {2, 1}, {2, 1} of 56.
        near(ways.of_values(&[1, 1, 1, 2, 2, 3, 3, 4], 4, &label), 3.0 / 56.0);
        near(ways.of_values(&[0, 0, 0, 1, 1, 1, 1, 1], 1, &label), 1.0 / 56.0);
        // All different: every way takes them whole.
        near(ways.of_values(&[1, 2, 3, 4, 5, 6, 7, 8], 8, &label), 1.0);
        assert_eq!(ways.of_values(&[1, 1, 1, 1, 2, 2, 2, 2], 2, &label), None);
        let number = |numbers: &[f64]| SampleColumn { numbers: numbers.to_vec(), ..SampleColumn::default() };
        near(ways.of_threshold(&number(&[3.0, 4.0, 5.0, 1.0, 2.0, 1.0, 0.0, 2.5]), &label), 2.0 / 56.0);
        assert_eq!(ways.of_threshold(&number(&[3.0, 4.0, 5.0, 1.0, 2.0, 1.0, 0.0, 3.5]), &label), None);
    }
}
