//! What a user did next, told from the state before it.

use super::Sequence;
use crate::loss::bce_with_logits;
use crate::pass::{Pass, mix};
use crate::tensor::Tensor;
use std::sync::Arc;

/// Draws before an element goes without a negative: where nearly all elements of a batch are of one item.
const TRIES: u64 = 8;

/// Elements that have a next one in their history, and for each of those an element of the batch whose item is another.
struct Drawn {
    from: Vec<u32>,
    next: Vec<u32>,
    other: Vec<u32>,
}

impl Drawn {
    /// Elements of the batch are drawn uniformly, so items by how often they are acted on. Depends on the pass's seed alone.
    fn new(pass: &Pass, x: &Sequence, different: impl Fn(usize, usize) -> bool) -> Self {
        let (seed, elements) = (pass.draw(), x.keys.elements() as u64);
        let mut drawn = Self { from: Vec::new(), next: Vec::new(), other: Vec::new() };
        for span in (0..x.keys.rows()).map(|r| x.keys.span(r)) {
            for next in span.skip(1) {
                let pick = |t: u64| (mix(seed ^ mix(next as u64 * TRIES + t)) % elements) as usize;
                if let Some(other) = (0..TRIES).map(pick).find(|other| different(next, *other)) {
                    drawn.from.push(next as u32 - 1);
                    drawn.next.push(next as u32);
                    drawn.other.push(other as u32);
                }
            }
        }
        drawn
    }
}

impl Sequence {
    /// The auxiliary loss of the deep interest evolution network (Zhou et al., AAAI 2019, eq. 6): with s_e `[M, W]` the state after element
    /// e, the mean over the elements that have a next one in their history of −log σ⟨s_e, v_{e+1}⟩ − log(1 − σ⟨s_e, v'⟩), v' being v_{e+1}
    /// with the item of another element of the batch. `None` where there is none, or the items are not known.
    ///
    /// Only elements of the histories are looked at, never a candidate. Unlike the paper's, which sums over a history, it is a mean, as in
    /// the authors' code; gap and strength are those of the next action on both sides, so that only the item tells them apart.
    ///
    /// # Panics
    /// If the states are not as wide as the elements.
    pub fn next_action_loss(&self, pass: &Pass, states: &Tensor) -> Option<Tensor> {
        let items = self.items.as_ref()?;
        let drawn = Drawn::new(pass, self, |a, b| !items.same(a, b));
        if drawn.from.is_empty() {
            return None;
        }
        let [from, next, other] = [drawn.from, drawn.next, drawn.other].map(Arc::new);
        let states = states.gather(&from); // [E, W]
        let likely = states.dot_rows(&self.values().gather(&next)); // [E, 1]
        // ⟨s, v'⟩ = ⟨s, v⟩ + ⟨s, i' − i⟩, where the item's columns come first.
        let change = items.values.gather(&other).sub(&items.values.gather(&next)); // [E, K]
        let unlikely = likely.add(&states.slice(0, change.width()).dot_rows(&change));
        let rows = likely.rows();
        let labels: Vec<f32> = (0..2 * rows).map(|i| if i < rows { 1.0 } else { 0.0 }).collect();
        Some(bce_with_logits(&Tensor::stack_rows(&[&likely, &unlikely]), &labels, &[]).scale(2.0))
    }
}
