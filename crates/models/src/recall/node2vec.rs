//! node2vec (Grover and Leskovec, "node2vec: Scalable Feature Learning for Networks", KDD 2016): word2vec over biased random walks on
//! the graph of items (`crate::recall::graph`, `crate::recall::walks`). With p = q = 1 it is DeepWalk (Perozzi et al., KDD 2014) by weight.
//!
//! Walks are the sentences of `crate::recall::word2vec`. On a bipartite graph a walk passes through users, and the sentence is of its
//! items: those of users are not learned, for a user is the mean of the vectors of what she took. A walk's steps depend on the
//! seed, its round and its first node, not on threads. All walks are held at once, 4 bytes an item.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::recall::draws::Draws;
use crate::recall::factors::FactorModel;
use crate::recall::graph::{Graph, GraphConfig};
use crate::recall::item2vec::Scored;
use crate::recall::offline::MEMORY_MIB;
use crate::recall::positives::Positives;
use crate::recall::walks::Walker;
use crate::recall::word2vec::{Corpus, Word2VecConfig};

const MODEL: &str = "node2vec";
/// Keeps the walks' numbers apart from those that word2vec draws with the same seed.
const WALKS: u64 = 0x6E0D_E2EC_57A1_4B1D;

/// Options of node2vec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Node2VecConfig {
    /// The graph.
    pub graph: GraphConfig,
    /// Return parameter: the higher, the less a walk turns back. Above 0.
    pub p: f32,
    /// In-out parameter: below 1 a walk goes out, above 1 it stays near where it came from. Above 0.
    pub q: f32,
    /// Walks from each item.
    pub walks: usize,
    /// Items of a walk, 2 or more.
    pub length: usize,
    /// Most MiB that the walks may take; 0 for no bound. Where they would take more it is an error.
    pub memory_mib: usize,
    /// Which of an item's two vectors is scored.
    pub score: Scored,
    /// How the walks are learned from.
    pub word2vec: Word2VecConfig,
}

impl Default for Node2VecConfig {
    fn default() -> Self {
        Self {
            graph: GraphConfig::default(),
            p: 1.0,
            q: 1.0,
            walks: 10,
            length: 40,
            memory_mib: MEMORY_MIB,
            score: Scored::Input,
            word2vec: Word2VecConfig::default(),
        }
    }
}

impl Node2VecConfig {
    /// # Errors
    /// An option out of range.
    pub fn check(&self) -> Result<(), Error> {
        let fail = |what: &str| Err(Error::Config(format!("{MODEL}: {what}")));
        // Beyond these 1/p and 1/q are no numbers any more.
        let fits = |x: f32| (1e-20..=1e20).contains(&x);
        self.graph.check(MODEL)?;
        self.score.check(self.word2vec.output, MODEL)?;
        match () {
            () if !(fits(self.p) && fits(self.q)) => fail("`p` and `q` must be from 1e-20 to 1e20"),
            () if self.walks == 0 || self.length < 2 => fail("`walks` must be above 0, and `length` above 1"),
            () => self.word2vec.check(MODEL),
        }
    }

    /// Learns items' vectors; `seen` is told after each epoch.
    ///
    /// # Errors
    /// An option out of range, `consecutive` edges asked of positives without times, lists whose lengths do not fit together, walks
    /// that take more than `memory_mib`, or vectors that are no numbers any more.
    pub fn fit(
        &self,
        positives: &Positives<'_>,
        seed: u64,
        seen: &mut dyn FnMut(usize),
    ) -> Result<FactorModel, Error> {
        self.check()?;
        let graph = self.graph.build(positives, MODEL)?;
        let word = self.sentences(&graph, positives.items, seed)?;
        let offsets: Vec<u64> = (0..=word.len() / self.length).map(|n| (n * self.length) as u64).collect();
        let corpus = Corpus { words: positives.items, offsets: &offsets, word: &word };
        let vectors = self.word2vec.fit(&corpus, seed, seen)?;
        Ok(self.score.model(MODEL, vectors))
    }

    /// The items of all walks, `length` of each, round after round, each round in an order of its own.
    fn sentences(&self, graph: &Graph, items: usize, seed: u64) -> Result<Vec<u32>, Error> {
        let mut starts: Vec<u32> = (0..items as u32).filter(|&item| !graph.of(item).is_empty()).collect();
        let total = (starts.len() as u128) * self.length as u128 * self.walks as u128;
        let mib = (total * 4).div_ceil(1 << 20);
        let refused = |room: &str| {
            Error::Config(format!(
                "{MODEL}: {room}, but {} walks of {} items from {} items take {mib} MiB; lower `walks` or `length`, or raise \
                 `memory_mib`",
                self.walks,
                self.length,
                starts.len()
            ))
        };
        if self.memory_mib > 0 && mib > self.memory_mib as u128 {
            return Err(refused(&format!("`memory_mib` is {}", self.memory_mib)));
        }
        let mut word = Vec::new();
        match usize::try_from(total).is_ok_and(|total| word.try_reserve_exact(total).is_ok()) {
            true => word.resize(total as usize, 0u32),
            false => return Err(refused("the machine has less memory")),
        }
        let per_round = starts.len() * self.length;
        let walker = Walker::new(graph, self.p, self.q);
        for (round, out) in word.chunks_exact_mut(per_round.max(1)).enumerate() {
            Draws::new(seed ^ WALKS, (1 << 62) + round as u64).shuffle(&mut starts);
            out.par_chunks_exact_mut(self.length).zip(&starts).for_each(|(walk, &start)| {
                let place = round as u64 * items as u64 + u64::from(start);
                let mut draws = Draws::new(seed ^ WALKS, place);
                walker.walk(start, &mut draws, walk, |node| (node as usize) < items);
            });
        }
        Ok(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recall::factors::Factors;
    use crate::recall::graph::Edges;

    /// 200 users, each of one of two communities of 12 items; one user in ten also takes one item of the other.
    fn communities() -> (Vec<u64>, Vec<u32>, Vec<i64>) {
        let (mut offsets, mut item, mut time_ms) = (vec![0u64], Vec::new(), Vec::new());
        for user in 0..200u32 {
            item.extend((0..6).map(|n| user % 2 * 12 + (user * 7 + n * 5) % 12));
            if user % 10 == 0 {
                item.push((1 - user % 2) * 12 + user / 10 % 12);
            }
            offsets.push(item.len() as u64);
            time_ms.extend((time_ms.len()..item.len()).map(|n| n as i64 * 1000));
        }
        (offsets, item, time_ms)
    }

    fn config(edges: Edges) -> Node2VecConfig {
        let word2vec =
            Word2VecConfig { dim: 8, sample: 0.0, shards: 2, epochs: 3, ..Word2VecConfig::default() };
        let graph = GraphConfig { edges, ..GraphConfig::default() };
        Node2VecConfig { graph, word2vec, p: 2.0, q: 0.5, length: 20, ..Node2VecConfig::default() }
    }

    #[test]
    fn two_communities_come_apart_on_every_graph() {
        let (offsets, item, time_ms) = communities();
        let p = Positives { items: 25, offsets: &offsets, item: &item, time_ms: &time_ms };
        for edges in [Edges::CoTaken, Edges::Consecutive, Edges::Bipartite] {
            let model = config(edges).fit(&p, 1, &mut |_| {}).unwrap();
            assert_eq!((model.kind(), model.user(0)), ("node2vec", None));
            for side in 0..2 {
                let x = model.user_vector(&[(side * 12, 1.0), (side * 12 + 5, 1.0)]);
                let best = model.recommend(&x, 9, &|_| true);
                assert!(best.iter().all(|x| x.0 / 12 == side), "{edges:?} {side}: {best:?}");
            }
            assert_eq!(model.items()[24 * 8..], [0.0; 8], "nobody took it");
        }
    }

    #[test]
    fn the_result_depends_on_the_seed_and_not_on_threads() {
        let (offsets, item, time_ms) = communities();
        let p = Positives { items: 24, offsets: &offsets, item: &item, time_ms: &time_ms };
        let on = |threads: usize, seed: u64| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| config(Edges::CoTaken).fit(&p, seed, &mut |_| {}).unwrap())
        };
        assert_eq!(on(1, 7), on(2, 7));
        assert_ne!(on(1, 7), on(1, 8));
    }

    #[test]
    fn every_walk_begins_at_its_item_and_bounds_are_kept() {
        let (offsets, item, time_ms) = communities();
        let p = Positives { items: 25, offsets: &offsets, item: &item, time_ms: &time_ms };
        let config = Node2VecConfig { walks: 3, ..config(Edges::Bipartite) };
        let graph = config.graph.build(&p, MODEL).unwrap();
        let word = config.sentences(&graph, 25, 1).unwrap();
        assert_eq!(word.len(), 3 * 24 * 20);
        for round in word.chunks(24 * 20) {
            let mut starts: Vec<u32> = round.chunks(20).map(|walk| walk[0]).collect();
            assert!(!starts.is_sorted());
            starts.sort_unstable();
            assert_eq!(starts, (0..24).collect::<Vec<u32>>());
        }
        let endless = Node2VecConfig { walks: 1_000_000, length: 1_000_000_000, ..config.clone() };
        let refused = endless.fit(&p, 1, &mut |_| {}).unwrap_err().to_string();
        assert!(refused.contains("`memory_mib` is 4096"), "{refused}");
        let boundless = Node2VecConfig { memory_mib: 0, ..endless };
        let refused = boundless.fit(&p, 1, &mut |_| {}).unwrap_err().to_string();
        assert!(refused.contains("less memory"), "{refused}");
        let dear = Node2VecConfig { walks: 100_000, memory_mib: 10, ..config.clone() };
        let refused = dear.fit(&p, 1, &mut |_| {}).unwrap_err().to_string();
        assert!(refused.contains("memory_mib") && refused.contains("184 MiB"), "{refused}");
        for wrong in [
            Node2VecConfig { p: 0.0, ..config.clone() },
            Node2VecConfig { q: f32::NAN, ..config.clone() },
            Node2VecConfig { length: 1, ..config.clone() },
        ] {
            assert!(wrong.check().is_err());
        }
        let empty = Positives { items: 3, offsets: &[0], item: &[], time_ms: &[] };
        assert!(config.fit(&empty, 1, &mut |_| {}).unwrap().items().iter().all(|v| *v == 0.0));
    }
}
