//! AUC within each user.

use rayon::slice::ParallelSliceMut;
use serde::Serialize;

use super::auc::Area;
use super::{POSITIVE, order_of, weight_of};

/// AUC by user, weighed by impressions, and what it was computed from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Gauc {
    /// In [0, 1]; `None` when no user has both classes.
    pub value: Option<f64>,
    /// Users with both classes, over whom the mean goes.
    pub users: u64,
    /// Users left out because they have positives only or negatives only.
    pub one_class: u64,
}

/// [`weighted`] with all weights 1: the value alone.
pub fn gauc(scores: &[f32], labels: &[f32], groups: &[u32]) -> Option<f64> {
    weighted(scores, labels, groups, &[]).value
}

/// Σᵤ nᵤ AUCᵤ / Σᵤ nᵤ over users with both classes, nᵤ the user's impressions, or their summed weights
/// (Zhu et al. 2017, "Optimized Cost per Click in Taobao Display Advertising", eq. 6).
///
/// `scores`, `labels` and `groups` are `[N]`, N < 2³²; `weights` is `[N]`, or empty when all are 1.
pub fn weighted(scores: &[f32], labels: &[f32], groups: &[u32], weights: &[f32]) -> Gauc {
    let n = scores.len().min(labels.len()).min(groups.len());
    let mut order: Vec<(u64, u32)> =
        (0..n).map(|i| (u64::from(groups[i]) << 32 | u64::from(order_of(scores[i])), i as u32)).collect();
    order.par_sort_unstable();
    let mut out = Gauc::default();
    let (mut sum, mut total) = (0.0, 0.0);
    for user in order.chunk_by(|a, b| a.0 >> 32 == b.0 >> 32) {
        let (mut area, mut impressions) = (Area::default(), 0.0);
        for &(key, i) in user {
            let weight = weight_of(weights, i as usize);
            area.take(key as u32, labels[i as usize] > POSITIVE, weight);
            impressions += weight;
        }
        match area.finish() {
            Some(auc) => {
                out.users += 1;
                sum += impressions * auc;
                total += impressions;
            }
            None => out.one_class += 1,
        }
    }
    out.value = (total > 0.0).then(|| sum / total);
    out
}

#[cfg(test)]
mod tests {
    use super::super::auc::tests::all_pairs;
    use super::*;
    use crate::metrics::test_numbers;

    /// The naive twin: one user after the other, all pairs.
    fn by_user(scores: &[f32], labels: &[f32], groups: &[u32], weights: &[f32]) -> Gauc {
        let mut users: Vec<u32> = groups.to_vec();
        users.sort_unstable();
        users.dedup();
        let (mut out, mut sum, mut total) = (Gauc::default(), 0.0, 0.0);
        for user in users {
            let rows: Vec<usize> = (0..groups.len()).filter(|&i| groups[i] == user).collect();
            let pick =
                |from: &[f32]| -> Vec<f32> { rows.iter().filter_map(|&i| from.get(i).copied()).collect() };
            let n: f64 = rows.iter().map(|&i| weight_of(weights, i)).sum();
            match all_pairs(&pick(scores), &pick(labels), &pick(weights)) {
                Some(auc) => {
                    out.users += 1;
                    sum += n * auc;
                    total += n;
                }
                None => out.one_class += 1,
            }
        }
        out.value = (total > 0.0).then(|| sum / total);
        out
    }

    #[test]
    fn it_equals_one_user_after_the_other() {
        for seed in 0..10 {
            let mut next = test_numbers(seed);
            let n = 400;
            let scores: Vec<f32> = (0..n).map(|_| (next() * 8.0).floor() as f32 - 4.0).collect();
            let labels: Vec<f32> = (0..n).map(|_| f32::from(u8::from(next() < 0.3))).collect();
            let groups: Vec<u32> = (0..n).map(|_| (next() * next() * 90.0) as u32).collect();
            let weights: Vec<f32> = (0..n).map(|_| 0.5 + next() as f32).collect();
            for weights in [&weights[..], &[]] {
                let fast = weighted(&scores, &labels, &groups, weights);
                let slow = by_user(&scores, &labels, &groups, weights);
                assert!((fast.value.unwrap() - slow.value.unwrap()).abs() < 1e-12);
                assert_eq!((fast.users, fast.one_class), (slow.users, slow.one_class));
                assert!(fast.one_class > 0);
            }
        }
    }

    #[test]
    fn without_a_user_of_both_classes_there_is_no_value() {
        assert_eq!(weighted(&[], &[], &[], &[]), Gauc::default());
        let none = weighted(&[0.1, 0.2], &[1.0, 0.0], &[1, 2], &[]);
        assert_eq!(none, Gauc { value: None, users: 0, one_class: 2 });
        assert_eq!(gauc(&[0.1, 0.2, 0.9], &[0.0, 1.0, 1.0], &[1, 1, 2]), Some(1.0));
    }
}
