//! A graph walked greedily towards ever better items: hierarchical navigable small worlds (Malkov and
//! Yashunin, TPAMI 2018).
//!
//! Differences from the paper: links are chosen on the sphere that inner-product search lifts vectors
//! to; the upper levels are walked by a narrow beam, so that clusters are not missed; levels follow
//! from seed and item alone; filters apply during the walk, with an exact scan when
//! too few items pass; removal bridges the gap and reuses the place.

mod file;
mod graph;
mod insert;
mod walk;

pub use walk::{Candidates, DotScorer, Scorer};

use crate::error::{Error, Result};
use crate::flat::{check_lengths, scan};
use crate::hit::{Hit, id_of, score_of};
use crate::index::{Index, IndexMut, KeepEach, Metric, prepare_batch};
use crate::vectors::Vectors;
use graph::{Graph, level_of};
use millstream_schema::ItemRow;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use walk::{Lift, Pool, Route};

/// The shape of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HnswConfig {
    /// Links chosen per node and most links per node above the ground, from 2 to 256. More: better
    /// recall, more memory. 16 by default.
    pub m: usize,
    /// Best nodes remembered while linking, at least 1. 128 by default.
    pub ef_construction: usize,
    /// Best nodes remembered while searching, at least 1; the recall-for-time knob. 64 by default.
    pub ef_search: usize,
    /// Decides the levels of items.
    pub seed: u64,
}

impl Default for HnswConfig {
    fn default() -> Self {
        Self { m: 16, ef_construction: 128, ef_search: 64, seed: 0 }
    }
}

impl HnswConfig {
    fn check(&self) -> Result<()> {
        if !(2..=256).contains(&self.m) {
            return Err(Error::Input(format!("m is {}, expected from 2 to 256", self.m)));
        }
        match [("ef_construction", self.ef_construction), ("ef_search", self.ef_search)]
            .into_iter()
            .find(|&(_, ef)| ef == 0 || ef > u32::MAX as usize)
        {
            Some((name, ef)) => {
                Err(Error::Input(format!("{name} is {ef}, expected at least 1 and below 2^32")))
            }
            None => Ok(()),
        }
    }
}

/// How far [`Hnsw::search_with`] goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walk {
    /// Items wanted.
    pub k: usize,
    /// Best items remembered on the way; `k` if that is more.
    pub ef: usize,
    /// The walk ends once more nodes than this were scored on the ground.
    pub budget: usize,
}

/// What a walk brought.
#[derive(Debug, Clone, PartialEq)]
pub struct Walked {
    /// At most `k`, best first, ties by id.
    pub hits: Vec<Hit>,
    /// Nodes scored on the way.
    pub scored: usize,
    /// Whether it came to its own end within the budget.
    pub complete: bool,
}

/// An approximate index. Built one item after the other it is the same for the same items in the same
/// order.
///
/// Bytes per item: about `4·D + 8·m` and some 40 for the rest.
#[derive(Debug, Clone)]
pub struct Hnsw {
    config: HnswConfig,
    vectors: Vectors,
    lift: Lift,
    graph: Graph,
    /// Whether a node holds an item; the others are walked through only.
    alive: Vec<bool>,
    /// Places of removed items by level, for new items of the same level.
    free: BTreeMap<u8, BTreeSet<u32>>,
    pool: Pool,
}

impl Hnsw {
    /// An empty index of vectors of `dim` numbers.
    ///
    /// # Errors
    /// [`Error::Input`] when a number is outside its range.
    pub fn new(dim: usize, metric: Metric, config: HnswConfig) -> Result<Self> {
        config.check()?;
        let vectors = Vectors::new(dim, metric)?;
        Ok(Self::from_parts(config, vectors, Graph::new(config.m)))
    }

    fn from_parts(config: HnswConfig, vectors: Vectors, graph: Graph) -> Self {
        let (lift, alive, free, pool) = Default::default();
        Self { config, vectors, lift, graph, alive, free, pool }
    }

    /// An index over `items` with `vectors`, `[items.len(), D]`; of an item named twice the last counts.
    ///
    /// # Errors
    /// [`Error::Input`] when the lengths do not match or a number is outside its range.
    pub fn build(
        metric: Metric,
        config: HnswConfig,
        dim: usize,
        items: &[ItemRow],
        vectors: &[f32],
    ) -> Result<Self> {
        let mut index = Self::new(dim, metric, config)?;
        check_lengths(dim, items, vectors)?;
        if metric == Metric::InnerProduct {
            // Known from the start, the sphere does not grow under the links chosen early.
            let squares = vectors.chunks_exact(dim).map(|v| crate::dot::dot(v, v));
            index.lift.max = squares.filter(|square| square.is_finite()).fold(0.0, f32::max);
        }
        for (&item, vector) in items.iter().zip(vectors.chunks_exact(dim)) {
            index.upsert(item, vector)?;
        }
        Ok(index)
    }

    /// The configuration.
    pub fn config(&self) -> HnswConfig {
        self.config
    }

    /// Changes how many nodes a search remembers.
    ///
    /// # Errors
    /// [`Error::Input`] when `ef` is 0.
    pub fn set_ef_search(&mut self, ef: usize) -> Result<()> {
        let config = HnswConfig { ef_search: ef, ..self.config };
        config.check()?;
        self.config = config;
        Ok(())
    }

    /// Walks the graph with any scorer: by a narrow beam on the upper levels, on the ground
    /// best-first among `ef` remembered items. There is no exact fallback, as a scorer may be a model.
    pub fn search_with(
        &self,
        scorer: &mut impl Scorer,
        walk: Walk,
        keep: &dyn Fn(ItemRow) -> bool,
    ) -> Walked {
        let Some(entry) = self.graph.entry.filter(|_| walk.k > 0) else {
            return Walked { hits: Vec::new(), scored: 0, complete: true };
        };
        let mut scratch = self.pool.take();
        let start = self.descend(scorer, entry, 0, &mut scratch);
        let (ef, budget) = (walk.ef.max(walk.k), walk.budget.saturating_add(scratch.scored));
        let keep = |node: u32| self.alive[node as usize] && keep(self.vectors.items[node as usize]);
        let route = Route { start: &start, level: 0, ef, budget };
        let complete = self.walk(scorer, route, keep, &mut scratch);
        let mut hits: Vec<Hit> = (scratch.take_best().into_iter()).map(|rank| self.hit(rank)).collect();
        hits.sort_by_key(|hit| std::cmp::Reverse(crate::hit::rank(hit.score, hit.item)));
        hits.truncate(walk.k);
        let scored = scratch.scored;
        self.pool.give_back(scratch);
        Walked { hits, scored, complete }
    }

    fn hit(&self, rank: u64) -> Hit {
        Hit { item: self.vectors.items[id_of(rank) as usize], score: score_of(rank) }
    }

    /// Walks; scans instead when the index is small, the filter leaves the walk too long, or the walk
    /// found too few.
    fn search_prepared(&self, query: &[f32], k: usize, keep: &dyn Fn(ItemRow) -> bool) -> Vec<Hit> {
        let k = k.min(self.len());
        let ef = self.config.ef_search.max(k);
        if self.len() > 2 * ef {
            // A scan reads in order, so it costs less than a walk to an eighth of the nodes.
            let walk = Walk { k, ef, budget: (self.len() / 8).max(32 * ef) };
            let walked = self.search_with(&mut DotScorer { query }, walk, keep);
            if walked.complete && walked.hits.len() == k {
                return walked.hits;
            }
        }
        scan(&self.vectors, query, k, |row, item| self.alive[row as usize] && keep(item))
    }

    /// A place for a new item: that of a removed one of the same level, or a new one.
    fn place(&mut self, item: ItemRow, vector: &[f32]) -> u32 {
        let level = level_of(self.config.seed, item, self.config.m);
        match self.free.get_mut(&level).and_then(BTreeSet::pop_first) {
            Some(node) => {
                self.graph.unlink_all(node);
                self.vectors.set(node, item, vector);
                self.alive[node as usize] = true;
                node
            }
            None => {
                self.graph.add(level);
                self.alive.push(true);
                self.vectors.push(item, vector)
            }
        }
    }

    /// Lets go of a node's links and of its role as entry; it stays where it is.
    fn detach(&mut self, node: u32) {
        self.bridge(node);
        if self.graph.entry == Some(node) {
            let alive = &self.alive;
            self.graph.entry = self.graph.highest(|n| n != node && alive[n as usize]);
        }
    }
}

impl Index for Hnsw {
    fn dim(&self) -> usize {
        self.vectors.dim
    }

    fn len(&self) -> usize {
        self.vectors.rows.len()
    }

    fn metric(&self) -> Metric {
        self.vectors.metric
    }

    fn vector(&self, item: ItemRow) -> Option<&[f32]> {
        self.vectors.of(item)
    }

    fn search(&self, query: &[f32], k: usize, keep: &dyn Fn(ItemRow) -> bool) -> Result<Vec<Hit>> {
        let query = self.vectors.prepare("the query", query)?;
        Ok(self.search_prepared(&query, k, keep))
    }

    fn search_batch(&self, queries: &[f32], k: usize, keep: KeepEach<'_>) -> Result<Vec<Vec<Hit>>> {
        let queries = prepare_batch(self.metric(), queries, self.dim())?;
        Ok(queries
            .par_chunks(self.dim())
            .enumerate()
            .map(|(at, query)| self.search_prepared(query, k, &|item| keep(at, item)))
            .collect())
    }
}

impl IndexMut for Hnsw {
    fn upsert(&mut self, item: ItemRow, vector: &[f32]) -> Result<()> {
        let vector = self.vectors.prepare(&format!("the vector of item {item}"), vector)?;
        let node = match self.vectors.rows.get(&item) {
            Some(&node) => {
                self.detach(node);
                self.graph.unlink_all(node);
                self.vectors.set(node, item, &vector);
                node
            }
            None => self.place(item, &vector),
        };
        self.lift.set(node, &vector);
        let mut scratch = self.pool.take();
        self.link(node, &mut scratch);
        self.pool.give_back(scratch);
        Ok(())
    }

    fn remove(&mut self, item: ItemRow) -> bool {
        let Some(node) = self.vectors.rows.remove(&item) else { return false };
        self.alive[node as usize] = false;
        self.detach(node);
        self.free.entry(self.graph.level(node)).or_default().insert(node);
        if self.vectors.rows.is_empty() {
            let Self { config, vectors, .. } = self;
            let empty = Vectors { floats: Vec::new(), items: Vec::new(), ..vectors.clone() };
            *self = Self::from_parts(*config, empty, Graph::new(config.m));
        }
        true
    }
}
