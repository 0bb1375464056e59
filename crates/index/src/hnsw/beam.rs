//! What one walk remembers.

use crate::hit::{rank, score_of};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, PoisonError};

/// Nodes at most: two bits of a key are marks.
pub(super) const MAX_NODES: usize = 1 << 30;

/// A mark of a key: its node's links were followed.
const FOLLOWED: u64 = 1;

/// A mark of a key: its node is walked through but not an answer.
const REFUSED: u64 = 2;

/// Score and node as one number, larger is better, with room for marks.
#[inline(always)]
fn key(score: f32, node: u32) -> u64 {
    let rank = rank(score, node);
    (rank >> 32) << 32 | (rank & 0x3fff_ffff) << 2
}

#[inline(always)]
fn node_of(key: u64) -> u32 {
    !((key as u32) >> 2) & 0x3fff_ffff
}

/// The best nodes found so far in order, followed or not: up to `ef` answers, and the refused among them.
#[derive(Debug, Default)]
pub(super) struct Beam {
    keys: Vec<u64>,
    ef: usize,
    answers: usize,
    /// No node before it is to be followed.
    next: usize,
}

impl Beam {
    pub(super) fn begin(&mut self, ef: usize) {
        self.keys.clear();
        (self.ef, self.answers, self.next) = (ef, 0, 0);
    }

    /// Nodes remembered, refused ones included.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn answers(&self) -> usize {
        self.answers
    }

    /// Remembers a node if it is among the best; `refused` is asked only then.
    #[inline(always)]
    pub(super) fn offer(&mut self, score: f32, node: u32, refused: impl FnOnce() -> bool) {
        let key = key(score, node);
        let full = self.answers == self.ef;
        if full && self.keys.last().is_some_and(|&worst| key < worst) {
            return;
        }
        let refused = refused();
        let at = self.keys.partition_point(|&better| better > key);
        self.keys.insert(at, if refused { key | REFUSED } else { key });
        self.next = self.next.min(at);
        if !refused {
            self.answers += 1;
            if self.answers >= self.ef {
                self.trim();
            }
        }
    }

    /// Lets go of what lies behind the last answer that counts.
    #[inline(always)]
    fn trim(&mut self) {
        while let Some(&last) = self.keys.last() {
            if last & REFUSED == 0 {
                if self.answers == self.ef {
                    return;
                }
                self.answers -= 1;
            }
            self.keys.pop();
        }
    }

    /// The best node whose links are to be followed, which they then are.
    #[inline(always)]
    pub(super) fn follow(&mut self) -> Option<u32> {
        while let Some(key) = self.keys.get_mut(self.next) {
            self.next += 1;
            if *key & FOLLOWED == 0 {
                *key |= FOLLOWED;
                return Some(node_of(*key));
            }
        }
        None
    }

    /// The node that comes next as things stand.
    #[inline(always)]
    pub(super) fn peek(&self) -> Option<u32> {
        self.keys.get(self.next).map(|&key| node_of(key))
    }

    /// Score and node of the answers, best first.
    pub(super) fn found(&self) -> impl Iterator<Item = (f32, u32)> {
        self.keys.iter().filter(|&key| key & REFUSED == 0).map(|&key| (score_of(key), node_of(key)))
    }

    /// All nodes remembered, best first.
    pub(super) fn nodes(&self) -> impl Iterator<Item = u32> {
        self.keys.iter().map(|&key| node_of(key))
    }
}

/// Which nodes a walk has met: one bit each, of which those set are known, so that clearing costs what was
/// walked and not what there is.
#[derive(Debug, Default)]
pub(super) struct Visited {
    words: Vec<u64>,
    touched: Vec<u32>,
}

impl Visited {
    fn begin(&mut self, nodes: usize) {
        for at in self.touched.drain(..) {
            self.words[at as usize] = 0;
        }
        self.words.resize(nodes.div_ceil(64).max(self.words.len()), 0);
    }

    /// Whether the node was not met before; it is now.
    #[inline(always)]
    fn meet(&mut self, node: u32) -> bool {
        let at = node / 64;
        let word = &mut self.words[at as usize];
        let bit = 1 << (node % 64);
        if *word & bit != 0 {
            return false;
        }
        if *word == 0 {
            self.touched.push(at);
        }
        *word |= bit;
        true
    }
}

/// What one walk writes on; kept from search to search.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    visited: Visited,
    pub(super) beam: Beam,
    /// For walks that refuse most nodes: those to follow, and the best that were accepted, worst on top.
    pub(super) frontier: BinaryHeap<u64>,
    pub(super) best: BinaryHeap<Reverse<u64>>,
    pub(super) batch: Vec<u32>,
    pub(super) scores: Vec<f32>,
    /// Nodes scored since the scratch was taken.
    pub(super) scored: usize,
}

impl Scratch {
    pub(super) fn begin(&mut self, nodes: usize) {
        self.visited.begin(nodes);
        self.frontier.clear();
        self.best.clear();
    }

    /// Gathers those of `nodes` that were not met yet, and makes room for their scores.
    #[inline(always)]
    pub(super) fn gather(&mut self, nodes: impl Iterator<Item = u32>) {
        self.batch.clear();
        for node in nodes {
            if self.visited.meet(node) {
                self.batch.push(node);
            }
        }
        self.scores.resize(self.batch.len(), 0.0);
        self.scored += self.batch.len();
    }
}

/// Scratches not in use.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Vec<Scratch>>);

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beam_keeps_the_best_answers_and_follows_each_node_once_best_first() {
        let mut beam = Beam::default();
        beam.begin(3);
        for (score, node, refused) in [(1.0, 4, false), (5.0, 2, true), (3.0, 9, false), (2.0, 7, false)] {
            beam.offer(score, node, || refused);
        }
        assert_eq!(beam.follow(), Some(2));
        beam.offer(4.0, 1, || false);
        beam.offer(0.5, 6, || panic!("is not asked of what comes too late"));
        assert_eq!(beam.nodes().collect::<Vec<_>>(), [2, 1, 9, 7]);
        assert_eq!(beam.found().collect::<Vec<_>>(), [(4.0, 1), (3.0, 9), (2.0, 7)]);
        let rest: Vec<u32> = std::iter::from_fn(|| beam.follow()).collect();
        assert_eq!(rest, [1, 9, 7]);
        // An answer that comes in lets go of the last one and of refused ones that were only better than that.
        beam.offer(2.5, 5, || true);
        beam.offer(9.0, 3, || false);
        assert_eq!(beam.nodes().collect::<Vec<_>>(), [3, 2, 1, 9]);
        assert_eq!((beam.answers(), beam.follow(), beam.follow()), (3, Some(3), None));
    }

    #[test]
    fn equal_scores_are_ordered_by_node_up_to_the_last() {
        let mut beam = Beam::default();
        beam.begin(9);
        for node in [7, 0, MAX_NODES as u32 - 1, 3] {
            beam.offer(f32::NAN, node, || false);
        }
        assert_eq!(beam.nodes().collect::<Vec<_>>(), [0, 3, 7, MAX_NODES as u32 - 1]);
    }
}
