//! Fewer negatives, and the probability that undoes it.

use millstream_schema::Examples;

use super::{BalanceStep, seeded};

/// The probability of a model that learned from a share `kept` of the negatives, as it is on all of them:
/// p = q / (q + (1 − q)/w) for the model's q and w = `kept` (He et al., ADKDD 2014, §6.3). In logits: z + ln w.
///
/// ```
/// // Half of the kept rows positive, one negative in ten kept: one in eleven of all.
/// assert!((millstream_data::balance::calibrated(0.5, 0.1) - 1.0 / 11.0).abs() < 1e-12);
/// ```
pub fn calibrated(probability: f64, kept: f64) -> f64 {
    probability / (probability + (1.0 - probability) / kept)
}

/// The rows without those negatives that the draw leaves out; `first` candidates came before these.
pub(super) fn keep_some(x: &Examples, step: &BalanceStep, first: u64) -> Examples {
    let kept = |row: &u32| {
        let label = x.labels[*row as usize * x.tasks];
        label > 0.5 || seeded::unit(step.seed(), first + u64::from(*row), 0) < step.kept()
    };
    pick(x, &(0..x.candidates() as u32).filter(kept).collect::<Vec<_>>())
}

/// The candidates named, rising, with their requests; requests without candidates go.
pub(super) fn pick(x: &Examples, candidates: &[u32]) -> Examples {
    let mut requests: Vec<u32> = candidates.iter().map(|&c| x.candidate_request[c as usize]).collect();
    let mut place = 0;
    let candidate_request = (0..requests.len())
        .map(|i| {
            place += u32::from(i > 0 && requests[i] != requests[i - 1]);
            place
        })
        .collect();
    requests.dedup();
    let t = x.tasks;
    let none: &[u32] = &[];
    Examples {
        request_user: requests.iter().map(|&r| x.request_user[r as usize]).collect(),
        request_time_ms: requests.iter().map(|&r| x.request_time_ms[r as usize]).collect(),
        history: x.history.gather(&requests),
        context: x.context.gather(if x.context.fields.is_empty() { none } else { &requests }),
        candidate_item: match x.candidate_item.is_empty() {
            true => Vec::new(),
            false => candidates.iter().map(|&c| x.candidate_item[c as usize]).collect(),
        },
        exposure: x.exposure.gather(if x.exposure.fields.is_empty() { none } else { candidates }),
        labels: candidates.iter().flat_map(|&c| x.labels[c as usize * t..][..t].iter().copied()).collect(),
        tasks: t,
        weights: match x.weights.is_empty() {
            true => Vec::new(),
            false => candidates.iter().map(|&c| x.weights[c as usize]).collect(),
        },
        candidate_request,
    }
}
