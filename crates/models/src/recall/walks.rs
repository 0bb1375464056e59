//! Second-order random walks over a weighted graph (Grover and Leskovec, KDD 2016).
//!
//! Having come from t to v, the next node x is drawn by α(t, x) · w_vx: α is 1/p for x = t, 1 where x is joined to t, else 1/q. Tables for
//! all pairs (t, v) would take Σ_v deg(v)² places; x is drawn by w_vx instead, from an alias table per node, and taken with a
//! chance of α over its highest value (rejection, as in Yang et al., "KnightKing", SOSP 2019). The edge back, where 1/p is higher than
//! both others, gets what lies above them from a part of its own, so that it does not lower all chances. After `TRIES`
//! rejections the step is drawn from the exact weights. Whichever way, its distribution is that of the formula.

use crate::recall::draws::{Alias, Draws};
use crate::recall::graph::Graph;

/// Draws of one step before the exact weights are summed.
const TRIES: usize = 64;

/// Walks over one graph, with its alias tables: 8 bytes per end of an edge, none where all weights are 1.
pub(crate) struct Walker<'a> {
    graph: &'a Graph,
    slots: Vec<(f32, u32)>,
    /// Sum of the weights at each node.
    total: Vec<f32>,
    /// 1/p.
    back: f32,
    /// 1/q.
    out: f32,
}

impl<'a> Walker<'a> {
    pub(crate) fn new(graph: &'a Graph, p: f32, q: f32) -> Self {
        let mut slots = Vec::new();
        for node in (0..graph.nodes() as u32).filter(|_| !graph.is_even()) {
            let weights: Vec<f64> =
                graph.weights(node).unwrap_or(&[]).iter().map(|&w| f64::from(w)).collect();
            if !weights.is_empty() {
                slots.extend(Alias::new(&weights).into_slots());
            }
        }
        let total = (0..graph.nodes() as u32).map(|node| graph.degree(node) as f32).collect();
        Self { graph, slots, total, back: 1.0 / p, out: 1.0 / q }
    }

    /// Fills `out` with the nodes of a walk from `start` that `counts` lets through; `start` must have a neighbour, and `out` a place.
    pub(crate) fn walk(&self, start: u32, draws: &mut Draws, out: &mut [u32], counts: impl Fn(u32) -> bool) {
        let (mut before, mut at) = (None, start);
        let mut places = out.iter_mut();
        loop {
            if counts(at) {
                let Some(place) = places.next() else { return };
                *place = at;
            }
            if places.len() == 0 {
                return;
            }
            let next = match before {
                None => self.by_weight(at, draws),
                Some(before) => self.step(before, at, draws),
            };
            (before, at) = (Some(at), next);
        }
    }

    /// A neighbour, by weight alone.
    #[inline(always)]
    fn by_weight(&self, node: u32, draws: &mut Draws) -> u32 {
        let near = self.graph.of(node);
        let start = self.graph.start(node);
        let place = match self.slots.get(start..start + near.len()) {
            Some(slots) => Alias::draw_from(slots, draws) as usize,
            None => draws.below(near.len()),
        };
        near[place]
    }

    /// The step after `before` → `node`.
    pub(crate) fn step(&self, before: u32, node: u32, draws: &mut Draws) -> u32 {
        if self.back == 1.0 && self.out == 1.0 {
            return self.by_weight(node, draws);
        }
        let high = self.out.max(1.0);
        let low = self.back.min(self.out).min(1.0);
        let board = self.total[node as usize] * high;
        let above = if self.back > high { self.weight_to(node, before) * (self.back - high) } else { 0.0 };
        for _ in 0..TRIES {
            if above > 0.0 && draws.unit() * (board + above) >= board {
                return before;
            }
            let next = self.by_weight(node, draws);
            let height = draws.unit() * high;
            if height < low || height < self.bias(before, next) {
                return next;
            }
        }
        self.exact(before, node, draws)
    }

    /// α.
    #[inline(always)]
    fn bias(&self, before: u32, next: u32) -> f32 {
        match next == before {
            true => self.back,
            false if self.graph.of(before).binary_search(&next).is_ok() => 1.0,
            false => self.out,
        }
    }

    fn weight_to(&self, node: u32, other: u32) -> f32 {
        self.graph.of(node).binary_search(&other).map_or(0.0, |place| self.graph.weight(node, place))
    }

    #[cold]
    fn exact(&self, before: u32, node: u32, draws: &mut Draws) -> u32 {
        let near = self.graph.of(node);
        let weights: Vec<f64> = (0..near.len())
            .map(|at| f64::from(self.graph.weight(node, at)) * f64::from(self.bias(before, near[at])))
            .collect();
        let mut left = f64::from(draws.unit()) * weights.iter().sum::<f64>();
        for (&next, weight) in near.iter().zip(&weights) {
            left -= weight;
            if left < 0.0 {
                return next;
            }
        }
        // Rounding used up the last one's share.
        near[near.len() - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kite with a tail: 0–1–2 a triangle, 2–3, 3–4, 0–5, of uneven weights.
    fn kite() -> Graph {
        let edges =
            vec![(0, 1, 1.0), (0, 2, 3.0), (1, 2, 0.5), (2, 3, 2.0), (3, 4, 1.5), (0, 5, 0.25), (1, 4, 1.0)];
        Graph::new(6, edges, f32::max)
    }

    /// The formula.
    fn exact(graph: &Graph, before: u32, node: u32, (p, q): (f64, f64)) -> Vec<f64> {
        let near = graph.of(node);
        let raw: Vec<f64> = (0..near.len())
            .map(|at| {
                let weight = f64::from(graph.weight(node, at));
                match near[at] {
                    x if x == before => weight / p,
                    x if graph.of(before).contains(&x) => weight,
                    _ => weight / q,
                }
            })
            .collect();
        let total: f64 = raw.iter().sum();
        raw.iter().map(|w| w / total).collect()
    }

    #[test]
    fn steps_are_taken_by_the_exact_chances() {
        let graph = kite();
        let steps = 60_000;
        for (p, q) in [(1.0, 1.0), (4.0, 0.5), (0.25, 2.0), (0.05, 4.0), (100.0, 30.0), (3.0, 200.0)] {
            let walker = Walker::new(&graph, p as f32, q as f32);
            for node in 0..6u32 {
                for &before in graph.of(node) {
                    let want = exact(&graph, before, node, (p, q));
                    let mut draws = Draws::new(5, u64::from(node * 6 + before));
                    let mut counts = vec![0u32; want.len()];
                    for _ in 0..steps {
                        let next = walker.step(before, node, &mut draws);
                        counts[graph.of(node).binary_search(&next).unwrap()] += 1;
                    }
                    // χ² of up to 3 degrees of freedom: 27 has a chance of 6·10⁻⁶.
                    let square = |(n, share): (&u32, &f64)| {
                        let mean = share * f64::from(steps);
                        (f64::from(*n) - mean).powi(2) / mean
                    };
                    let chi: f64 = counts.iter().zip(&want).map(square).sum();
                    assert!(chi < 27.0, "p {p} q {q}: {before} → {node}: {counts:?} but {want:?}");
                }
            }
        }
    }

    #[test]
    fn first_steps_go_by_weight_and_walks_follow_edges() {
        let graph = kite();
        let walker = Walker::new(&graph, 0.5, 2.0);
        let mut firsts = [0u32; 6];
        for n in 0..40_000 {
            let mut walk = [9; 5];
            walker.walk(0, &mut Draws::new(1, n), &mut walk, |_| true);
            assert_eq!(walk[0], 0);
            assert!(walk.windows(2).all(|s| graph.of(s[0]).contains(&s[1])), "{walk:?}");
            firsts[walk[1] as usize] += 1;
        }
        for (count, weight) in firsts.iter().zip([0.0, 1.0, 3.0, 0.0, 0.0, 0.25]) {
            assert!((f64::from(*count) - weight / 4.25 * 40_000.0).abs() < 400.0, "{firsts:?}");
        }
        let mut odd = [9; 4];
        walker.walk(0, &mut Draws::new(1, 1), &mut odd, |n| n % 2 == 1);
        assert!(odd.iter().all(|n| n % 2 == 1), "{odd:?}");
    }

    #[test]
    fn a_huge_p_turns_back_at_dead_ends_alone_and_q_chooses_in_or_out() {
        let graph = kite();
        let mut draws = Draws::new(3, 3);
        let never_back = Walker::new(&graph, 1e30, 1.0);
        for _ in 0..2000 {
            assert_ne!(never_back.step(0, 2, &mut draws), 0);
            assert_eq!(never_back.step(0, 5, &mut draws), 0, "there is nowhere else to go");
        }
        // From 0 to 2: 1 is joined to 0, 3 is not.
        let count = |q: f32, draws: &mut Draws| {
            let walker = Walker::new(&graph, 1e30, q);
            (0..2000).filter(|_| walker.step(0, 2, draws) == 3).count()
        };
        assert!(count(1e-6, &mut draws) == 2000, "a small q goes out");
        assert!(count(1e6, &mut draws) <= 5, "a big one stays in");
        let back = Walker::new(&graph, 1e-6, 1.0);
        assert!((0..2000).filter(|_| back.step(0, 2, &mut draws) == 0).count() >= 1995);
    }
}
