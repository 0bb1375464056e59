use super::arena::Arena;
use super::beam::Scratch;
use super::walk::{Near, Route, Scorer, descend, wade, walk};
use super::{Hnsw, Walk, Walked};
use crate::hit::{Hit, id_of, rank, score_of};
use crate::topk::Top;
use millstream_schema::ItemRow;
use std::cmp::Reverse;
use std::collections::HashSet;
use std::sync::atomic::Ordering::Acquire;

/// How many times the answers wanted a walk may remember before it counts as one that refuses most.
const MOST_REFUSED: usize = 8;

/// Nodes scored per answer remembered, about.
const SCORED_PER_ANSWER: usize = 8;

/// Nodes that a scan asks the filter of in the time of scoring one while walking.
const ASKED_PER_SCORED: usize = 16;

impl Hnsw {
    /// Walks the graph with any scorer: by a narrow beam on the upper levels, on the ground
    /// best-first among `ef` remembered items. There is no exact fallback, as a scorer may be a model.
    pub fn search_with(
        &self,
        scorer: &mut impl Scorer,
        walk: Walk,
        keep: &dyn Fn(ItemRow) -> bool,
    ) -> Walked {
        let arena = self.arena();
        let Some(entry) = arena.entry().filter(|_| walk.k > 0) else {
            return Walked { hits: Vec::new(), scored: 0, complete: true };
        };
        let mut scratch = self.pool.take();
        let start = descend(&arena, scorer, entry, 0, &mut scratch);
        let (ef, budget) = (walk.ef.max(walk.k), walk.budget.saturating_add(scratch.scored));
        let keep = |node: u32| arena.is_alive(node) && keep(arena.item(node));
        let route = Route { start: &start, level: 0, ef, budget };
        let complete = wade(&arena, scorer, route, keep, &mut scratch);
        let best = scratch.best.drain().map(|Reverse(rank)| (score_of(rank), id_of(rank)));
        let mut hits = sorted(&arena, best, usize::MAX);
        // An item whose vector is being replaced may be there with both.
        let mut seen = HashSet::new();
        hits.retain(|hit| seen.insert(hit.item));
        hits.truncate(walk.k);
        let scored = scratch.scored;
        self.pool.give_back(scratch);
        Walked { hits, scored, complete }
    }

    /// Walks; scans instead when the index is small, the filter leaves the walk too long, or the walk
    /// found too few.
    pub(super) fn search_prepared(
        &self,
        query: &[f32],
        k: usize,
        keep: &dyn Fn(ItemRow) -> bool,
    ) -> Vec<Hit> {
        loop {
            let before = self.settled();
            let hits = self.search_once(&self.arena(), query, k, keep);
            // An item that moved to another node meanwhile may have been missed at both, or found at both.
            if self.replaced.load(Acquire) == before {
                return hits;
            }
        }
    }

    /// The number of replacements when none is in the middle, which takes no longer than setting some marks.
    fn settled(&self) -> u64 {
        loop {
            let replaced = self.replaced.load(Acquire);
            if replaced.is_multiple_of(2) {
                return replaced;
            }
            std::thread::yield_now();
        }
    }

    fn search_once(
        &self,
        arena: &Arena,
        query: &[f32],
        k: usize,
        keep: &dyn Fn(ItemRow) -> bool,
    ) -> Vec<Hit> {
        let living = arena.living();
        let k = k.min(living);
        let ef = self.config.ef_search.max(k);
        let keep = |node: u32| arena.is_alive(node) && keep(arena.item(node));
        if let Some(entry) = arena.entry().filter(|_| k > 0 && living > 2 * ef) {
            let mut scratch = self.pool.take();
            let hits = walk_down(arena, entry, (query, k, ef), keep, &mut scratch);
            self.pool.give_back(scratch);
            if let Some(hits) = hits.filter(|hits| hits.len() == k) {
                return hits;
            }
        }
        scan(arena, query, k, keep)
    }
}

/// The walk of a search from the entry on; `None` when a scan is the better way.
fn walk_down(
    arena: &Arena,
    entry: u32,
    (vector, k, ef): (&[f32], usize, usize),
    keep: impl Fn(u32) -> bool,
    scratch: &mut Scratch,
) -> Option<Vec<Hit>> {
    let query = arena.query(vector);
    let mut scorer = Near { rows: arena.walked(), query: &query };
    let start = descend(arena, &mut scorer, entry, 0, scratch);
    let route = Route { start: &start, level: 0, ef, budget: MOST_REFUSED * ef + 64 };
    if walk(arena, &mut scorer, route, &keep, scratch) {
        let found = scratch.beam.found();
        return Some(best_of(arena, vector, found, k));
    }
    // What share of nodes passes, as far as was seen.
    let (passed, seen) = (scratch.beam.answers().max(1), scratch.beam.len());
    let scored = ef.saturating_mul(SCORED_PER_ANSWER) * seen / passed;
    let nodes = arena.len();
    if scored > nodes / ASKED_PER_SCORED + nodes * passed / seen {
        return None;
    }
    let budget = scratch.scored + 4 * scored.max(nodes / 8);
    let complete = wade(arena, &mut scorer, Route { budget, ..route }, keep, scratch);
    let mut ranks: Vec<u64> = scratch.best.drain().map(|Reverse(rank)| rank).collect();
    ranks.sort_unstable_by(|a, b| b.cmp(a));
    let found = ranks.into_iter().map(|rank| (score_of(rank), id_of(rank)));
    complete.then(|| best_of(arena, vector, found, k))
}

/// The best `k` of what a walk found, which comes best first: scored again where walks compare copies.
fn best_of(arena: &Arena, vector: &[f32], found: impl Iterator<Item = (f32, u32)>, k: usize) -> Vec<Hit> {
    if arena.coarse.is_none() {
        return sorted(arena, found, k);
    }
    let nodes: Vec<u32> = found.take(again(k)).map(|(_, node)| node).collect();
    let mut scores = vec![0.0; nodes.len()];
    arena.rows.scores(&arena.rows.query(vector), &nodes, &mut scores);
    sorted(arena, scores.into_iter().zip(nodes), k)
}

/// How many of the best by int8 are scored again, so that the best `k` are among them.
pub(super) fn again(k: usize) -> usize {
    2 * k + 16
}

/// The best `k` as hits, ties by item.
fn sorted(arena: &Arena, found: impl Iterator<Item = (f32, u32)>, k: usize) -> Vec<Hit> {
    let mut hits: Vec<Hit> = found.map(|(score, node)| Hit { item: arena.item(node), score }).collect();
    hits.sort_unstable_by_key(|hit| Reverse(rank(hit.score, hit.item)));
    hits.truncate(k);
    hits
}

/// The exact answer by going through all nodes.
fn scan(arena: &Arena, vector: &[f32], k: usize, keep: impl Fn(u32) -> bool) -> Vec<Hit> {
    let query = arena.rows.query(vector);
    let mut top = Top::new(k);
    for node in (0..arena.len() as u32).filter(|&node| keep(node)) {
        top.offer(node, arena.rows.score(&query, node));
    }
    sorted(arena, top.finish().into_iter().map(|hit| (hit.score, hit.item)), k)
}
