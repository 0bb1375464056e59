use super::Hnsw;
use super::walk::{Likeness, Route, Scratch};
use crate::dot::dot;
use crate::hit::{id_of, rank, score_of};

impl Hnsw {
    fn likeness(&self, a: u32, b: u32) -> f32 {
        let inner = dot(self.vectors.row(a), self.vectors.row(b));
        inner + self.lift.of(a) * self.lift.of(b)
    }

    /// Links a node, which must be alive and without links (Malkov and Yashunin 2018, algorithm 1).
    pub(super) fn link(&mut self, node: u32, scratch: &mut Scratch) {
        let Some(entry) = self.graph.entry else {
            self.graph.entry = Some(node);
            return;
        };
        let (level, top) = (self.graph.level(node), self.graph.level(entry));
        let mut start = self.descend_for(node, entry, scratch);
        for level in (0..=level.min(top)).rev() {
            let found = self.find_near(node, &start, level, scratch);
            let chosen = self.choose(&found, self.config.m);
            self.graph.set_links(node, level, &chosen);
            for &near in &chosen {
                self.link_back(near, node, level);
            }
            if !found.is_empty() {
                start = found.into_iter().map(id_of).collect();
            }
        }
        if level > top {
            self.graph.entry = Some(node);
        }
    }

    fn descend_for(&self, node: u32, entry: u32, scratch: &mut Scratch) -> Vec<u32> {
        let mut scorer = self.likeness_to(node);
        self.descend(&mut scorer, entry, self.graph.level(node), scratch)
    }

    fn likeness_to(&self, node: u32) -> Likeness<'_> {
        let (query, query_lift) = (self.vectors.row(node), self.lift.of(node));
        Likeness { query, query_lift, lift: &self.lift }
    }

    /// Living nodes near `node` as ranks, best first.
    fn find_near(&self, node: u32, start: &[u32], level: u8, scratch: &mut Scratch) -> Vec<u64> {
        let route = Route { start, level, ef: self.config.ef_construction, budget: usize::MAX };
        let keep = |near: u32| near != node && self.alive[near as usize];
        self.walk(&mut self.likeness_to(node), route, keep, scratch);
        scratch.take_best()
    }

    /// Up to `most` of the candidates (ranks by likeness to one node, best first): first those nearer
    /// to the node than to any chosen before, so that links lead in different directions (algorithm 4);
    /// then the best of the rest.
    fn choose(&self, candidates: &[u64], most: usize) -> Vec<u32> {
        let mut chosen: Vec<u32> = Vec::with_capacity(most);
        let mut passed = Vec::new();
        for &candidate in candidates {
            if chosen.len() == most {
                return chosen;
            }
            let (node, score) = (id_of(candidate), score_of(candidate));
            if chosen.iter().all(|&other| self.likeness(node, other) < score) {
                chosen.push(node);
            } else {
                passed.push(node);
            }
        }
        let room = most - chosen.len();
        chosen.extend(passed.into_iter().take(room));
        chosen
    }

    fn link_back(&mut self, from: u32, to: u32, level: u8) {
        let links = self.graph.links(from, level);
        if links.contains(&to) || self.graph.try_link(from, level, to) {
            return;
        }
        let mut candidates = self.graph.links(from, level).to_vec();
        candidates.push(to);
        self.relink(from, level, candidates);
    }

    /// Replaces the links of a node by the best choice among the living of `candidates`.
    fn relink(&mut self, node: u32, level: u8, candidates: Vec<u32>) {
        let mut ranks: Vec<u64> = candidates
            .into_iter()
            .filter(|&near| near != node && self.alive[near as usize])
            .map(|near| rank(self.likeness(node, near), near))
            .collect();
        ranks.sort_unstable_by(|a, b| b.cmp(a));
        ranks.dedup();
        let chosen = self.choose(&ranks, self.graph.cap(level));
        self.graph.set_links(node, level, &chosen);
    }

    /// Before a node goes: those it is linked with both ways get each other instead. Its own links
    /// stay, since links that were one way still lead here.
    pub(super) fn bridge(&mut self, node: u32) {
        for level in 0..=self.graph.level(node) {
            let near = self.graph.links(node, level).to_vec();
            for &from in &near {
                let links = self.graph.links(from, level);
                if links.contains(&node) {
                    let rest = links.iter().chain(&near).copied().filter(|&to| to != node);
                    let candidates = rest.collect();
                    self.relink(from, level, candidates);
                }
            }
        }
    }
}
