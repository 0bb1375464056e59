use super::{Inverted, List};
use crate::error::{Error, Result};
use crate::hit::{Hit, hit_of, id_of, rank, score_of};
use millstream_schema::ItemRow;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

/// A list from a place on, best first.
type Rest<'a> = std::iter::Rev<std::collections::btree_set::Iter<'a, u64>>;

impl Inverted {
    /// The best `k` items of a term that `keep` accepts, best first; none when no item has the term.
    pub fn top(&self, term: &str, k: usize, keep: &dyn Fn(ItemRow) -> bool) -> Vec<Hit> {
        self.any(&[term], k, keep)
    }

    /// The best `k` of the items that have at least one of the terms. Costs O((k + refused) log terms).
    pub fn any(&self, terms: &[&str], k: usize, keep: &dyn Fn(ItemRow) -> bool) -> Vec<Hit> {
        let mut heads: BinaryHeap<(u64, usize)> = BinaryHeap::new();
        let mut rests: Vec<Rest<'_>> = terms.iter().filter_map(|term| self.list(term)).map(down).collect();
        for (at, rest) in rests.iter_mut().enumerate() {
            heads.extend(rest.next().map(|&rank| (rank, at)));
        }
        let (mut hits, mut last) = (Vec::new(), None);
        while hits.len() < k
            && let Some((rank, at)) = heads.pop()
        {
            heads.extend(rests[at].next().map(|&rank| (rank, at)));
            if last.replace(rank) != Some(rank) && keep(id_of(rank)) {
                hits.push(hit_of(rank));
            }
        }
        hits
    }

    /// The best `k` of the items that have all of the terms; none when no term is named. Leaps from list to
    /// list, so it costs at most the shortest list times the number of terms, each times a logarithm.
    pub fn all(&self, terms: &[&str], k: usize, keep: &dyn Fn(ItemRow) -> bool) -> Vec<Hit> {
        let lists: Option<Vec<&List>> = terms.iter().map(|term| self.list(term)).collect();
        let Some(mut lists) = lists.filter(|lists| !lists.is_empty()) else { return Vec::new() };
        lists.sort_by_key(|list| list.ranks.len());
        let mut hits = Vec::new();
        let mut at = u64::MAX;
        while hits.len() < k {
            // Down to the best rank at or below `at` in every list, until all agree.
            let mut agreed = at;
            for list in &lists {
                match list.ranks.range(..=agreed).next_back() {
                    Some(&found) => agreed = found,
                    None => return hits,
                }
            }
            if lists[0].ranks.contains(&agreed) && lists.iter().all(|list| list.ranks.contains(&agreed)) {
                if keep(id_of(agreed)) {
                    hits.push(hit_of(agreed));
                }
                // Rank 0 is never given out: it stands below that of NaN.
                at = agreed - 1;
            } else {
                at = agreed;
            }
        }
        hits
    }

    /// The best `k` items by `score(item) · Σ w` over the terms that the item has, exactly. Lists are read
    /// from their best items on, only until nothing below can enter (the threshold algorithm of Fagin, Lotem
    /// and Naor, JCSS 2003). The weights of a term named twice add up.
    ///
    /// # Errors
    /// [`Error::Input`] when a weight is negative or not finite.
    pub fn weighted(
        &self,
        terms: &[(&str, f32)],
        k: usize,
        keep: &dyn Fn(ItemRow) -> bool,
    ) -> Result<Vec<Hit>> {
        if let Some((term, weight)) = terms.iter().find(|(_, weight)| !(weight.is_finite() && *weight >= 0.0))
        {
            let what = format!("the weight of `{term}` is {weight}, expected a finite number of at least 0");
            return Err(Error::Input(what));
        }
        let weights: Vec<(u32, f64)> = (terms.iter())
            .filter_map(|&(term, weight)| Some((*self.numbers.get(term)?, f64::from(weight))))
            .filter(|&(_, weight)| weight > 0.0)
            .collect();
        Ok(if k == 0 { Vec::new() } else { self.threshold(&weights, k, keep) })
    }

    fn threshold(&self, weights: &[(u32, f64)], k: usize, keep: &dyn Fn(ItemRow) -> bool) -> Vec<Hit> {
        let mut rests: Vec<Rest<'_>> =
            weights.iter().map(|&(number, _)| down(&self.lists[number as usize])).collect();
        let mut seen = HashSet::new();
        let mut best: BinaryHeap<Reverse<u64>> = BinaryHeap::new();
        loop {
            // No item below this round can reach more than this round's scores allow.
            let (mut bound, mut ended) = (0.0, true);
            for (rest, &(_, weight)) in rests.iter_mut().zip(weights) {
                let Some(&found) = rest.next() else { continue };
                ended = false;
                bound += weight * f64::from(score_of(found));
                let item = id_of(found);
                if seen.insert(item) && keep(item) {
                    best.push(Reverse(rank(self.weigh(item, weights), item)));
                    if best.len() > k {
                        best.pop();
                    }
                }
            }
            // The sums round differently, by far less than this.
            let bound = (bound * (1.0 + 1e-12)) as f32;
            let full = best.len() == k && best.peek().is_some_and(|&Reverse(worst)| score_of(worst) > bound);
            if ended || full {
                let mut ranks: Vec<u64> = best.into_iter().map(|Reverse(rank)| rank).collect();
                ranks.sort_unstable_by(|a, b| b.cmp(a));
                return ranks.into_iter().map(hit_of).collect();
            }
        }
    }

    fn weigh(&self, item: ItemRow, weights: &[(u32, f64)]) -> f32 {
        let Some(entry) = self.items.get(&item) else { return 0.0 };
        let has = |number: &u32| entry.terms.binary_search(number).is_ok();
        let sum: f64 = weights.iter().filter(|(number, _)| has(number)).map(|(_, weight)| weight).sum();
        (sum * f64::from(entry.score)) as f32
    }
}

fn down(list: &List) -> Rest<'_> {
    list.ranks.iter().rev()
}
