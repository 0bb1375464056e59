use super::arena::Arena;
use crate::index::Metric;

/// By how much the sphere's squared radius exceeds that of a vector it had to grow for.
const MARGIN: f32 = 1.05;

/// One more coordinate per vector, `√(max|x|² - |x|²)`, that puts all on one sphere, where the largest
/// inner product with a query (whose own lift is 0) is the nearest neighbour. Links are chosen on that
/// sphere, so items with long vectors do not swallow them all (Bachrach et al., RecSys 2014).
#[derive(Debug, Clone, Default)]
pub(super) struct Lift {
    squares: Vec<f32>,
    /// By node.
    pub(super) lifts: Vec<f32>,
    max: f32,
}

impl Lift {
    /// For a graph of no node yet whose vectors' squares go up to `max`; more may come.
    pub(super) fn up_to(max: f32) -> Self {
        Self { max, ..Self::default() }
    }

    /// The largest square so far, of nodes that are gone as well: they shaped the sphere.
    pub(super) fn max(&self) -> f32 {
        self.max
    }

    #[inline]
    pub(super) fn of(&self, node: u32) -> f32 {
        self.lifts[node as usize]
    }

    /// Notes the vectors of nodes that were added to the arena.
    pub(super) fn note(&mut self, arena: &Arena) {
        let start = self.squares.len();
        if arena.metric == Metric::Cosine {
            // All are on one sphere already, but for rounding and zeros.
            self.squares.resize(arena.len(), 0.0);
            self.lifts.resize(arena.len(), 0.0);
            return;
        }
        self.squares.extend((start as u32..arena.len() as u32).map(|node| arena.rows.pair(node, node)));
        let max = self.squares[start..].iter().copied().filter(|x| x.is_finite()).fold(0.0, f32::max);
        let mut from = start;
        if max > self.max {
            // With some room, so that it does not grow again with every vector that is a little longer.
            (self.max, from) = ((max * MARGIN).min(f32::MAX), 0);
        }
        self.lifts.truncate(from);
        self.lifts.extend(self.squares[from..].iter().map(|square| (self.max - square).max(0.0).sqrt()));
    }
}
