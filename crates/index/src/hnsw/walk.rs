use super::arena::Arena;
use super::beam::Scratch;
use crate::block::prefetch;
use crate::hit::{id_of, rank};
use crate::rows::{Query, Rows};
use millstream_schema::ItemRow;
use std::borrow::Cow;
use std::cmp::Reverse;

/// The nodes that a walk wants scored next.
#[derive(Debug, Clone, Copy)]
pub struct Candidates<'a> {
    pub(super) nodes: &'a [u32],
    pub(super) arena: &'a Arena,
}

impl<'a> Candidates<'a> {
    /// How many there are, at least 1.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The item of candidate `at`.
    pub fn item(&self, at: usize) -> ItemRow {
        self.arena.item(self.nodes[at])
    }

    /// The stored vector of candidate `at`, `[D]`; a copy where numbers are not stored as f32.
    pub fn vector(&self, at: usize) -> Cow<'a, [f32]> {
        let rows = &self.arena.rows;
        match rows.floats(self.nodes[at]) {
            Some(vector) => Cow::Borrowed(vector),
            None => {
                let mut vector = vec![0.0; self.arena.dim];
                rows.read(self.nodes[at], &mut vector);
                Cow::Owned(vector)
            }
        }
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
    fn score(&mut self, candidates: Candidates<'_>, scores: &mut [f32]) {
        let rows = &candidates.arena.rows;
        rows.scores(&rows.query(self.query), candidates.nodes, scores);
    }
}

/// Scores by inner product that leave dead nodes to the last: where a walk comes by living ones alone, it comes as well once the dead
/// are no longer there.
pub(super) struct Living<'a>(pub(super) Near<'a>);

impl Scorer for Living<'_> {
    #[inline(always)]
    fn score(&mut self, candidates: Candidates<'_>, scores: &mut [f32]) {
        self.0.score(candidates, scores);
        for (score, &node) in scores.iter_mut().zip(candidates.nodes) {
            if !candidates.arena.is_alive(node) {
                *score = f32::MIN;
            }
        }
    }
}

/// Scores by inner product with the rows that walks compare.
pub(super) struct Near<'a> {
    pub(super) rows: &'a Rows,
    pub(super) query: &'a Query,
}

impl Scorer for Near<'_> {
    #[inline(always)]
    fn score(&mut self, candidates: Candidates<'_>, scores: &mut [f32]) {
        self.rows.scores(self.query, candidates.nodes, scores);
    }
}

/// Best nodes remembered above the level that a walk is for. With 16, half of a search in clustered data went into
/// the upper levels.
const BEAM: usize = 4;

/// Where a walk goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route<'a> {
    pub(super) start: &'a [u32],
    pub(super) level: u8,
    /// Best nodes remembered.
    pub(super) ef: usize,
    /// Nodes remembered, refused ones included ([`walk`]), or scored ([`wade`]), beyond which it ends early:
    /// roughly, it is checked after each step.
    pub(super) budget: usize,
}

/// Best-first search on one level: nodes that `keep` refuses are walked but are no answers. Leaves the best in
/// the scratch's beam; `false` when the budget ended it. For walks that refuse few.
#[inline(always)]
pub(super) fn walk(
    arena: &Arena,
    scorer: &mut impl Scorer,
    route: Route<'_>,
    keep: impl Fn(u32) -> bool,
    scratch: &mut Scratch,
) -> bool {
    scratch.begin(arena.room());
    scratch.beam.begin(route.ef);
    scratch.gather(route.start.iter().copied());
    loop {
        let Scratch { beam, batch, scores, .. } = scratch;
        if !batch.is_empty() {
            scorer.score(Candidates { nodes: batch, arena }, scores);
            for (&node, &score) in batch.iter().zip(scores.iter()) {
                beam.offer(score, node, || !keep(node));
            }
            if beam.len() > route.budget {
                return false;
            }
        }
        let Some(next) = beam.follow() else { return true };
        if let Some(after) = beam.peek() {
            prefetch(arena.cells(after, route.level));
        }
        scratch.gather(arena.links(next, route.level));
    }
}

/// As [`walk`], for walks that may refuse most of what they meet. Leaves the best in the scratch's heap.
pub(super) fn wade(
    arena: &Arena,
    scorer: &mut impl Scorer,
    route: Route<'_>,
    keep: impl Fn(u32) -> bool,
    scratch: &mut Scratch,
) -> bool {
    scratch.begin(arena.room());
    scratch.gather(route.start.iter().copied());
    loop {
        judge(arena, scorer, route.ef, &keep, scratch);
        if scratch.scored > route.budget {
            return false;
        }
        let Some(next) = scratch.frontier.pop() else { return true };
        let worst = scratch.best.peek().filter(|_| scratch.best.len() >= route.ef);
        if worst.is_some_and(|&Reverse(worst)| next < worst) {
            return true;
        }
        scratch.gather(arena.links(id_of(next), route.level));
    }
}

/// Scores the gathered nodes and remembers those worth it.
fn judge(
    arena: &Arena,
    scorer: &mut impl Scorer,
    ef: usize,
    keep: impl Fn(u32) -> bool,
    scratch: &mut Scratch,
) {
    let Scratch { frontier, best, batch, scores, .. } = scratch;
    if batch.is_empty() {
        return;
    }
    scorer.score(Candidates { nodes: batch, arena }, scores);
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
}

/// Goes down from the entry to `level + 1`, by a narrow beam: with a single node, as in the paper, walks in
/// clustered data end in the wrong cluster. The answer is where to start on `level`.
pub(super) fn descend(
    arena: &Arena,
    scorer: &mut impl Scorer,
    entry: u32,
    level: u8,
    scratch: &mut Scratch,
) -> Vec<u32> {
    let mut start = vec![entry];
    for level in (level + 1..=arena.level(entry)).rev() {
        let route = Route { start: &start, level, ef: BEAM, budget: usize::MAX };
        walk(arena, scorer, route, |_| true, scratch);
        start.clear();
        start.extend(scratch.beam.nodes());
    }
    start
}
