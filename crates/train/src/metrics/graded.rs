//! NDCG of scores against graded relevance, query by query.

use std::collections::BTreeMap;

use super::exact::UnitSum;
use super::order_of;

/// What equal scores mean.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ties {
    /// Every order of them is as likely (McSherry and Najork, ECIR 2008; scikit-learn's `ndcg_score`): a model that says
    /// the same of everything gets no credit for the order of the file.
    #[default]
    Averaged,
    /// They stay in the order given (LightGBM).
    InOrder,
}

/// Sums NDCG@K over queries, for several K at once.
///
/// DCG@K = Σ over positions i to K of (2^rel − 1)/log₂(i + 1); NDCG@K divides it by that of the best order (Järvelin
/// and Kekäläinen 2002, with the gains of Burges et al. 2005). Relevance 0 and 1 gives the binary form. Queries without
/// relevance above 0 have no best order: they are left out and counted; [`Self::counting_empty_as_one`] gives the
/// mean as LightGBM reports it. Sums are exact, so that merging in any order gives the same numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct GradedNdcg {
    ks: Vec<usize>,
    ties: Ties,
    sums: Vec<UnitSum>,
    queries: u64,
    without_relevance: u64,
}

impl GradedNdcg {
    /// Without queries; a K of 0 is left out, order and repeats do not matter.
    pub fn new(ks: &[usize], ties: Ties) -> Self {
        let mut ks: Vec<usize> = ks.iter().copied().filter(|&k| k > 0).collect();
        ks.sort_unstable();
        ks.dedup();
        Self { sums: vec![UnitSum::default(); ks.len()], ks, ties, queries: 0, without_relevance: 0 }
    }

    /// Adds a query: `[N]` scores (NaN ranks last) and `[N]` relevances of at least 0.
    pub fn add(&mut self, scores: &[f32], relevance: &[f32]) {
        let n = scores.len().min(relevance.len());
        let mut gains: Vec<f64> = relevance[..n].iter().map(|r| f64::from(*r).exp2() - 1.0).collect();
        if !gains.iter().any(|g| *g > 0.0) {
            self.without_relevance += 1;
            return;
        }
        self.queries += 1;
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(order_of(scores[i])));
        let mut ranked: Vec<f64> = Vec::with_capacity(n);
        for tied in order.chunk_by(|&a, &b| order_of(scores[a]) == order_of(scores[b])) {
            match self.ties {
                Ties::InOrder => ranked.extend(tied.iter().map(|&i| gains[i])),
                Ties::Averaged => {
                    let mean = tied.iter().map(|&i| gains[i]).sum::<f64>() / tied.len() as f64;
                    ranked.extend(tied.iter().map(|_| mean));
                }
            }
        }
        gains.sort_by(|a, b| b.total_cmp(a));
        for (k, sum) in self.ks.iter().zip(&mut self.sums) {
            sum.add(dcg(&ranked, *k) / dcg(&gains, *k));
        }
    }

    /// Adds queries that stand one after the other: `groups` (`[N]`) changes where a query ends.
    pub fn add_groups(&mut self, scores: &[f32], relevance: &[f32], groups: &[u32]) {
        let mut start = 0;
        for query in groups.chunk_by(|a, b| a == b) {
            let rows = start..start + query.len();
            self.add(&scores[rows.clone()], &relevance[rows]);
            start += query.len();
        }
    }

    /// Adds the queries of another with the same K and ties.
    ///
    /// # Panics
    /// When they differ: both come from the caller's own code.
    pub fn merge(&mut self, other: &Self) {
        assert!(self.ks == other.ks && self.ties == other.ties, "metrics of different cut-offs or ties");
        self.sums.iter_mut().zip(&other.sums).for_each(|(a, b)| a.merge(*b));
        self.queries += other.queries;
        self.without_relevance += other.without_relevance;
    }

    /// Queries with relevance above 0.
    pub fn queries(&self) -> u64 {
        self.queries
    }

    /// Queries left out.
    pub fn without_relevance(&self) -> u64 {
        self.without_relevance
    }

    /// Means by key (`ndcg@10`) over queries with relevance above 0; empty without such.
    pub fn finish(&self) -> BTreeMap<String, f64> {
        self.means(self.queries, 0.0)
    }

    /// Means by key over all queries, those without relevance counting 1.
    pub fn counting_empty_as_one(&self) -> BTreeMap<String, f64> {
        self.means(self.queries + self.without_relevance, self.without_relevance as f64)
    }

    fn means(&self, over: u64, more: f64) -> BTreeMap<String, f64> {
        let mean = |sum: &UnitSum| sum.mean(over) + more / over as f64;
        let pairs = self.ks.iter().zip(&self.sums).filter(|_| over > 0);
        pairs.map(|(k, sum)| (format!("ndcg@{k}"), mean(sum))).collect()
    }
}

/// Σ over the first `k` of gain/log₂(position + 1), positions from 1.
fn dcg(gains: &[f64], k: usize) -> f64 {
    gains.iter().take(k).enumerate().map(|(i, gain)| gain / (i as f64 + 2.0).log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::test_numbers;

    fn one(scores: &[f32], relevance: &[f32], k: usize, ties: Ties) -> f64 {
        let mut sums = GradedNdcg::new(&[k], ties);
        sums.add(scores, relevance);
        sums.finish()[&format!("ndcg@{k}")]
    }

    /// ```python
    /// import numpy as np
    /// from sklearn.metrics import ndcg_score   # scikit-learn 1.9.1
    /// rel = np.array([[3, 2, 0, 1, 0, 2, 4]])
    /// gain = 2.0 ** rel - 1
    /// for score in ([.9, .8, .7, .6, .5, .4, .3], [.5, .5, .5, .2, .2, .9, .1]):
    ///     print([ndcg_score(gain, np.array([score]), k=k) for k in (1, 3, 5, 10)])
    /// ```
    #[test]
    fn it_equals_scikit_learn_with_and_without_ties() {
        let relevance = [3.0, 2.0, 0.0, 1.0, 0.0, 2.0, 4.0];
        let cases = [
            (
                [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3],
                [0.4666666666666667, 0.42515649093033364, 0.4126268901158211, 0.6812047441894631],
            ),
            (
                [0.5, 0.5, 0.5, 0.2, 0.2, 0.9, 0.1],
                [0.2, 0.3236565948882367, 0.37170327640239886, 0.6008696426479024],
            ),
        ];
        for (scores, golden) in cases {
            for (k, expected) in [1, 3, 5, 10].into_iter().zip(golden) {
                let found = one(&scores, &relevance, k, Ties::Averaged);
                assert!((found - expected).abs() < 1e-12, "ndcg@{k}: {found} is not {expected}");
            }
        }
    }

    #[test]
    fn averaged_ties_equal_the_mean_over_all_their_orders() {
        let relevance = [1.0, 0.0, 3.0, 2.0];
        // The second to the fourth are tied: six orders.
        let orders = [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]];
        for k in [1, 2, 3, 4] {
            let of = |order: &[usize; 3]| {
                let mut scores = [9.0f32, 0.0, 0.0, 0.0];
                order.iter().enumerate().for_each(|(place, &i)| scores[i] = 5.0 - place as f32);
                one(&scores, &relevance, k, Ties::InOrder)
            };
            let mean = orders.iter().map(of).sum::<f64>() / 6.0;
            assert!((one(&[9.0, 1.0, 1.0, 1.0], &relevance, k, Ties::Averaged) - mean).abs() < 1e-12);
        }
        assert!((one(&[1.0; 4], &[3.0, 2.0, 1.0, 0.0], 4, Ties::InOrder) - 1.0).abs() < 1e-15);
    }

    #[test]
    fn groups_and_merged_parts_equal_one_query_after_the_other() {
        let mut next = test_numbers(3);
        let n = 600;
        let groups: Vec<u32> = (0..n).map(|i| i / 7).collect();
        let scores: Vec<f32> = (0..n).map(|_| (next() * 6.0).floor() as f32).collect();
        let relevance: Vec<f32> = (0..n).map(|_| (next() * next() * 5.0).floor() as f32).collect();
        let empty = || GradedNdcg::new(&[5, 1, 5, 0], Ties::Averaged);
        let mut whole = empty();
        whole.add_groups(&scores, &relevance, &groups);
        let mut parts = [empty(), empty()];
        for (q, start) in (0..n as usize).step_by(7).enumerate() {
            let rows = start..(start + 7).min(n as usize);
            parts[q % 2].add(&scores[rows.clone()], &relevance[rows]);
        }
        let [a, mut b] = parts;
        b.merge(&a);
        assert_eq!(whole, b);
        assert_eq!(whole.finish().into_keys().collect::<Vec<_>>(), ["ndcg@1", "ndcg@5"]);
    }

    #[test]
    fn queries_without_relevance_are_left_out_and_counted() {
        let mut sums = GradedNdcg::new(&[2], Ties::Averaged);
        sums.add(&[0.1, 0.2], &[0.0, 0.0]);
        assert!(sums.finish().is_empty());
        assert_eq!(sums.counting_empty_as_one()["ndcg@2"], 1.0);
        sums.add(&[0.1, 0.2], &[1.0, 0.0]);
        let half = 1.0 / 3f64.log2();
        assert!((sums.finish()["ndcg@2"] - half).abs() < 1e-15);
        assert!((sums.counting_empty_as_one()["ndcg@2"] - (1.0 + half) / 2.0).abs() < 1e-15);
        assert_eq!((sums.queries(), sums.without_relevance()), (1, 1));
    }
}
