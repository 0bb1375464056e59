//! Checks of rows: which came early, and which stand in two parts.

use rapidhash::RapidHashMap;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::predict::half;
use super::{Finding, Leak};
use crate::sample::Sample;

/// Share of the rows that count as early where times alone are known.
const EARLY: f64 = 0.7;
/// Share of later rows that are in training too, beyond what chance gives.
const TWICE: f64 = 0.02;

/// `[N]`: whether a row is early: of training, or of the first 70 % by time. Empty when neither is known.
pub(super) fn early(sample: &Sample) -> Vec<bool> {
    if !sample.late.is_empty() {
        return sample.late.iter().map(|late| !late).collect();
    }
    let mut times = sample.time_ms.clone();
    times.sort_unstable();
    let Some(&cut) = times.get((EARLY * times.len() as f64) as usize) else { return Vec::new() };
    sample.time_ms.iter().map(|t| *t < cut).collect()
}

/// Rows of a later part that also stand in training, features and label, where training itself repeats fewer.
pub(super) fn duplicates(sample: &Sample) -> Option<Finding> {
    if sample.late.is_empty() {
        return None;
    }
    let hash = |row: usize| {
        let start = u64::from(sample.label[row]);
        sample.columns.iter().fold(start, |h, c| xxh3_64_with_seed(&c.codes[row].to_le_bytes(), h))
    };
    // Per row: times in the first half of training, in the second.
    let mut seen: RapidHashMap<u64, [u32; 2]> = RapidHashMap::default();
    let (mut late, mut training) = (Vec::new(), [Vec::new(), Vec::new()]);
    for row in 0..sample.rows() {
        if sample.late[row] {
            late.push(hash(row));
        } else {
            seen.entry(hash(row)).or_default()[half(row)] += 1;
            training[half(row)].push(hash(row));
        }
    }
    // Half of training against a later part: chance gives both the same share.
    let share = |rows: &[u64], of: &[usize]| {
        let twice = rows.iter().filter(|h| seen.get(h).is_some_and(|s| of.iter().any(|&i| s[i] > 0))).count();
        twice as f64 / rows.len().max(1) as f64
    };
    let (among, across) = (share(&training[0], &[1]), share(&late, &[1]));
    (across - among > TWICE && across > 2.0 * among).then(|| {
        let all = share(&late, &[0, 1]);
        Finding {
            kind: Leak::Duplicates,
            column: None,
            figure: all,
            reason: format!(
                "{:.1} % of the later rows stand in training too, label included; half of the training rows hold {:.1} \
                 % of them, but only {:.1} % of the other half",
                100.0 * all,
                100.0 * across,
                100.0 * among
            ),
            advice: "the parts overlap: split before copying or up-sampling rows, or by time or user".into(),
        }
    })
}
