//! Checks of one column by itself.

use super::predict::{Skill, Tally, half, skill, summed};
use super::{Finding, Leak};
use crate::sample::{Sample, SampleColumn};

/// A column alone that reaches this AUC is a copy of the label, and so is one that reaches the lower one and explains this
/// share of the label's entropy. Items among uniformly sampled negatives stay below: popularity tells them apart with an
/// AUC of 0.92 in Frappe.
const COPY_AUC: f64 = 0.98;
const ROUGH_AUC: f64 = 0.95;
const COPY_EXPLAINED: f64 = 0.5;
/// Bins of a numeric column.
const BINS: usize = 64;
/// Positives (or negatives) expected among rows without a value before their complete absence means something.
const EXPECTED: f64 = 30.0;
/// AUC of the gap between a column's time and the row's, before it means something.
const GAP_AUC: f64 = 0.6;
/// AUC on early rows, and its loss on later ones, before it means something.
const FADE_FROM: f64 = 0.65;
const FADE_BY: f64 = 0.15;
/// AUC of a column that numbers the rows.
const ORDER_AUC: f64 = 0.65;

pub(super) const COPY_ADVICE: &str = "it is the label in other words, or follows from it: leave it out";
pub(super) const MISSING_ADVICE: &str = "the column is written after the outcome is known: leave it out, or fill it at \
                                         the time of the request for all rows alike";

/// The first leak that a column shows.
pub(super) fn check(sample: &Sample, at: usize, early: &[bool]) -> Option<Finding> {
    let column = &sample.columns[at];
    missing(sample, column)
        .or_else(|| future(sample, column))
        .or_else(|| copy(sample, column))
        .or_else(|| order(sample, column))
        .or_else(|| fades(sample, column, early))
}

/// AUC of a number alone, on rows that its bins' rates were not taken from.
pub(super) fn alone(sample: &Sample, column: &SampleColumn) -> f64 {
    let (binned, bins) = column.binned(BINS);
    skill(&binned, bins, &sample.label).auc
}

fn is_copy(skill: Skill) -> bool {
    skill.auc >= COPY_AUC || skill.auc >= ROUGH_AUC && skill.explained >= COPY_EXPLAINED
}

fn missing(sample: &Sample, column: &SampleColumn) -> Option<Finding> {
    let mut by = [Tally::default(); 2];
    let filled: Vec<u32> = column.codes.iter().map(|&c| u32::from(c > 0)).collect();
    filled.iter().zip(&sample.label).for_each(|(&f, &y)| by[f as usize].add(y));
    let found = skill(&filled, 1, &sample.label);
    let only = |t: &Tally| {
        let expected = sample.rate() * t.rows;
        match t.positives {
            0.0 if expected >= EXPECTED => Some("negative"),
            p if p == t.rows && t.rows - expected >= EXPECTED => Some("positive"),
            _ => None,
        }
    };
    let (state, class, rows) = [("without", &by[0]), ("with", &by[1])]
        .into_iter()
        .find_map(|(state, t)| Some((state, only(t)?, t.rows)))
        .or_else(|| is_copy(found).then_some(("without", "of one class", by[0].rows)))?;
    Some(Finding {
        kind: Leak::Missing,
        column: Some(column.name.clone()),
        figure: found.auc,
        reason: format!(
            "all {rows} rows {state} a value are {class}; whether there is a value has AUC {:.3} by itself",
            found.auc
        ),
        advice: MISSING_ADVICE.into(),
    })
}

fn copy(sample: &Sample, column: &SampleColumn) -> Option<Finding> {
    let (binned, bins) = column.binned(BINS);
    let by_bin = skill(&binned, bins, &sample.label);
    let by_value = skill(&column.codes, column.distinct, &sample.label);
    let found = if by_bin.explained > by_value.explained { by_bin } else { by_value };
    if !is_copy(found) {
        return None;
    }
    Some(Finding {
        kind: Leak::LabelCopy,
        column: Some(column.name.clone()),
        figure: found.auc,
        reason: format!(
            "alone it tells the label with AUC {:.4} and explains {:.0} % of its entropy, on rows that its values \
             were not learned from",
            found.auc,
            100.0 * found.explained
        ),
        advice: COPY_ADVICE.into(),
    })
}

fn future(sample: &Sample, column: &SampleColumn) -> Option<Finding> {
    if !column.times || sample.time_ms.is_empty() {
        return None;
    }
    let gaps: Vec<f64> = column.numbers.iter().zip(&sample.time_ms).map(|(x, t)| x - *t as f64).collect();
    let later = gaps.iter().filter(|g| **g > 0.0).count();
    if (later as f64) < 0.01 * gaps.len() as f64 {
        return None;
    }
    // Whether and how much later, without the exact value.
    let code = |g: &f64| match g {
        g if g.is_nan() => 0,
        g if *g <= 0.0 => 1,
        g => 2 + (g / 1e3 + 1.0).log2() as u32,
    };
    let codes: Vec<u32> = gaps.iter().map(code).collect();
    let found = skill(&codes, codes.iter().copied().max().unwrap_or(0), &sample.label);
    (found.auc >= GAP_AUC).then(|| Finding {
        kind: Leak::Future,
        column: Some(column.name.clone()),
        figure: found.auc,
        reason: format!(
            "it holds a time after the row's own in {later} of {} rows, and how much later tells the label with AUC \
             {:.3}",
            gaps.len(),
            found.auc
        ),
        advice: "at the time of the request this has not happened yet: leave it out, or use the latest value from \
                 before the row's time"
            .into(),
    })
}

/// A nearly unique number whose order is the label's.
fn order(sample: &Sample, column: &SampleColumn) -> Option<Finding> {
    let filled = column.codes.iter().filter(|&&c| c > 0).count();
    if column.numbers.is_empty() || column.times || (column.distinct as f64) < 0.9 * filled as f64 {
        return None;
    }
    let rising = column.numbers.windows(2).filter(|w| w[1] > w[0]).count() as f64;
    let steps = column.numbers.len().saturating_sub(1).max(1) as f64;
    let (binned, bins) = column.binned(BINS);
    let found = skill(&binned, bins, &sample.label);
    let in_order = !(0.05..=0.95).contains(&(rising / steps));
    (in_order && found.auc >= ORDER_AUC).then(|| Finding {
        kind: Leak::RowOrder,
        column: Some(column.name.clone()),
        figure: found.auc,
        reason: format!(
            "it numbers the rows, and the rows are sorted so that its range tells the label with AUC {:.3}",
            found.auc
        ),
        advice: "leave it out; shuffle the file, or sort it by time, before splitting it".into(),
    })
}

/// Learned from half of the early rows: much on the other half, little on later rows with the same values.
fn fades(sample: &Sample, column: &SampleColumn, early: &[bool]) -> Option<Finding> {
    let few = column.distinct as usize * 50 <= sample.rows();
    if early.is_empty() || (column.numbers.is_empty() && !few) || column.times {
        return None;
    }
    let (codes, bins) = column.binned(BINS);
    let mut learned = vec![Tally::default(); bins as usize + 1];
    let mut judged = [vec![Tally::default(); bins as usize + 1], vec![Tally::default(); bins as usize + 1]];
    for (row, (&code, &y)) in codes.iter().zip(&sample.label).enumerate() {
        let into = match (early[row], half(row)) {
            (true, 0) => &mut learned,
            (true, _) => &mut judged[0],
            (false, _) => &mut judged[1],
        };
        into[code as usize].add(y);
    }
    let total = learned.iter().fold((0.0, 0.0), |a, t| (a.0 + t.rows, a.1 + t.positives));
    let rate = total.1 / f64::max(total.0, 1.0);
    let [then, later] = judged.map(|rows| {
        let known = rows.iter().zip(&learned).filter(|(t, l)| t.rows > 0.0 && l.rows > 0.0);
        let mut judged: Vec<(f64, Tally)> = known.map(|(t, l)| (l.mean(rate), *t)).collect();
        let sums =
            judged.iter().fold((0.0, 0.0), |a, (_, t)| (a.0 + t.positives, a.1 + t.rows - t.positives));
        (f64::min(sums.0, sums.1) >= super::FEWEST as f64).then(|| summed(&mut judged).auc)
    });
    let (then, later) = (then?, later?);
    (then >= FADE_FROM && then - later >= FADE_BY).then(|| Finding {
        kind: Leak::Fades,
        column: Some(column.name.clone()),
        figure: then - later,
        reason: format!(
            "alone it tells the label with AUC {then:.3} on early rows and {later:.3} on later ones, which had no \
             part in it"
        ),
        advice: "it was probably computed from the labels of the early rows themselves: compute it from what came \
                 before each row, or from another part of the data"
            .into(),
    })
}
