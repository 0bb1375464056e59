use super::arena::Arena;
use crate::index::Metric;

/// One over the length of each node's vector, by node: links are told apart by direction, or items with long
/// vectors would swallow them all. 1 under [`Metric::Cosine`], whose vectors have length 1 already.
#[derive(Debug, Clone, Default)]
pub(super) struct Lengths(Vec<f32>);

impl Lengths {
    /// Those of an arena's nodes.
    pub(super) fn of(arena: &Arena) -> Self {
        let mut lengths = Self::default();
        lengths.note(arena);
        lengths
    }

    /// Notes the vectors of nodes that were added to the arena.
    pub(super) fn note(&mut self, arena: &Arena) {
        let inverse = |node: u32| match arena.metric {
            Metric::Cosine => 1.0,
            // A length that is no number above 0 has no direction either.
            Metric::InnerProduct => {
                Some(arena.rows.pair(node, node).sqrt().recip()).filter(|x| x.is_finite()).unwrap_or(0.0)
            }
        };
        self.0.extend((self.0.len() as u32..arena.len() as u32).map(inverse));
    }

    /// One over the product of two lengths.
    #[inline]
    pub(super) fn inverse(&self, a: u32, b: u32) -> f32 {
        self.0[a as usize] * self.0[b as usize]
    }
}
