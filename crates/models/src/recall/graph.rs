//! Items as the nodes of a weighted graph, made from what users took: what `node2vec` walks over and `spectral` cuts.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::recall::item_cf::ItemCfConfig;
use crate::recall::item2vec::sentences;
use crate::recall::lists::InvertedLists;
use crate::recall::positives::{Grouped, Positives};
use crate::recall::similarity::Damping;
use crate::{Error, ModelConfig};

/// What joins two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edges {
    /// Items that the same users took, by the cosine |U_a ∩ U_b| / √(|U_a| |U_b|); an edge is kept where it is among the
    /// `neighbours` best of either end.
    #[default]
    CoTaken,
    /// Items that a user took one after the other within a session, at most `span` steps apart, by how often (the graph of Wang
    /// et al., "Billion-scale Commodity Embedding for E-commerce Recommendation in Alibaba", KDD 2018, without directions). Needs times.
    Consecutive,
    /// Users are nodes, too, each joined to what they took, every edge of weight 1. No two neighbours of a node are joined here, so
    /// that `q` and `p` matter by their ratio alone.
    Bipartite,
}

impl Edges {
    /// Refuses options of `graph` that are of other edges, see [`ModelConfig::idle`].
    ///
    /// # Errors
    /// Names the option and the edges.
    pub(crate) fn idle(self, cfg: &ModelConfig) -> Result<(), Error> {
        let steps = ["graph.span", "graph.session_gap_mins"];
        match self {
            Self::CoTaken => cfg.idle("graph.edges = \"co_taken\"", &steps),
            Self::Consecutive => cfg.idle("graph.edges = \"consecutive\"", &["graph.neighbours"]),
            Self::Bipartite => {
                cfg.idle("graph.edges = \"bipartite\"", &[steps[0], steps[1], "graph.neighbours"])
            }
        }
    }
}

/// How the graph is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GraphConfig {
    /// What joins two nodes.
    pub edges: Edges,
    /// `co_taken`: edges kept for each item, 1 or more.
    pub neighbours: usize,
    /// `consecutive`: most steps between two items that are joined, 1 to 100.
    pub span: usize,
    /// `consecutive`: a pause of so many minutes ends a session; 0: never.
    pub session_gap_mins: u32,
    /// Only a user's latest so many items count; 0 for all.
    pub max_user_items: usize,
}

impl Default for GraphConfig {
    fn default() -> Self {
        Self { edges: Edges::CoTaken, neighbours: 50, span: 1, session_gap_mins: 0, max_user_items: 1000 }
    }
}

impl GraphConfig {
    /// # Errors
    /// An option out of range; `model` is for whom it says so.
    pub fn check(&self, model: &str) -> Result<(), Error> {
        match () {
            () if self.neighbours == 0 => {
                Err(Error::Config(format!("{model}: `graph.neighbours` must be above 0")))
            }
            () if !(1..=100).contains(&self.span) => {
                Err(Error::Config(format!("{model}: `graph.span` must be 1 to 100")))
            }
            () => Ok(()),
        }
    }

    /// The graph: nodes are items, and for `bipartite` users after them.
    pub(crate) fn build(&self, positives: &Positives<'_>, model: &str) -> Result<Graph, Error> {
        self.check(model)?;
        if self.edges == Edges::CoTaken {
            let cosine = ItemCfConfig {
                neighbours: self.neighbours,
                damping: Damping::None,
                source_power: 0.5,
                target_power: 0.5,
                max_user_items: self.max_user_items,
                ..ItemCfConfig::default()
            };
            return Ok(Graph::either(&cosine.build(positives)?));
        }
        let by_user = Grouped::by_user(positives, self.max_user_items)?;
        if self.edges == Edges::Bipartite {
            return Ok(Graph::bipartite(&by_user, positives.items));
        }
        if positives.time_ms.is_empty() && !positives.item.is_empty() {
            let what = "graph.edges = \"consecutive\" needs times, and the data has none";
            return Err(Error::Config(format!("{model}: {what}; \"co_taken\" and \"bipartite\" need none")));
        }
        let (offsets, word) = sentences(&by_user, self.session_gap_mins);
        Ok(Graph::consecutive(positives.items, &offsets, &word, self.span))
    }
}

/// An undirected graph without loops: every edge is held at both ends.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Graph {
    /// `[nodes + 1]`.
    offsets: Vec<usize>,
    /// Rising at each node.
    to: Vec<u32>,
    /// Beside `to`, above 0; empty where all are 1.
    weight: Vec<f32>,
}

impl Graph {
    /// Of edges (a, b, weight above 0), each given once in one direction or in both; of an edge given several times the weights
    /// are put together by `join`, which must not depend on their order.
    pub(crate) fn new(nodes: usize, edges: Vec<(u32, u32, f32)>, join: impl Fn(f32, f32) -> f32) -> Self {
        let mut both = edges;
        both.retain(|e| e.0 != e.1);
        let turned: Vec<_> = both.iter().map(|&(a, b, w)| (b, a, w)).collect();
        both.extend(turned);
        both.par_sort_unstable_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2)));
        both.dedup_by(|next, kept| {
            let same = (next.0, next.1) == (kept.0, kept.1);
            if same {
                kept.2 = join(kept.2, next.2);
            }
            same
        });
        let mut offsets = vec![0usize; nodes + 1];
        both.iter().for_each(|e| offsets[e.0 as usize + 1] += 1);
        (0..nodes).for_each(|n| offsets[n + 1] += offsets[n]);
        Self { offsets, to: both.iter().map(|e| e.1).collect(), weight: both.iter().map(|e| e.2).collect() }
    }

    /// An edge wherever one item is in the other's list; scores are the same in both directions.
    fn either(lists: &InvertedLists) -> Self {
        let items = lists.items();
        let of = |item: u32| lists.neighbours(item).iter().map(move |&(other, score)| (item, other, score));
        Self::new(items, (0..items as u32).flat_map(of).collect(), f32::max)
    }

    fn consecutive(items: usize, offsets: &[u64], word: &[u32], span: usize) -> Self {
        let mut edges = Vec::new();
        for ends in offsets.windows(2) {
            let sentence = &word[ends[0] as usize..ends[1] as usize];
            for (at, &a) in sentence.iter().enumerate() {
                edges.extend(sentence[at + 1..].iter().take(span).map(|&b| (a.min(b), a.max(b), 1.0)));
            }
        }
        // Sums of ones: exact in any order.
        Self::new(items, edges, |a, b| a + b)
    }

    fn bipartite(by_user: &Grouped, items: usize) -> Self {
        let by_item = by_user.transposed(items);
        let mut graph = Self { offsets: vec![0], to: Vec::new(), weight: Vec::new() };
        for item in 0..items {
            graph.to.extend(by_item.of(item).iter().map(|user| user + items as u32));
            graph.offsets.push(graph.to.len());
        }
        for user in 0..by_user.rows() {
            graph.to.extend_from_slice(by_user.of(user));
            graph.offsets.push(graph.to.len());
        }
        graph
    }

    pub(crate) fn nodes(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Neighbours, rising.
    #[inline(always)]
    pub(crate) fn of(&self, node: u32) -> &[u32] {
        &self.to[self.offsets[node as usize]..self.offsets[node as usize + 1]]
    }

    /// Where the node's neighbours begin.
    #[inline(always)]
    pub(crate) fn start(&self, node: u32) -> usize {
        self.offsets[node as usize]
    }

    /// Weights beside [`Graph::of`]; none where all are 1.
    pub(crate) fn weights(&self, node: u32) -> Option<&[f32]> {
        self.weight
            .get(self.offsets[node as usize]..self.offsets[node as usize + 1])
            .filter(|w| !w.is_empty())
    }

    /// Whether all weights are 1.
    pub(crate) fn is_even(&self) -> bool {
        self.weight.is_empty()
    }

    /// Weight of the edge at a place among the node's neighbours.
    #[inline(always)]
    pub(crate) fn weight(&self, node: u32, place: usize) -> f32 {
        self.weight.get(self.start(node) + place).copied().unwrap_or(1.0)
    }

    /// Sum of the weights of a node's edges.
    pub(crate) fn degree(&self, node: u32) -> f64 {
        match self.weights(node) {
            Some(weights) => weights.iter().map(|&w| f64::from(w)).sum(),
            None => self.of(node).len() as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recall::positives::worlds::worlds;
    use proptest::prelude::*;

    /// Neighbours with their weights.
    fn seen(graph: &Graph, node: u32) -> Vec<(u32, f32)> {
        (0..graph.of(node).len()).map(|at| (graph.of(node)[at], graph.weight(node, at))).collect()
    }

    #[test]
    fn consecutive_items_are_joined_by_how_often_they_follow_each_other() {
        let minute = 60_000;
        // 0 1 2 | 2 1, and 1 2 with a pause before 3.
        let time_ms = [0, 1, 2, 0, 1, 0, 1, 100 * minute];
        let p = Positives {
            items: 5,
            offsets: &[0, 3, 5, 8],
            item: &[0, 1, 2, 2, 1, 1, 2, 3],
            time_ms: &time_ms,
        };
        let config =
            GraphConfig { edges: Edges::Consecutive, session_gap_mins: 30, ..GraphConfig::default() };
        let graph = config.build(&p, "node2vec").unwrap();
        assert_eq!(seen(&graph, 0), [(1, 1.0)]);
        assert_eq!(seen(&graph, 1), [(0, 1.0), (2, 3.0)]);
        assert_eq!(seen(&graph, 3), []);
        let wider = GraphConfig { span: 2, session_gap_mins: 0, ..config.clone() }.build(&p, "x").unwrap();
        assert_eq!(seen(&wider, 2), [(0, 1.0), (1, 3.0), (3, 1.0)]);
        let timeless = config.build(&Positives { time_ms: &[], ..p }, "node2vec").unwrap_err().to_string();
        assert!(timeless.contains("node2vec") && timeless.contains("bipartite"), "{timeless}");
        assert!(GraphConfig { span: 0, ..config.clone() }.check("x").is_err());
        assert!(GraphConfig { neighbours: 0, ..config }.check("x").is_err());
    }

    #[test]
    fn users_and_items_are_joined_both_ways() {
        let p = Positives { items: 3, offsets: &[0, 2, 3], item: &[2, 0, 2], time_ms: &[] };
        let config = GraphConfig { edges: Edges::Bipartite, ..GraphConfig::default() };
        let graph = config.build(&p, "x").unwrap();
        assert_eq!(
            (0..5).map(|n| graph.of(n).to_vec()).collect::<Vec<_>>(),
            [vec![3], vec![], vec![3, 4], vec![0, 2], vec![2]]
        );
        assert!(graph.is_even() && graph.weights(2).is_none());
        assert_eq!((graph.degree(2), graph.weight(2, 1)), (2.0, 1.0));
    }

    proptest! {
        #[test]
        fn co_taken_edges_are_the_cosines_of_the_best_of_either_end(world in worlds(90), most in 1usize..6) {
            let config = GraphConfig { neighbours: most, max_user_items: 0, ..GraphConfig::default() };
            let graph = world.first(world.events.len(), false, |p| config.build(p, "x")).unwrap();
            let lists = world.latest(0);
            let users = |i: u32| lists.iter().filter(|l| l.contains_key(&i)).count() as f64;
            let items = world.items as u32;
            let cosine = |a: u32, b: u32| {
                let both = lists.iter().filter(|l| l.contains_key(&a) && l.contains_key(&b)).count() as f64;
                if both > 0.0 { both / (users(a) * users(b)).sqrt() } else { 0.0 }
            };
            // Whether fewer than `most` are clearly better than b in a's eyes, or too many.
            let rank = |a: u32, b: u32, slack: f64| {
                (0..items).filter(|&c| c != a && c != b && cosine(a, c) > cosine(a, b) + slack).count()
            };
            for a in 0..graph.nodes() as u32 {
                prop_assert!(graph.of(a).is_sorted_by(|x, y| x < y));
                for (b, weight) in seen(&graph, a) {
                    prop_assert!((f64::from(weight) - cosine(a, b)).abs() < 1e-5);
                    prop_assert!(rank(a, b, 1e-6) < most || rank(b, a, 1e-6) < most);
                    prop_assert!(graph.of(b).contains(&a));
                }
                for b in (0..items).filter(|&b| b != a && cosine(a, b) > 0.0) {
                    // Better than or as good as all others, ties lost: it must be there.
                    let sure = (0..items).filter(|&c| c != a && c != b && cosine(a, c) >= cosine(a, b) - 1e-6).count();
                    prop_assert!(sure >= most || graph.of(a).contains(&b));
                }
            }
        }
    }
}
