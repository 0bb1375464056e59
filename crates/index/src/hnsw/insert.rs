//! Linking: batches of new nodes look for their neighbours in the graph as it was before the batch, all at
//! once; then links are set. What comes out does not depend on the number of threads.

use super::HnswConfig;
use super::arena::Arena;
use super::beam::{Pool, Scratch};
use super::lengths::Lengths;
use super::walk::{Living, Near, Route, descend, walk};
use crate::hit::{id_of, rank, score_of};
use crate::index::Metric;
use rayon::prelude::*;
use std::borrow::Cow;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// New nodes that look for neighbours together at most.
const BATCH: usize = 256;

/// A batch is at most one in this many of the nodes there are: what is not linked yet cannot be walked through.
const BATCH_SHARE: usize = 32;

/// A node that loses a link and has at most so many left is looked for: what few links lead to, few searches find.
const FEW: u32 = 8;

/// Of a search that missed its node, so many of the best found may lead to it.
const ENDS: usize = 8;

/// How often links are mended that mending cut.
const ROUNDS: usize = 8;

/// How many new nodes may be linked together in a graph of so many.
pub(super) fn batch_len(nodes: usize) -> usize {
    (nodes / BATCH_SHARE).clamp(1, BATCH)
}

/// What linking works on; there is one writer.
pub(super) struct Linker<'a> {
    pub(super) config: &'a HnswConfig,
    pub(super) arena: &'a Arena,
    pub(super) lengths: &'a Lengths,
    /// How many links of living or new nodes lead to a node on the ground.
    pub(super) incoming: &'a [AtomicU32],
    pub(super) pool: &'a Pool,
}

/// A link that a chosen neighbour shall get back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Back {
    level: u8,
    from: u32,
    to: u32,
}

impl Linker<'_> {
    /// Links new nodes, which readers do not know of yet (Malkov and Yashunin 2018, algorithm 1). `but` are nodes
    /// that are about to go: nothing is linked to them. The answer is who lost links to the new ones.
    pub(super) fn link(&self, nodes: &[u32], but: &[u32]) -> Vec<u32> {
        let entry = self.arena.entry();
        let plan = |at: usize| {
            let mut scratch = self.pool.take();
            let plan = self.plan(&nodes[..=at], entry, but, &mut scratch);
            self.pool.give_back(scratch);
            plan
        };
        let plans: Vec<Vec<Vec<u32>>> = match nodes.len() {
            1 => vec![plan(0)],
            _ => (0..nodes.len()).into_par_iter().map(plan).collect(),
        };
        let mut backs = Vec::new();
        for (&node, links) in nodes.iter().zip(&plans) {
            for (links, level) in links.iter().zip(0..) {
                self.arena.set_links(node, level, links);
                backs.extend(links.iter().map(|&from| Back { level, from, to: node }));
                if level == 0 {
                    self.count(links, 1);
                }
            }
        }
        backs.sort_unstable();
        let groups: Vec<&[Back]> = backs.chunk_by(|a, b| (a.level, a.from) == (b.level, b.from)).collect();
        let dropped: Vec<Vec<u32>> = match nodes.len() {
            1 => groups.into_iter().map(|group| self.link_back(group)).collect(),
            _ => groups.into_par_iter().map(|group| self.link_back(group)).collect(),
        };
        let dropped: Vec<u32> = dropped.into_iter().flatten().collect();
        self.adopt(dropped.iter().chain(nodes).copied().collect());
        for &node in nodes {
            let top = self.arena.entry().map(|entry| self.arena.level(entry));
            if top.is_none_or(|top| self.arena.level(node) > top) {
                self.arena.set_entry(Some(node));
            }
        }
        dropped
    }

    /// Links of the last of these new nodes by level, of which the others may be some.
    fn plan(&self, nodes: &[u32], entry: Option<u32>, but: &[u32], scratch: &mut Scratch) -> Vec<Vec<u32>> {
        let Some((&node, mates)) = nodes.split_last() else { return Vec::new() };
        let arena = self.arena;
        let rows = arena.walked();
        let mut vector = vec![0.0; arena.dim];
        arena.rows.read(node, &mut vector);
        let query = arena.query(&vector);
        let mut scorer = Near { rows, query: &query };
        let (level, top) = (arena.level(node), entry.map_or(0, |entry| arena.level(entry)));
        let mut start = match entry {
            Some(entry) => descend(arena, &mut scorer, entry, level, scratch),
            None => Vec::new(),
        };
        let mut links = vec![Vec::new(); usize::from(level) + 1];
        for level in (0..=level).rev() {
            if level <= top {
                let route =
                    Route { start: &start, level, ef: self.config.ef_construction, budget: usize::MAX };
                let keep = |near: u32| arena.is_alive(near) && !but.contains(&near);
                walk(arena, &mut scorer, route, keep, scratch);
                start = scratch.beam.nodes().collect();
            } else {
                scratch.beam.begin(self.config.ef_construction);
            }
            for &mate in mates.iter().filter(|&&mate| arena.level(mate) >= level) {
                scratch.beam.offer(rows.score(&query, mate), mate, || false);
            }
            let found: Vec<u32> = scratch.beam.found().map(|(_, near)| near).collect();
            // By inner product many have the same few long vectors as their best, so walks need all the ways there
            // are to come to others.
            let (most, fill) = match arena.metric {
                Metric::Cosine => (self.config.m, false),
                Metric::InnerProduct => (arena.cap(level), true),
            };
            links[usize::from(level)] = self.choose(node, &found, most, fill);
        }
        links
    }

    /// Up to `most` of the candidates, best first, that are nearer to the node in direction than to any chosen before,
    /// so that links lead in different directions (algorithm 4); with `fill`, then the best of the rest. Without, lists
    /// stay shorter: a step costs less, and there is room for links to come.
    fn choose(&self, node: u32, candidates: &[u32], most: usize, fill: bool) -> Vec<u32> {
        candidates.iter().for_each(|&near| self.arena.rows.prefetch(near));
        let mut ranks: Vec<u64> =
            candidates.iter().map(|&near| rank(self.arena.rows.pair(node, near), near)).collect();
        ranks.sort_unstable_by(|a, b| b.cmp(a));
        let (mut chosen, mut passed): (Vec<u32>, Vec<u32>) = (Vec::with_capacity(most), Vec::new());
        for rank in ranks {
            let (near, score) = (id_of(rank), score_of(rank));
            if chosen.len() == most {
                break;
            }
            let alike = score * self.lengths.inverse(node, near);
            if chosen.iter().all(|&other| self.alike(near, other) < alike) {
                chosen.push(near);
            } else {
                passed.push(near);
            }
        }
        if fill {
            let room = (most - chosen.len()).min(passed.len());
            chosen.extend(passed.drain(..room));
        }
        chosen
    }

    /// How alike two nodes are in direction, about in [-1, 1].
    fn alike(&self, a: u32, b: u32) -> f32 {
        self.arena.rows.pair(a, b) * self.lengths.inverse(a, b)
    }

    /// Gives one node its links back; the answer is whom it is not linked with any more on the ground.
    fn link_back(&self, group: &[Back]) -> Vec<u32> {
        let Some(&Back { level, from, .. }) = group.first() else { return Vec::new() };
        let old: Vec<u32> = self.arena.links(from, level).collect();
        let new: Vec<u32> = group.iter().map(|back| back.to).filter(|to| !old.contains(to)).collect();
        if old.len() + new.len() <= self.arena.cap(level) {
            new.iter().for_each(|&to| {
                self.arena.try_link(from, level, to);
            });
            if level == 0 {
                self.count(&new, 1);
            }
            return Vec::new();
        }
        let candidates: Vec<u32> = old.iter().chain(&new).copied().collect();
        self.relink(from, level, &candidates, false)
    }

    /// Replaces the links of a node by the best choice among the living of `candidates`, each named once. The
    /// answer is whom it is not linked with any more on the ground.
    fn relink(&self, node: u32, level: u8, candidates: &[u32], fill: bool) -> Vec<u32> {
        let old: Vec<u32> = self.arena.links(node, level).collect();
        let chosen = self.choose(node, candidates, self.arena.cap(level), fill);
        self.arena.set_links(node, level, &chosen);
        if level > 0 {
            return Vec::new();
        }
        let gone: Vec<u32> = old.iter().copied().filter(|to| !chosen.contains(to)).collect();
        let new: Vec<u32> = chosen.into_iter().filter(|to| !old.contains(to)).collect();
        self.count(&new, 1);
        self.count(&gone, u32::MAX);
        gone
    }

    /// Adds to the number of links that lead to nodes.
    fn count(&self, nodes: &[u32], by: u32) {
        for &node in nodes {
            self.incoming[node as usize].fetch_add(by, Relaxed);
        }
    }

    /// Sees to it that a link leads to each of these nodes, if they live or are new.
    fn adopt(&self, mut nodes: Vec<u32>) {
        nodes.retain(|&node| self.incoming[node as usize].load(Relaxed) == 0);
        nodes.sort_unstable();
        nodes.dedup();
        for node in nodes {
            let near: Vec<u32> = self.arena.links(node, 0).collect();
            self.force(&near, node);
        }
    }

    /// Sees to it that a search by their own vectors finds these living nodes: where one ends elsewhere, one of the best nodes it
    /// found, with room if there is such a one, gets a link to the one looked for. Who lost a link by that is looked for in turn.
    pub(super) fn lead_to(&self, nodes: &[u32]) {
        let Some(entry) = self.arena.entry() else { return };
        let ends = |&node: &u32| {
            let mut scratch = self.pool.take();
            let end = self.end_of_search(entry, node, &mut scratch);
            self.pool.give_back(scratch);
            end.map(|end| (end, node))
        };
        let mut nodes = Cow::Borrowed(nodes);
        for _ in 0..ROUNDS {
            let lost: Vec<(Vec<u32>, u32)> = match *nodes {
                [ref node] => ends(node).into_iter().collect(),
                _ => nodes.par_iter().filter_map(ends).collect(),
            };
            let mut again: Vec<u32> =
                lost.iter().filter_map(|(ends, node)| self.force(ends, *node)).collect();
            again.retain(|&node| self.arena.is_alive(node));
            again.extend(lost.iter().map(|(_, node)| node));
            again.sort_unstable();
            again.dedup();
            if again.is_empty() {
                return;
            }
            nodes = Cow::Owned(again);
        }
    }

    /// Looks for those among these nodes that lost links and have few left.
    pub(super) fn look_for(&self, mut lost_links: Vec<u32>) {
        let few =
            |&node: &u32| self.arena.is_alive(node) && self.incoming[node as usize].load(Relaxed) <= FEW;
        lost_links.retain(few);
        lost_links.sort_unstable();
        lost_links.dedup();
        self.lead_to(&lost_links);
    }

    /// Where a search by the node's own vector ends when it does not find the node: the best that it found.
    fn end_of_search(&self, entry: u32, node: u32, scratch: &mut Scratch) -> Option<Vec<u32>> {
        let Self { arena, config, .. } = *self;
        let rows = arena.walked();
        let mut vector = vec![0.0; arena.dim];
        arena.rows.read(node, &mut vector);
        let query = arena.query(&vector);
        let mut scorer = Living(Near { rows, query: &query });
        let start = descend(arena, &mut scorer, entry, 0, scratch);
        let route = Route { start: &start, level: 0, ef: config.ef_search, budget: usize::MAX };
        walk(arena, &mut scorer, route, |near| arena.is_alive(near), scratch);
        let found = || scratch.beam.found();
        // Who is crowded out by as many that are as good is where it belongs.
        let crowded = || {
            let own = rows.score(&query, node);
            found().count() >= config.ef_search && found().all(|(score, _)| score >= own)
        };
        let lost = found().all(|(_, near)| near != node) && !crowded();
        let ends: Vec<u32> = found().map(|(_, near)| near).take(ENDS).collect();
        (lost && !ends.is_empty()).then_some(ends)
    }

    /// Has a link lead from one of these nodes to `node`, in place of one to where others lead as well if none has room; the
    /// answer is where that one led.
    fn force(&self, near: &[u32], node: u32) -> Option<u32> {
        if near.iter().any(|&from| self.arena.try_link(from, 0, node)) {
            self.count(&[node], 1);
            return None;
        }
        let spare = near.iter().find_map(|&from| {
            let spare = |&to: &u32| self.incoming[to as usize].load(Relaxed) > 1;
            Some((from, self.arena.links(from, 0).collect::<Vec<_>>().into_iter().rfind(spare)?))
        });
        let (from, spare) = spare?;
        let links: Vec<u32> =
            self.arena.links(from, 0).map(|to| if to == spare { node } else { to }).collect();
        self.arena.set_links(from, 0, &links);
        self.count(&[node], 1);
        self.count(&[spare], u32::MAX);
        Some(spare)
    }

    /// After a node died: those it is linked with both ways get each other instead. Its own links stay, since
    /// links that were one way still lead here.
    pub(super) fn bridge(&self, node: u32) {
        let mut lonely = Vec::new();
        for level in 0..=self.arena.level(node) {
            let near: Vec<u32> = self.arena.links(node, level).collect();
            if level == 0 {
                self.count(&near, u32::MAX);
                lonely.extend(&near);
            }
            for &from in near.iter().filter(|&&from| self.arena.is_alive(from)) {
                let links: Vec<u32> = self.arena.links(from, level).collect();
                if !links.contains(&node) {
                    continue;
                }
                let mut candidates = links;
                candidates.extend(&near);
                candidates.retain(|&to| to != node && to != from && self.arena.is_alive(to));
                candidates.sort_unstable();
                candidates.dedup();
                lonely.extend(self.relink(from, level, &candidates, true));
            }
        }
        lonely.retain(|&near| self.arena.is_alive(near));
        self.adopt(lonely.clone());
        self.look_for(lonely);
    }
}
