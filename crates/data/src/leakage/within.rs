//! Numbers that tell the label from among the rows of one id: rates and totals that leave the row's own label out.

use super::predict::skill;
use super::sequence::Sequence;
use super::{Finding, Leak};
use crate::sample::SampleColumn;

/// AUC of being above or below the id's mean.
const AUC: f64 = 0.98;
/// A difference to the mean below this share of it is rounding.
const ROUNDING: f64 = 1e-9;

/// Whether being above the mean of its id's rows, at it or below gives the label away, as where the own label is taken
/// out of the total: then positives lie below their id's mean, and negatives above it.
pub(super) fn check(sequence: &Sequence, id: &str, number: &SampleColumn) -> Option<Finding> {
    let of = |place: usize| number.numbers[sequence.rows[place] as usize];
    let (mut codes, mut labels) = (Vec::new(), Vec::new());
    for id in sequence.ids() {
        let known = id.clone().map(of).filter(|x| !x.is_nan());
        let (sum, count) = known.fold((0.0, 0.0), |s, x| (s.0 + x, s.1 + 1.0));
        let mean = sum / f64::max(count, 1.0);
        for place in id {
            let x = of(place) - mean;
            codes.push(match x {
                x if x.is_nan() => 0,
                x if x.abs() <= ROUNDING * mean.abs() => 2,
                x => 1 + 2 * u32::from(x > 0.0),
            });
            labels.push(sequence.label(place) > 0.0);
        }
    }
    let positives = labels.iter().filter(|y| **y).count();
    if positives.min(labels.len() - positives) < super::FEWEST {
        return None;
    }
    let found = skill(&codes, 3, &labels);
    (found.auc >= AUC).then(|| Finding {
        kind: Leak::OwnLabel,
        column: Some(number.name.clone()),
        figure: found.auc,
        reason: format!(
            "whether it is above the mean of the rows with the same `{id}`, or below, tells the label with AUC {:.4}: \
             the own label was put into it, or taken out of it",
            found.auc
        ),
        advice: "compute it from what came before each row: where the own label alone is left out, the mean less the number \
                 is that label"
            .into(),
    })
}
