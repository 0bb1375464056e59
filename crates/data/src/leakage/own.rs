//! Numbers that are computed from labels, the row's own among them: click rates and counts over the whole file.

use rayon::prelude::*;

use super::predict::{correlation, half};
use super::{Finding, Leak};
use crate::sample::{Sample, SampleColumn};

/// Ids of rows per id at least, and ids at least.
const ROWS_PER_ID: usize = 2;
const IDS: usize = 100;
/// Share of ids that must have one value of the number throughout.
const CONSTANT: f64 = 0.98;

/// Numbers that know the chance in their ids' labels.
///
/// Split each id's rows in two halves with mean labels A and B, v being the id's number. A number that knows the id's true rate p and nothing
/// of these labels has corr(v, A)·corr(v, B) ≤ corr(A, B), since A and B share p alone. A mean of the very labels exceeds that by
/// (1 − corr(A, B))/2, for it holds the noise of both.
pub(super) fn check(sample: &Sample, known: &[&str]) -> Vec<Finding> {
    let ids: Vec<&SampleColumn> = sample.columns.iter().filter(|c| is_id(sample, c)).collect();
    let numbers = sample.columns.iter().filter(|c| {
        !c.numbers.is_empty() && !c.times && c.distinct >= 20 && !known.contains(&c.name.as_str())
    });
    let numbers: Vec<&SampleColumn> = numbers.collect();
    let finding = |number: &&SampleColumn| {
        let of_ids = ids.iter().filter(|id| id.name != number.name);
        of_ids.filter_map(|id| excess(sample, id, number)).max_by(|a, b| a.figure.total_cmp(&b.figure))
    };
    numbers.par_iter().filter_map(finding).collect()
}

fn is_id(sample: &Sample, column: &SampleColumn) -> bool {
    let distinct = column.distinct as usize;
    distinct >= IDS && distinct * ROWS_PER_ID <= sample.rows()
}

/// An id's number, and its positives and rows in each half.
#[derive(Clone, Copy)]
struct Id {
    number: f64,
    constant: bool,
    halves: [(f64, f64); 2],
}

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
        advice: "it is computed from labels, the row's own among them: compute it from what came before each row, or \
                 leave the row itself out"
            .into(),
    })
}

fn rows(id: &Id) -> f64 {
    id.halves[0].1 + id.halves[1].1
}
