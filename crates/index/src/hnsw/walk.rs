use super::Hnsw;
use crate::dot::{dot, dots};
use crate::hit::{id_of, rank};
use crate::vectors::Vectors;
use millstream_schema::ItemRow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, PoisonError};

/// The nodes that a walk wants scored next.
#[derive(Debug, Clone, Copy)]
pub struct Candidates<'a> {
    pub(super) nodes: &'a [u32],
    pub(super) vectors: &'a Vectors,
}

impl<'a> Candidates<'a> {
    /// How many there are, at least 1.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The item of candidate `at`.
    pub fn item(&self, at: usize) -> ItemRow {
        self.vectors.items[self.nodes[at] as usize]
    }

    /// The stored vector of candidate `at`.
    pub fn vector(&self, at: usize) -> &'a [f32] {
        self.vectors.row(self.nodes[at])
    }
}

/// What a walk asks how good nodes are: an inner product, or a whole model. Higher is better; NaN
/// comes last.
pub trait Scorer {
    /// Writes one score per candidate; `scores.len()` equals `candidates.len()`.
    fn score(&mut self, candidates: Candidates<'_>, scores: &mut [f32]);
}

/// Scores by inner product with a query, which must have the index's dim.
#[derive(Debug, Clone, Copy)]
pub struct DotScorer<'a> {
    /// `[D]`.
    pub query: &'a [f32],
}

impl Scorer for DotScorer<'_> {
    #[inline]
    fn score(&mut self, candidates: Candidates<'_>, scores: &mut [f32]) {
        dots(self.query, &candidates.vectors.floats, candidates.nodes, scores);
    }
}

/// How alike stored vectors are, see [`Lift`].
pub(super) struct Likeness<'a> {
    pub(super) query: &'a [f32],
    pub(super) query_lift: f32,
    pub(super) lift: &'a Lift,
}

impl Scorer for Likeness<'_> {
    #[inline]
    fn score(&mut self, candidates: Candidates<'_>, scores: &mut [f32]) {
        dots(self.query, &candidates.vectors.floats, candidates.nodes, scores);
        for (score, &node) in scores.iter_mut().zip(candidates.nodes) {
            *score += self.query_lift * self.lift.of(node);
        }
    }
}

/// One more coordinate per vector, `√(max|x|² - |x|²)`, that puts all on one sphere, where the largest
/// inner product with a query (whose own lift is 0) is the nearest neighbour. Links are chosen on that
/// sphere, so items with long vectors do not swallow them all (Bachrach et al., RecSys 2014).
#[derive(Debug, Clone, Default)]
pub(super) struct Lift {
    pub(super) squares: Vec<f32>,
    pub(super) max: f32,
}

impl Lift {
    #[inline]
    pub(super) fn of(&self, node: u32) -> f32 {
        (self.max - self.squares[node as usize]).max(0.0).sqrt()
    }

    /// Notes the vector of a node, which may be the next new one.
    pub(super) fn set(&mut self, node: u32, vector: &[f32]) {
        let square = dot(vector, vector);
        match self.squares.get_mut(node as usize) {
            Some(old) => *old = square,
            None => self.squares.push(square),
        }
        self.max = self.max.max(square);
    }
}

/// Best nodes remembered above the level that a walk is for.
const BEAM: usize = 16;

/// Where a walk goes.
pub(super) struct Route<'a> {
    pub(super) start: &'a [u32],
    pub(super) level: u8,
    /// Best nodes remembered.
    pub(super) ef: usize,
    /// Nodes scored at most, roughly: it is checked after each step.
    pub(super) budget: usize,
}

/// What one walk writes on; kept from search to search.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// A node was visited when its stamp is the current one.
    stamps: Vec<u16>,
    stamp: u16,
    frontier: BinaryHeap<u64>,
    /// The best nodes that `keep` accepts, worst on top.
    pub(super) best: BinaryHeap<Reverse<u64>>,
    batch: Vec<u32>,
    scores: Vec<f32>,
    /// Nodes scored since the scratch was taken.
    pub(super) scored: usize,
}

impl Scratch {
    fn begin(&mut self, nodes: usize) {
        self.stamps.resize(nodes.max(self.stamps.len()), self.stamp);
        self.stamp = self.stamp.wrapping_add(1);
        if self.stamp == 0 {
            self.stamps.fill(0);
            self.stamp = 1;
        }
        self.frontier.clear();
        self.best.clear();
    }

    /// Gathers those of `nodes` that were not visited yet.
    #[inline]
    fn gather(&mut self, nodes: &[u32]) {
        self.batch.clear();
        for &node in nodes {
            let stamp = &mut self.stamps[node as usize];
            if *stamp != self.stamp {
                *stamp = self.stamp;
                self.batch.push(node);
            }
        }
    }

    /// The best nodes as ranks, best first.
    pub(super) fn take_best(&mut self) -> Vec<u64> {
        let mut ranks: Vec<u64> = self.best.drain().map(|Reverse(rank)| rank).collect();
        ranks.sort_unstable_by(|a, b| b.cmp(a));
        ranks
    }
}

/// Scratches not in use.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Vec<Scratch>>);

impl Clone for Pool {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Pool {
    pub(super) fn take(&self) -> Scratch {
        let mut scratch = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        scratch.scored = 0;
        scratch
    }

    pub(super) fn give_back(&self, scratch: Scratch) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
    }
}

impl Hnsw {
    /// Best-first search on one level: nodes that `keep` refuses are walked but not remembered. Leaves
    /// the best in the scratch; `false` when the budget ended it.
    pub(super) fn walk(
        &self,
        scorer: &mut impl Scorer,
        route: Route<'_>,
        keep: impl Fn(u32) -> bool,
        scratch: &mut Scratch,
    ) -> bool {
        scratch.begin(self.graph.len());
        scratch.gather(route.start);
        loop {
            self.judge(scorer, route.ef, &keep, scratch);
            if scratch.scored > route.budget {
                return false;
            }
            let Some(next) = scratch.frontier.pop() else { return true };
            let worst = scratch.best.peek().filter(|_| scratch.best.len() >= route.ef);
            if worst.is_some_and(|&Reverse(worst)| next < worst) {
                return true;
            }
            scratch.gather(self.graph.links(id_of(next), route.level));
        }
    }

    /// Scores the gathered nodes and remembers those worth it.
    #[inline]
    fn judge(&self, scorer: &mut impl Scorer, ef: usize, keep: impl Fn(u32) -> bool, scratch: &mut Scratch) {
        let Scratch { frontier, best, batch, scores, .. } = scratch;
        if batch.is_empty() {
            return;
        }
        scores.resize(batch.len(), 0.0);
        scorer.score(Candidates { nodes: batch, vectors: &self.vectors }, scores);
        for (&node, &score) in batch.iter().zip(scores.iter()) {
            let rank = rank(score, node);
            let full = best.len() >= ef;
            if full && best.peek().is_some_and(|&Reverse(worst)| rank < worst) {
                continue;
            }
            frontier.push(rank);
            if keep(node) {
                best.push(Reverse(rank));
                if full {
                    best.pop();
                }
            }
        }
        scratch.scored += scratch.batch.len();
    }

    /// Goes down from the entry to `level + 1`, by a narrow beam: with a single node, as in the paper,
    /// walks in clustered data end in the wrong cluster. The answer is where to start on `level`.
    pub(super) fn descend(
        &self,
        scorer: &mut impl Scorer,
        entry: u32,
        level: u8,
        scratch: &mut Scratch,
    ) -> Vec<u32> {
        let mut start = vec![entry];
        for level in (level + 1..=self.graph.level(entry)).rev() {
            let route = Route { start: &start, level, ef: BEAM, budget: usize::MAX };
            self.walk(scorer, route, |_| true, scratch);
            start.clear();
            start.extend(scratch.best.drain().map(|Reverse(rank)| id_of(rank)));
        }
        start
    }
}
