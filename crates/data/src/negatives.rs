//! Sampled negatives: items that a user could have met and had no positive with.

use crate::split::unit;

/// Draws items with p ∝ (training positives)^power among those alive at a moment.
///
/// Items are kept in the order of their creation, so that those already created are a prefix; one draw
/// is a binary search in the prefix sums. Retired and unwanted items are drawn again.
#[derive(Debug)]
pub struct NegativeSampler {
    /// Item rows by creation.
    items: Vec<u32>,
    created_ms: Vec<i64>,
    /// By item row.
    retired_ms: Vec<i64>,
    /// `[items + 1]` prefix sums of the weights, in the order of `items`.
    sums: Vec<f64>,
}

/// Draws per negative wanted before the search is given up.
const TRIES: usize = 20;

impl NegativeSampler {
    /// `positives`, `created_ms` and `retired_ms` are by item row; `power` ≥ 0, where 0 draws all items
    /// alike and any other never draws an item without a training positive.
    pub fn new(positives: &[u32], created_ms: &[i64], retired_ms: &[i64], power: f64) -> Self {
        let mut items: Vec<u32> = (0..positives.len() as u32).collect();
        items.sort_by_key(|&i| created_ms[i as usize]);
        let mut sums = Vec::with_capacity(items.len() + 1);
        let mut sum = 0.0;
        sums.push(sum);
        for &item in &items {
            sum += f64::from(positives[item as usize]).powf(power);
            sums.push(sum);
        }
        Self {
            created_ms: items.iter().map(|&i| created_ms[i as usize]).collect(),
            retired_ms: retired_ms.to_vec(),
            items,
            sums,
        }
    }

    /// Up to `count` distinct items alive at `time_ms` that `unwanted` does not hold, into `out`; fewer
    /// where they are hard to find (a user who knows nearly everything). One seed, one result.
    pub fn draw(
        &self,
        (time_ms, count, seed): (i64, usize, u64),
        unwanted: impl Fn(u32) -> bool,
        out: &mut Vec<u32>,
    ) {
        out.clear();
        let created = self.created_ms.partition_point(|&t| t <= time_ms);
        let total = self.sums[created];
        let mut rng = seed;
        for _ in 0..count * TRIES {
            if out.len() == count || total <= 0.0 {
                break;
            }
            let mark = unit(next(&mut rng)) * total;
            // The last prefix sum that is not above the mark begins the item drawn.
            let at = self.sums[..=created].partition_point(|&s| s <= mark) - 1;
            let item = self.items[at.min(created - 1)];
            if time_ms < self.retired_ms[item as usize] && !out.contains(&item) && !unwanted(item) {
                out.push(item);
            }
        }
    }
}

/// splitmix64 (Steele, Lea, Flood 2014).
pub(crate) fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(sampler: &NegativeSampler, time_ms: i64, rounds: u64) -> Vec<u32> {
        let mut counts = vec![0; sampler.items.len()];
        let mut out = Vec::new();
        for seed in 0..rounds {
            sampler.draw((time_ms, 1, seed * 7919), |_| false, &mut out);
            out.iter().for_each(|&i| counts[i as usize] += 1);
        }
        counts
    }

    #[test]
    fn draws_follow_the_power_of_the_counts() {
        let sampler = NegativeSampler::new(&[1, 16, 0, 81], &[0; 4], &[i64::MAX; 4], 0.5);
        let counts = draws(&sampler, 5, 28_000);
        for (count, expected) in counts.iter().zip([2000.0, 8000.0, 0.0, 18_000.0]) {
            assert!((f64::from(*count) - expected).abs() < 400.0, "{counts:?}");
        }
        let uniform = NegativeSampler::new(&[1, 16, 0, 81], &[0; 4], &[i64::MAX; 4], 0.0);
        assert!(draws(&uniform, 5, 8000).iter().all(|&c| (1700..2300).contains(&c)));
    }

    #[test]
    fn only_items_alive_at_the_moment_are_drawn() {
        let sampler = NegativeSampler::new(&[1; 4], &[0, 10, 20, 0], &[i64::MAX, i64::MAX, 30, 5], 1.0);
        let alive = |t| draws(&sampler, t, 400).iter().map(|&c| c > 0).collect::<Vec<_>>();
        assert_eq!(alive(-1), [false; 4]);
        assert_eq!(alive(0), [true, false, false, true]);
        assert_eq!(alive(10), [true, true, false, false]);
        assert_eq!(alive(29), [true, true, true, false]);
        assert_eq!(alive(30), [true, true, false, false]);
    }

    #[test]
    fn draws_are_distinct_wanted_and_repeatable() {
        let sampler = NegativeSampler::new(&[3; 50], &[0; 50], &[i64::MAX; 50], 0.75);
        let (mut a, mut b) = (Vec::new(), Vec::new());
        sampler.draw((0, 20, 9), |i| i % 2 == 0, &mut a);
        sampler.draw((0, 20, 9), |i| i % 2 == 0, &mut b);
        assert_eq!(a, b);
        assert_eq!(a.len(), 20);
        assert!(a.iter().all(|i| i % 2 == 1));
        assert_eq!(a.iter().collect::<std::collections::BTreeSet<_>>().len(), 20);
        sampler.draw((0, 5, 9), |_| true, &mut a);
        assert!(a.is_empty());
    }
}
