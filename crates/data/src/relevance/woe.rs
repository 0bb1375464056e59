//! Weight of evidence by bin, and the information value.

use serde::Serialize;

use crate::sample::SampleColumn;

/// One bin of a column.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WoeBin {
    /// What is in it: a range, the place of a value by frequency, the rest, or missing values.
    pub name: String,
    /// Rows.
    pub rows: u64,
    /// Share of positives.
    pub rate: f64,
    /// ln(share of all positives / share of all negatives), ½ added to each count; above 0 the bin speaks for a
    /// positive.
    pub woe: f64,
}

/// Positives and negatives by code, 0 to `count`.
pub(super) fn count(codes: &[u32], count: u32, label: &[bool]) -> Vec<(f64, f64)> {
    let mut table = vec![(0.0, 0.0); count as usize + 1];
    for (&code, &y) in codes.iter().zip(label) {
        let cell = &mut table[code as usize];
        if y { cell.0 += 1.0 } else { cell.1 += 1.0 }
    }
    table
}

/// Each filled bin's shares of positives and negatives.
fn shares(table: &[(f64, f64)]) -> impl Iterator<Item = (usize, f64, f64)> {
    let filled: Vec<(usize, (f64, f64))> =
        table.iter().copied().enumerate().filter(|(_, t)| t.0 + t.1 > 0.0).collect();
    let all = filled.iter().fold((0.0, 0.0), |a, (_, t)| (a.0 + t.0 + 0.5, a.1 + t.1 + 0.5));
    filled.into_iter().map(move |(bin, t)| (bin, (t.0 + 0.5) / all.0, (t.1 + 0.5) / all.1))
}

/// Σ (p − n) ln(p/n) over filled bins.
pub(super) fn information_value(table: &[(f64, f64)]) -> f64 {
    shares(table).map(|(_, p, n)| (p - n) * (p / n).ln()).sum()
}

/// The filled bins with their names.
pub(super) fn bins(column: &SampleColumn, table: &[(f64, f64)], most: usize, rest: bool) -> Vec<WoeBin> {
    let names = names(column, table.len() - 1, most, rest);
    shares(table)
        .map(|(bin, p, n)| {
            let (positives, negatives) = table[bin];
            let rows = positives + negatives;
            let name = names.get(bin).cloned().unwrap_or_default();
            WoeBin { name, rows: rows as u64, rate: positives / rows, woe: (p / n).ln() }
        })
        .collect()
}

/// By code.
fn names(column: &SampleColumn, bins: usize, most: usize, rest: bool) -> Vec<String> {
    let missing = std::iter::once("missing".to_owned());
    if column.numbers.is_empty() {
        let place = |bin: usize| match rest && bin == bins {
            true => "all others".to_owned(),
            false => format!("value no. {bin} by frequency"),
        };
        return missing.chain((1..=bins).map(place)).collect();
    }
    if column.distinct as usize <= most {
        // Codes are numbers of values as they came.
        let mut values = vec![f64::NAN; bins + 1];
        column.codes.iter().zip(&column.numbers).for_each(|(&c, x)| values[c as usize] = *x);
        return missing.chain(values.into_iter().skip(1).map(|x| x.to_string())).collect();
    }
    let edges = column.edges(most);
    let name = |bin: usize| match (bin.checked_sub(1).and_then(|b| edges.get(b)), edges.get(bin)) {
        (None, Some(high)) => format!("below {high}"),
        (Some(low), Some(high)) => format!("{low} to below {high}"),
        (Some(low), None) => format!("from {low}"),
        (None, None) => "all".to_owned(),
    };
    missing.chain((0..bins).map(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relevance::of_column;

    #[test]
    fn woe_and_information_value_worked_out_by_hand() {
        // Missing: 1 of 3; value 1: 3 of 4; value 2: 0 of 2. With halves: positives 4 + 1.5, negatives 5 + 1.5.
        let codes = vec![0, 0, 0, 1, 1, 1, 1, 2, 2];
        let label = [true, false, false, true, true, true, false, false, false];
        let column = SampleColumn { name: "c".into(), codes, distinct: 2, ..SampleColumn::default() };
        let found = of_column(&column, &label, 5);
        let p = [1.5, 3.5, 0.5].map(|c| c / 5.5);
        let n = [2.5, 1.5, 2.5].map(|c| c / 6.5);
        let woe: Vec<f64> = p.iter().zip(&n).map(|(p, n): (&f64, &f64)| (p / n).ln()).collect();
        let value: f64 = (0..3).map(|i| (p[i] - n[i]) * woe[i]).sum();
        assert!((found.information_value - value).abs() < 1e-12);
        for (bin, (woe, name)) in
            woe.iter().zip(["missing", "value no. 1 by frequency", "value no. 2 by frequency"]).enumerate()
        {
            assert!((found.bins[bin].woe - woe).abs() < 1e-12);
            assert_eq!(found.bins[bin].name, name);
        }
        assert_eq!((found.bins[1].rows, found.bins[1].rate), (4, 0.75));
    }

    #[test]
    fn ranges_are_named_and_hold_all_rows() {
        let numbers: Vec<f64> = (0..100).map(f64::from).collect();
        let column = SampleColumn {
            name: "n".into(),
            codes: (1..=100).collect(),
            distinct: 100,
            numbers,
            times: false,
        };
        let label: Vec<bool> = (0..100).map(|i| i % 4 == 0).collect();
        let found = of_column(&column, &label, 4);
        let names: Vec<&str> = found.bins.iter().map(|b| b.name.as_str()).collect();
        assert_eq!(names, ["below 25", "25 to below 50", "50 to below 75", "from 75"]);
        assert_eq!(found.bins.iter().map(|b| b.rows).sum::<u64>(), 100);
    }
}
