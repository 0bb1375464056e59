//! What a set of lists does to the catalogue: who is shown, how unevenly, how far from the beaten track.

/// How often each item was shown, for coverage, Gini, novelty and tail share. Counts, so that parts merge exactly.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Exposure {
    /// By catalogue row.
    shown: Vec<u32>,
}

/// How popular each item was before, by catalogue row.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Popularity {
    /// −log₂ of the item's share of all interactions, one added to each item's.
    surprise: Vec<f64>,
    /// Whether the item is outside the head.
    tail: Vec<bool>,
}

/// Share of all interactions that the head holds.
const HEAD: f64 = 0.8;

impl Popularity {
    /// From interactions per item. The head is the fewest items that hold 80 % of them; of equally popular items the
    /// one with the lower row comes first.
    pub(super) fn new(interactions: &[u32]) -> Self {
        let total: f64 = interactions.iter().map(|&n| f64::from(n)).sum();
        let smoothed = total + interactions.len() as f64;
        let surprise = interactions.iter().map(|&n| -((f64::from(n) + 1.0) / smoothed).log2()).collect();
        let mut order: Vec<usize> = (0..interactions.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(interactions[i]));
        let (mut tail, mut held) = (vec![true; interactions.len()], 0.0);
        for i in order {
            if held >= HEAD * total {
                break;
            }
            tail[i] = false;
            held += f64::from(interactions[i]);
        }
        Self { surprise, tail }
    }
}

impl Exposure {
    pub(super) fn new(catalogue: usize) -> Self {
        Self { shown: vec![0; catalogue] }
    }

    /// Counts items; those beyond the catalogue are left out.
    pub(super) fn add(&mut self, items: &[u32]) {
        for &item in items {
            if let Some(count) = self.shown.get_mut(item as usize) {
                *count = count.saturating_add(1);
            }
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.shown.iter_mut().zip(&other.shown).for_each(|(a, b)| *a = a.saturating_add(*b));
    }

    /// Share of the catalogue that was shown at all.
    pub(super) fn coverage(&self) -> f64 {
        self.shown.iter().filter(|&&n| n > 0).count() as f64 / self.shown.len() as f64
    }

    fn total(&self) -> Option<f64> {
        let total: u64 = self.shown.iter().map(|&n| u64::from(n)).sum();
        (total > 0).then_some(total as f64)
    }

    /// Σᵢ (2i − n − 1) xᵢ / (n Σ x), x rising, i from 1: 0 when all items are shown equally often, towards 1 when one
    /// item is shown alone.
    pub(super) fn gini(&self) -> Option<f64> {
        let (n, total) = (self.shown.len() as f64, self.total()?);
        let mut rising = self.shown.clone();
        rising.sort_unstable();
        let place = |i: usize| 2.0 * (i as f64 + 1.0) - n - 1.0;
        let sum: f64 = rising.iter().enumerate().map(|(i, &x)| place(i) * f64::from(x)).sum();
        Some(sum / (n * total))
    }

    /// Mean surprise in bits of what was shown.
    pub(super) fn novelty(&self, popularity: &Popularity) -> Option<f64> {
        let bits = self.shown.iter().zip(&popularity.surprise).map(|(&n, bits)| f64::from(n) * bits);
        Some(bits.sum::<f64>() / self.total()?)
    }

    /// Share of what was shown that is outside the head.
    pub(super) fn tail_share(&self, popularity: &Popularity) -> Option<f64> {
        let tail = self.shown.iter().zip(&popularity.tail).filter(|(_, tail)| **tail);
        Some(tail.map(|(&n, _)| f64::from(n)).sum::<f64>() / self.total()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::test_numbers;

    fn filled(shown: &[u32]) -> Exposure {
        Exposure { shown: shown.to_vec() }
    }

    #[test]
    fn gini_equals_the_mean_difference_of_all_pairs() {
        let mut next = test_numbers(2);
        let shown: Vec<u32> = (0..60).map(|_| (next() * next() * 40.0) as u32).collect();
        let (n, total) = (shown.len() as f64, f64::from(shown.iter().sum::<u32>()));
        let pairs: f64 = shown.iter().flat_map(|a| shown.iter().map(|b| f64::from(a.abs_diff(*b)))).sum();
        assert!((filled(&shown).gini().unwrap() - pairs / (2.0 * n * total)).abs() < 1e-12);
        assert_eq!(filled(&[3, 3, 3]).gini(), Some(0.0));
        assert_eq!(filled(&[0, 0, 0, 9]).gini(), Some(0.75));
    }

    #[test]
    fn novelty_and_tail_by_hand() {
        // 14 interactions and 4 items: shares (10 + 1)/18, (2 + 1)/18, (1 + 1)/18 twice; 80 % is 11.2: two items.
        let popularity = Popularity::new(&[10, 1, 2, 1]);
        let exposure = filled(&[2, 1, 0, 1]);
        let bits = |share: f64| -(share / 18.0).log2();
        let novelty = (2.0 * bits(11.0) + 2.0 * bits(2.0)) / 4.0;
        assert!((exposure.novelty(&popularity).unwrap() - novelty).abs() < 1e-12);
        assert_eq!(exposure.tail_share(&popularity), Some(0.5));
        assert_eq!(exposure.coverage(), 0.75);
    }

    #[test]
    fn nothing_shown_has_no_shape() {
        let (none, popularity) = (Exposure::new(3), Popularity::new(&[0, 0, 0]));
        assert_eq!(
            (none.gini(), none.novelty(&popularity), none.tail_share(&popularity)),
            (None, None, None)
        );
        assert_eq!(none.coverage(), 0.0);
        // Without interactions nothing is popular: all is tail, and equally surprising.
        let mut one = Exposure::new(3);
        one.add(&[1, 7]);
        assert_eq!(one.tail_share(&popularity), Some(1.0));
        assert!((one.novelty(&popularity).unwrap() - 3f64.log2()).abs() < 1e-12);
    }
}
