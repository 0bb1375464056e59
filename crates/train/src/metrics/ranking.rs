//! Metrics of ranked lists against what the user then did.

use std::collections::BTreeMap;

use super::exact::UnitSum;
use super::exposure::{Exposure, Popularity};

/// Sums metrics of ranked lists over users, for several cut-offs K at once.
///
/// With T the user's set of true items, hits the items of the first K that are in T, and positions from 1:
///
/// | key | per user |
/// |---|---|
/// | `recall@K` | hits / \|T\| |
/// | `precision@K` | hits / K |
/// | `hit_rate@K` | 1 if there is a hit |
/// | `ndcg@K` | Σ over hits 1/log₂(position + 1), divided by the same sum over positions 1 to min(\|T\|, K) (Järvelin and Kekäläinen 2002, binary gains) |
/// | `mrr@K` | 1 / position of the first hit, 0 without one |
/// | `map@K` | Σ over hits (hits so far / position), divided by min(\|T\|, K) |
/// | `coverage@K` | not per user: share of the catalogue that is in anybody's first K |
/// | `gini@K` | not per user: how unevenly the first K are spread over the catalogue, 0 even, towards 1 all on one item |
/// | `novelty@K` | per place shown: −log₂ of the item's share of past interactions, one added to each item's |
/// | `tail_share@K` | per place shown: 1 if the item is not among the fewest that hold 80 % of past interactions |
///
/// Coverage and Gini need a catalogue, novelty and tail share its past interactions.
/// Means go over users with a true item; users without one are counted by [`Self::users_without_truth`] and add to
/// nothing. An item that a list holds twice counts at its first position; the second one is a miss. Sums are exact,
/// so that merging in any order gives the same numbers.
#[derive(Debug, Clone)]
pub struct RankingMetrics {
    /// Rising.
    ks: Vec<usize>,
    sums: Vec<Sums>,
    /// 1/log₂(position + 1), by position − 1, to the largest K.
    discounts: Vec<f64>,
    /// Sums of `discounts` over the first 0, 1, … positions.
    ideal: Vec<f64>,
    catalogue: usize,
    popularity: Option<Popularity>,
    users: u64,
    users_without_truth: u64,
    /// Scratch: the user's true items, sorted, and which were met.
    truth: Vec<u32>,
    met: Vec<bool>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Sums {
    recall: UnitSum,
    precision: UnitSum,
    hit_rate: UnitSum,
    ndcg: UnitSum,
    mrr: UnitSum,
    map: UnitSum,
    exposure: Exposure,
}

/// What the list up to some position came to.
#[derive(Default)]
struct Running {
    hits: usize,
    gain: f64,
    /// Σ over hits of hits so far / position.
    precisions: f64,
    first: Option<usize>,
}

impl RankingMetrics {
    /// Starts with no users and without coverage. `ks` are the cut-offs; 0 is left out, order and repeats do not
    /// matter.
    pub fn new(ks: &[usize]) -> Self {
        Self::with_catalogue(ks, 0)
    }

    /// The same with all that concerns the catalogue, whose past interactions are given by row: coverage, Gini, novelty
    /// and tail share.
    pub fn with_popularity(ks: &[usize], interactions: &[u32]) -> Self {
        let popularity = Some(Popularity::new(interactions));
        Self { popularity, ..Self::with_catalogue(ks, interactions.len()) }
    }

    /// The same with coverage and Gini of a catalogue of so many items, whose rows are below that number.
    pub fn with_catalogue(ks: &[usize], catalogue: usize) -> Self {
        let mut ks: Vec<usize> = ks.iter().copied().filter(|&k| k > 0).collect();
        ks.sort_unstable();
        ks.dedup();
        let deepest = ks.last().copied().unwrap_or(0);
        let discounts: Vec<f64> = (0..deepest).map(|i| 1.0 / (i as f64 + 2.0).log2()).collect();
        let mut ideal = vec![0.0];
        for discount in &discounts {
            ideal.push(ideal.last().copied().unwrap_or(0.0) + discount);
        }
        let sums =
            ks.iter().map(|_| Sums { exposure: Exposure::new(catalogue), ..Sums::default() }).collect();
        Self {
            ks,
            sums,
            discounts,
            ideal,
            catalogue,
            popularity: None,
            users: 0,
            users_without_truth: 0,
            truth: Vec::new(),
            met: Vec::new(),
        }
    }

    /// The largest K: longer lists are not looked at beyond it.
    pub fn deepest(&self) -> usize {
        self.discounts.len()
    }

    /// Users whose lists were added and who have a true item.
    pub fn users(&self) -> u64 {
        self.users
    }

    /// Users left out because they have no true item.
    pub fn users_without_truth(&self) -> u64 {
        self.users_without_truth
    }

    /// Adds one user's list, best first, and the items that were right, in any order.
    pub fn add(&mut self, ranked: &[u32], truth: &[u32]) {
        if truth.is_empty() {
            self.users_without_truth += 1;
            return;
        }
        self.users += 1;
        self.truth.clear();
        self.truth.extend_from_slice(truth);
        self.truth.sort_unstable();
        self.truth.dedup();
        self.met.clear();
        self.met.resize(self.truth.len(), false);
        let (mut running, mut at) = (Running::default(), 0);
        for cut in 0..self.ks.len() {
            let end = self.ks[cut].min(ranked.len());
            for (position, item) in ranked.iter().enumerate().take(end).skip(at) {
                self.meet(position, *item, &mut running);
            }
            at = at.max(end);
            self.close(cut, &running);
            self.sums[cut].exposure.add(&ranked[..end]);
        }
    }

    /// Takes the item at a position, from 0.
    fn meet(&mut self, position: usize, item: u32, running: &mut Running) {
        let Ok(place) = self.truth.binary_search(&item) else { return };
        if !std::mem::replace(&mut self.met[place], true) {
            running.hits += 1;
            running.gain += self.discounts[position];
            running.precisions += running.hits as f64 / (position as f64 + 1.0);
            running.first.get_or_insert(position);
        }
    }

    /// Adds what the list came to by the cut-off.
    fn close(&mut self, cut: usize, running: &Running) {
        let (k, truths) = (self.ks[cut], self.truth.len());
        let sums = &mut self.sums[cut];
        sums.recall.add(running.hits as f64 / truths as f64);
        sums.precision.add(running.hits as f64 / k as f64);
        sums.hit_rate.add(if running.hits > 0 { 1.0 } else { 0.0 });
        sums.ndcg.add(running.gain / self.ideal[truths.min(k)]);
        sums.map.add(running.precisions / truths.min(k) as f64);
        sums.mrr.add(running.first.map_or(0.0, |position| 1.0 / (position as f64 + 1.0)));
    }

    /// Adds the users of another with the same cut-offs and catalogue.
    ///
    /// # Panics
    /// When they differ: both come from the caller's own code.
    pub fn merge(&mut self, other: &Self) {
        assert!(
            self.ks == other.ks && self.catalogue == other.catalogue && self.popularity == other.popularity,
            "metrics of different cut-offs or catalogues"
        );
        self.users += other.users;
        self.users_without_truth += other.users_without_truth;
        for (mine, theirs) in self.sums.iter_mut().zip(&other.sums) {
            mine.recall.merge(theirs.recall);
            mine.precision.merge(theirs.precision);
            mine.hit_rate.merge(theirs.hit_rate);
            mine.ndcg.merge(theirs.ndcg);
            mine.mrr.merge(theirs.mrr);
            mine.map.merge(theirs.map);
            mine.exposure.merge(&theirs.exposure);
        }
    }

    /// The means by key (`recall@20`); empty when there were no users.
    pub fn finish(&self) -> BTreeMap<String, f64> {
        let mut out = BTreeMap::new();
        if self.users == 0 {
            return out;
        }
        for (k, sums) in self.ks.iter().zip(&self.sums) {
            let means = [
                ("recall", sums.recall),
                ("precision", sums.precision),
                ("hit_rate", sums.hit_rate),
                ("ndcg", sums.ndcg),
                ("mrr", sums.mrr),
                ("map", sums.map),
            ];
            out.extend(means.map(|(name, sum)| (format!("{name}@{k}"), sum.mean(self.users))));
            if self.catalogue > 0 {
                let popularity = self.popularity.as_ref();
                let shape = [
                    ("coverage", Some(sums.exposure.coverage())),
                    ("gini", sums.exposure.gini()),
                    ("novelty", popularity.and_then(|p| sums.exposure.novelty(p))),
                    ("tail_share", popularity.and_then(|p| sums.exposure.tail_share(p))),
                ];
                out.extend(shape.into_iter().filter_map(|(name, x)| Some((format!("{name}@{k}"), x?))));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::metrics::test_numbers;

    #[test]
    fn a_list_worked_out_by_hand() {
        let mut metrics = RankingMetrics::with_catalogue(&[3, 1], 10);
        // Hits at positions 2 and 3 of three true items.
        metrics.add(&[9, 1, 2, 5], &[1, 2, 7]);
        let v = metrics.finish();
        let (second, third) = (1.0 / 3f64.log2(), 0.5);
        assert!((v["ndcg@3"] - (second + third) / (1.0 + second + third)).abs() < 1e-15);
        assert!((v["recall@3"] - 2.0 / 3.0).abs() < 1e-15);
        assert!((v["precision@3"] - 2.0 / 3.0).abs() < 1e-15);
        assert_eq!((v["hit_rate@3"], v["mrr@3"], v["coverage@3"]), (1.0, 0.5, 0.3));
        assert_eq!((v["ndcg@1"], v["recall@1"], v["hit_rate@1"], v["mrr@1"]), (0.0, 0.0, 0.0, 0.0));
        assert_eq!(v["coverage@1"], 0.1);
    }

    #[test]
    fn a_perfect_list_has_ndcg_one_even_when_truth_is_longer_than_k() {
        let mut metrics = RankingMetrics::new(&[2, 10]);
        metrics.add(&[3, 1, 2], &[1, 2, 3]);
        let v = metrics.finish();
        assert!((v["ndcg@2"] - 1.0).abs() < 1e-15 && (v["ndcg@10"] - 1.0).abs() < 1e-15);
        assert!(!v.contains_key("coverage@2"));
        assert!((v["precision@10"] - 0.3).abs() < 1e-15);
    }

    /// The naive twin: formulas over sets, one K and one user at a time.
    fn naive(lists: &[(Vec<u32>, Vec<u32>)], k: usize, catalogue: usize) -> BTreeMap<String, f64> {
        let mut out: BTreeMap<String, f64> = BTreeMap::new();
        let users: Vec<_> = lists.iter().filter(|(_, truth)| !truth.is_empty()).collect();
        let mut shown = BTreeSet::new();
        for (ranked, truth) in &users {
            let truth: BTreeSet<u32> = truth.iter().copied().collect();
            let top = &ranked[..k.min(ranked.len())];
            shown.extend(top.iter().copied());
            let fresh = |i: &usize| truth.contains(&top[*i]) && !top[..*i].contains(&top[*i]);
            let hits: Vec<usize> = (0..top.len()).filter(fresh).collect();
            let gain = |i: usize| 1.0 / (i as f64 + 2.0).log2();
            let ideal: f64 = (0..truth.len().min(k)).map(gain).sum();
            let n = users.len() as f64;
            let mut add = |name: &str, x: f64| *out.entry(format!("{name}@{k}")).or_default() += x / n;
            add("recall", hits.len() as f64 / truth.len() as f64);
            add("precision", hits.len() as f64 / k as f64);
            add("hit_rate", f64::from(u8::from(!hits.is_empty())));
            add("ndcg", hits.iter().map(|&i| gain(i)).sum::<f64>() / ideal);
            add("mrr", hits.first().map_or(0.0, |&i| 1.0 / (i as f64 + 1.0)));
            let precisions = hits.iter().enumerate().map(|(h, &i)| (h as f64 + 1.0) / (i as f64 + 1.0));
            add("map", precisions.sum::<f64>() / truth.len().min(k) as f64);
        }
        out.insert(format!("coverage@{k}"), shown.len() as f64 / catalogue as f64);
        out
    }

    #[test]
    fn several_k_in_one_pass_and_merged_parts_equal_the_formulas() {
        let mut next = test_numbers(11);
        let mut items = |most: f64| -> Vec<u32> {
            let n = (next() * most) as usize;
            (0..n).map(|_| (next() * 80.0) as u32).collect()
        };
        let lists: Vec<_> = (0..300).map(|_| (items(40.0), items(9.0))).collect();
        let ks = [1, 5, 20, 50];
        let past: Vec<u32> = (0..100).map(|i| 1000 / (i + 1)).collect();
        let mut whole = RankingMetrics::with_popularity(&ks, &past);
        let mut parts = [whole.clone(), whole.clone(), whole.clone()];
        for (i, (ranked, truth)) in lists.iter().enumerate() {
            whole.add(ranked, truth);
            parts[i % 3].add(ranked, truth);
        }
        let mut merged = RankingMetrics::with_popularity(&ks, &past);
        parts.iter().rev().for_each(|part| merged.merge(part));
        assert_eq!(whole.finish(), merged.finish(), "merging is exact");
        assert!(whole.users_without_truth() > 0);
        assert_eq!(whole.users() + whole.users_without_truth(), 300);
        for k in ks {
            for (key, value) in naive(&lists, k, 100) {
                assert!((whole.finish()[&key] - value).abs() < 1e-12, "{key}");
            }
            for key in ["gini", "novelty", "tail_share"] {
                assert!(whole.finish().contains_key(&format!("{key}@{k}")));
            }
        }
    }

    #[test]
    fn no_users_no_values_and_an_empty_list_scores_zero() {
        let mut metrics = RankingMetrics::with_catalogue(&[5], 4);
        metrics.add(&[1], &[]);
        assert!(metrics.finish().is_empty());
        metrics.add(&[], &[1]);
        let v = metrics.finish();
        assert_eq!((v["recall@5"], v["ndcg@5"], v["coverage@5"]), (0.0, 0.0, 0.0));
        assert!(RankingMetrics::with_catalogue(&[0], 4).finish().is_empty());
    }
}
