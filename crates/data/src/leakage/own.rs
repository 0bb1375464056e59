//! Numbers that are computed from labels, the row's own or later ones among them: click rates and counts over the whole
//! file, counts from now on.

use rayon::prelude::*;

use super::predict::{correlation, half};
use super::sequence::{Sequence, order};
use super::{Finding, Leak, totals, windows, within};
use crate::sample::{Sample, SampleColumn};

/// Ids at least, and rows per id.
const FEWEST_IDS: usize = 30;
const ROWS_PER_ID: usize = 2;
/// Ids at least where halves of their rows are compared.
const IDS: usize = 100;
/// Share of ids that must have one value of the number throughout.
const CONSTANT: f64 = 0.98;

pub(super) const ADVICE: &str = "it is computed from labels, the row's own among them: compute it from what came before \
                                 each row, or from other data";

/// A number to look at, and its AUC alone.
pub(super) struct Number<'a> {
    pub(super) column: &'a SampleColumn,
    pub(super) alone: f64,
}

/// What was found of one number with one id.
struct Found {
    number: usize,
    id: String,
    finding: Finding,
}

/// Findings, and ids that nothing can be told of. `numbers` have no finding yet; columns in `known` have, and are no
/// ids.
pub(super) fn check(sample: &Sample, numbers: &[Number<'_>], known: &[&str]) -> (Vec<Finding>, Vec<String>) {
    let ids = sample.columns.iter().filter(|c| is_id(sample, c) && !known.contains(&c.name.as_str()));
    let ids: Vec<&SampleColumn> = ids.collect();
    if numbers.is_empty() || ids.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let order = order(sample);
    let by_id: Vec<(Vec<Found>, bool)> =
        ids.par_iter().map(|id| of_id(sample, id, numbers, &order)).collect();
    let apart = ids.iter().zip(&by_id).filter(|(_, (_, apart))| *apart);
    let not_checked = apart.map(|(id, _)| {
        format!(
            "counts of one `{}`'s labels: its positives keep apart, as in a sample of so many negatives to each \
             positive, and so tell of each other",
            id.name
        )
    });
    let not_checked = not_checked.collect();
    (choose(by_id.into_iter().flat_map(|(found, _)| found).collect(), numbers), not_checked)
}

/// Words or whole numbers, often enough the same.
fn is_id(sample: &Sample, column: &SampleColumn) -> bool {
    let distinct = column.distinct as usize;
    let whole = column.numbers.iter().all(|x| x.is_nan() || x.fract() == 0.0);
    distinct >= FEWEST_IDS && distinct * ROWS_PER_ID <= sample.rows() && whole && !column.times
}

fn of_id(sample: &Sample, id: &SampleColumn, numbers: &[Number<'_>], order: &[u32]) -> (Vec<Found>, bool) {
    let sequence = Sequence::of(sample, id, order);
    let apart = sequence.positives_keep_apart();
    let mut out = Vec::new();
    for (at, number) in numbers.iter().enumerate().filter(|(_, n)| n.column.name != id.name) {
        let column = number.column;
        let of_windows = || windows::check(&sequence, &id.name, column, number.alone);
        let found =
            (!apart).then(|| totals::check(&sequence, &id.name, column).or_else(of_windows)).flatten();
        let found = found
            .or_else(|| within::check(&sequence, &id.name, column))
            .or_else(|| excess(sample, id, column));
        out.extend(found.map(|finding| Found { number: at, id: id.name.clone(), finding }));
    }
    (out, apart)
}

/// One finding for each number. Where an id is found itself, what it says of others may be its own fault: an honest count
/// differs from one with the own label by that label.
fn choose(found: Vec<Found>, numbers: &[Number<'_>]) -> Vec<Finding> {
    let mut sure = vec![false; numbers.len()];
    let mut some = vec![false; numbers.len()];
    found.iter().for_each(|f| some[f.number] = true);
    let number_of = |f: &Found| numbers.iter().position(|n| n.column.name == f.id);
    for f in found.iter().filter(|f| number_of(f).is_none_or(|id| !some[id])) {
        sure[f.number] = true;
    }
    let blame = |f: &Found| match number_of(f) {
        Some(id) if sure[f.number] => !some[id],
        Some(id) => !sure[id],
        None => true,
    };
    let mut found: Vec<Found> = found.into_iter().filter(|f| blame(f)).collect();
    found.sort_by(|a, b| {
        let by_figure = || b.finding.figure.total_cmp(&a.finding.figure);
        a.number.cmp(&b.number).then_with(by_figure).then_with(|| a.id.cmp(&b.id))
    });
    found.dedup_by_key(|f| f.number);
    found.into_iter().map(|f| f.finding).collect()
}

/// An id's number, and its positives and rows in each half.
#[derive(Clone, Copy)]
struct Id {
    number: f64,
    constant: bool,
    halves: [(f64, f64); 2],
}

/// Numbers that know the chance in their ids' labels.
///
/// Split each id's rows in two halves with mean labels A and B, v being the id's number. A number that knows the id's true rate p and nothing
/// of these labels has corr(v, A)·corr(v, B) ≤ corr(A, B), since A and B share p alone. A mean of the very labels exceeds that by
/// (1 − corr(A, B))/2, for it holds the noise of both.
fn excess(sample: &Sample, id: &SampleColumn, number: &SampleColumn) -> Option<Finding> {
    let none = Id { number: f64::NAN, constant: true, halves: [(0.0, 0.0); 2] };
    let mut ids = vec![none; id.distinct as usize + 1];
    for (row, &code) in id.codes.iter().enumerate() {
        let (x, at) = (number.numbers[row], &mut ids[code as usize]);
        if code == 0 || x.is_nan() {
            continue;
        }
        at.constant &= at.number.is_nan() || at.number == x;
        at.number = x;
        let half = &mut at.halves[half(row)];
        *half = (half.0 + f64::from(u8::from(sample.label[row])), half.1 + 1.0);
    }
    let mut ids: Vec<Id> =
        ids.into_iter().filter(|i| i.halves.iter().all(|h| h.1 > 0.0) && !i.number.is_nan()).collect();
    let constant = ids.iter().filter(|i| i.constant).count() as f64;
    if ids.len() < IDS || constant < CONSTANT * ids.len() as f64 {
        return None;
    }
    // Chance is loudest in ids with few rows.
    ids.sort_by(|a, b| rows(a).total_cmp(&rows(b)));
    ids.truncate(IDS.max(ids.len() / 2));
    let mean = |i: &Id, h: usize| i.halves[h].0 / i.halves[h].1;
    let of = |pair: &dyn Fn(&Id) -> (f64, f64)| correlation(&ids.iter().map(pair).collect::<Vec<_>>());
    let a = of(&|i| (i.number, mean(i, 0)))?;
    let b = of(&|i| (i.number, mean(i, 1)))?;
    let shared = of(&|i| (mean(i, 0), mean(i, 1)))?;
    let over = a * b - shared.max(0.0);
    let chance = 5.0 / (ids.len() as f64).sqrt();
    (a.abs().min(b.abs()) > 0.3 && over > chance.max(0.15)).then(|| Finding {
        kind: Leak::OwnLabel,
        column: Some(number.name.clone()),
        figure: over,
        reason: format!(
            "one value per `{}`, and it follows the labels of either half of an id's rows ({a:.2}, {b:.2}) more than \
             the halves follow each other ({shared:.2}): it knows the chance in these labels",
            id.name
        ),
        advice: ADVICE.into(),
    })
}

fn rows(id: &Id) -> f64 {
    id.halves[0].1 + id.halves[1].1
}
