//! Numbers of an id that its labels went into: totals, rates, target encodings.

use super::moments::Moments;
use super::sequence::Sequence;
use super::{Finding, Leak};
use crate::sample::SampleColumn;

/// Ids at least; ids in each bin.
const IDS: usize = 30;
const IDS_PER_BIN: usize = 25;
const BINS: usize = 16;
/// Share of ids that must have one value of the number throughout.
const CONSTANT: f64 = 0.98;
/// Chance that a number must leave at most; standard errors by which it leaves too little.
const CHANCE_LEFT: f64 = 0.5;
const ERRORS: f64 = 5.0;
/// Chance that numbers of rows alone must leave: where they leave less, the sample was drawn so.
const CHANCE_DRAWN: f64 = 0.9;

/// One id: its number, rows n, positives T.
struct Total {
    number: f64,
    rows: f64,
    positives: f64,
}

/// Whether a number knows the totals of its ids better than the ids' true rates would.
///
/// Of an id with n rows and T positives, the variance of T by chance is about n·T(n − T)/(n(n − 1)), and no number that is
/// honest, were it the true rate itself, leaves less of T. Numbers are divided in bins, in each of which T is fitted by 1,
/// n, f and f·n, so that totals, rates and smoothed rates all leave nothing.
pub(super) fn check(sequence: &Sequence, id: &str, number: &SampleColumn) -> Option<Finding> {
    let totals = totals(sequence, number)?;
    let chance = |t: &Total| t.positives * (t.rows - t.positives) / (t.rows * (t.rows - 1.0));
    let expected: f64 = totals.iter().map(chance).sum();
    let squares: f64 = totals.iter().map(|t| chance(t).powi(2)).sum();
    if expected <= 0.0 {
        return None;
    }
    let mut drawn = Moments::<3>::NONE;
    totals.iter().for_each(|t| drawn.add(&[1.0, t.rows, t.positives], 1.0 / t.rows));
    if drawn.left(2).0[2][2] < CHANCE_DRAWN * expected {
        return None;
    }
    let (left, free) = fitted(&totals);
    let count = totals.len() as f64;
    // Each quantity fitted takes one id's chance away.
    let left = left * count / (count - free).max(1.0);
    let errors = (expected - left) / (2.0 * squares).sqrt();
    (left <= CHANCE_LEFT * expected && errors >= ERRORS).then(|| Finding {
        kind: Leak::OwnLabel,
        column: Some(number.name.clone()),
        figure: 1.0 - left / expected,
        reason: format!(
            "one value per `{id}`, and it knows how many of an id's rows are positive more exactly than the id's true \
             rate could: it leaves {:.0} % of the chance that is in the labels",
            100.0 * left / expected
        ),
        advice: super::own::ADVICE.into(),
    })
}

/// Ids with two rows and one value at least; `None` where they are few, or have several values.
fn totals(sequence: &Sequence, number: &SampleColumn) -> Option<Vec<Total>> {
    let (mut totals, mut several) = (Vec::new(), 0usize);
    for id in sequence.ids() {
        let mut total = Total { number: f64::NAN, rows: 0.0, positives: 0.0 };
        let mut constant = true;
        for place in id {
            let x = number.numbers[sequence.rows[place] as usize];
            if x.is_nan() {
                continue;
            }
            constant &= total.number.is_nan() || total.number == x;
            total.number = x;
            total.rows += 1.0;
            total.positives += sequence.label(place);
        }
        several += usize::from(!constant);
        if constant && total.rows >= 2.0 {
            totals.push(total);
        }
    }
    let enough = totals.len() >= IDS && totals.len() as f64 >= CONSTANT * (totals.len() + several) as f64;
    enough.then_some(totals)
}

/// Σ (T − fit)² / n, and the number of quantities fitted.
fn fitted(totals: &[Total]) -> (f64, f64) {
    let numbers =
        SampleColumn { numbers: totals.iter().map(|t| t.number).collect(), ..SampleColumn::default() };
    let edges = numbers.edges((totals.len() / IDS_PER_BIN).clamp(1, BINS));
    let scale = totals.iter().map(|t| t.number.abs()).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let mut bins = vec![Moments::<5>::NONE; edges.len() + 1];
    for t in totals {
        let bin = edges.partition_point(|e| *e <= t.number);
        let f = t.number / scale;
        bins[bin].add(&[1.0, t.rows, f, f * t.rows, t.positives], 1.0 / t.rows);
    }
    let left = bins.iter().map(|bin| bin.left(4));
    left.fold((0.0, 0.0), |sum, (left, free)| (sum.0 + left[4][4], sum.1 + free as f64))
}
