//! Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): takes, one after the other,
//!
//! ```text
//! argmax_i  λ · score_i − (1 − λ) · max_{j already taken} sim(i, j)
//! ```
//! among the top `window`, until the page is full; the rest follows in order of score. Scores are brought to
//! [0, 1] within the window. sim is the cosine of the item vectors where both have one; otherwise ½ for
//! the same category plus ½ for the same author. O(window · n · D): the maximum is carried along.

use serde::Deserialize;

use crate::Error;
use crate::catalogue::Snapshot;
use crate::rule::{Entry, Rule, RuleCall, RuleDef, options};

/// Entry of the list of rules.
pub const DEF: RuleDef = RuleDef { name: "mmr", by_author: false, build };

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    /// λ: 1 is relevance alone, 0 diversity alone.
    lambda: f32,
    /// Entries considered.
    window: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { lambda: 0.8, window: 100 }
    }
}

struct Mmr(Options);

fn build(table: &toml::Table) -> Result<Box<dyn Rule>, Error> {
    let options: Options = options(table, DEF.name)?;
    if !(0.0..=1.0).contains(&options.lambda) {
        return Err(Error::Config("options of rule `mmr`: key `lambda` must be between 0 and 1".into()));
    }
    Ok(Box::new(Mmr(options)))
}

impl Rule for Mmr {
    fn apply(&self, x: &RuleCall<'_>, slate: &mut Vec<Entry>) -> Result<(), Error> {
        let finite = slate.iter().take_while(|e| e.score.is_finite()).count();
        let window = &mut slate[..finite.min(self.0.window.max(x.n))];
        // The result depends on what is in the window, not on its order.
        window.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.merged.cmp(&b.merged)));
        let items: Vec<u32> = window.iter().map(|e| e.item).collect();
        let likeness = Likeness::new(x, &items);
        let order = greedy(&relevance(window), x.n, self.0.lambda, |i, j| likeness.of(i, j));
        let sorted = window.to_vec();
        for (to, from) in order.into_iter().enumerate() {
            window[to] = sorted[from];
        }
        Ok(())
    }
}

/// Scores brought to [0, 1]; all 1 when they are equal.
fn relevance(window: &[Entry]) -> Vec<f32> {
    let high = window.iter().map(|e| e.score).fold(f32::NEG_INFINITY, f32::max);
    let low = window.iter().map(|e| e.score).fold(f32::INFINITY, f32::min);
    let width = high - low;
    window.iter().map(|e| if width > 0.0 { (e.score - low) / width } else { 1.0 }).collect()
}

/// Places in order of being taken: `n` greedily, then the rest as they stand. Ties go to the earlier place.
fn greedy(relevance: &[f32], n: usize, lambda: f32, likeness: impl Fn(usize, usize) -> f32) -> Vec<usize> {
    let mut left: Vec<usize> = (0..relevance.len()).collect();
    // Nothing taken yet: no penalty.
    let mut nearest = vec![f32::NEG_INFINITY; relevance.len()];
    let mut order = Vec::with_capacity(relevance.len());
    while order.len() < n.min(relevance.len()) {
        let value = |i: usize| {
            let penalty = if order.is_empty() { 0.0 } else { nearest[i] };
            lambda * relevance[i] - (1.0 - lambda) * penalty
        };
        let mut best = 0;
        for at in 1..left.len() {
            if value(left[at]) > value(left[best]) {
                best = at;
            }
        }
        let taken = left.remove(best);
        order.push(taken);
        for &i in &left {
            nearest[i] = nearest[i].max(likeness(i, taken));
        }
    }
    order.append(&mut left);
    order
}

/// Similarity of the entries of one window.
struct Likeness<'a> {
    catalogue: &'a Snapshot,
    items: &'a [u32],
    dim: usize,
    /// `[window, D]` of unit length, zeros where there is no vector.
    units: Vec<f32>,
    has: Vec<bool>,
}

impl<'a> Likeness<'a> {
    fn new(x: &RuleCall<'a>, items: &'a [u32]) -> Self {
        let dim = x.vectors.map_or(0, |v| v.dim());
        let mut units = vec![0f32; items.len() * dim];
        let mut has = vec![false; items.len()];
        if let Some(vectors) = x.vectors.filter(|_| dim > 0) {
            for (at, out) in units.chunks_exact_mut(dim).enumerate() {
                has[at] = vectors.copy(items[at], out) && normalise(out);
            }
        }
        Self { catalogue: &x.call.catalogue, items, dim, units, has }
    }

    fn of(&self, i: usize, j: usize) -> f32 {
        if self.has[i] && self.has[j] {
            let row = |at: usize| &self.units[at * self.dim..(at + 1) * self.dim];
            return row(i).iter().zip(row(j)).map(|(a, b)| a * b).sum();
        }
        let same = |a: u32, b: u32| if a != 0 && a == b { 0.5 } else { 0.0 };
        let (a, b) = (self.items[i], self.items[j]);
        let catalogue = self.catalogue;
        same(catalogue.category(a), catalogue.category(b)) + same(catalogue.author(a), catalogue.author(b))
    }
}

/// Scales to unit length; false for a vector that has none.
fn normalise(vector: &mut [f32]) -> bool {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    let fine = length.is_finite() && length > 0.0;
    if fine {
        vector.iter_mut().for_each(|x| *x /= length);
    }
    fine
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The formula as it stands, the maximum computed anew each time.
    fn naive(relevance: &[f32], n: usize, lambda: f32, sim: &dyn Fn(usize, usize) -> f32) -> Vec<usize> {
        let mut taken: Vec<usize> = Vec::new();
        while taken.len() < n.min(relevance.len()) {
            let value = |i: usize| {
                let most = taken.iter().map(|&j| sim(i, j)).fold(f32::NEG_INFINITY, f32::max);
                lambda * relevance[i] - (1.0 - lambda) * if taken.is_empty() { 0.0 } else { most }
            };
            let left = (0..relevance.len()).filter(|i| !taken.contains(i));
            let best = left.fold(None, |best: Option<usize>, i| match best {
                Some(b) if value(b) >= value(i) => Some(b),
                _ => Some(i),
            });
            taken.extend(best);
        }
        let rest: Vec<usize> = (0..relevance.len()).filter(|i| !taken.contains(i)).collect();
        taken.extend(rest);
        taken
    }

    #[test]
    fn the_greedy_order_is_that_of_the_formula() {
        let noise = |i: usize| ((i * 2_654_435_761) % 1000) as f32 / 1000.0;
        for seed in 0..20 {
            let relevance: Vec<f32> = (0..40).map(|i| noise(i * 31 + seed)).collect();
            let sim = |i: usize, j: usize| noise(i.min(j) * 101 + i.max(j) * 7 + seed) * 2.0 - 1.0;
            for lambda in [0.0, 0.3, 0.8, 1.0] {
                assert_eq!(greedy(&relevance, 15, lambda, sim), naive(&relevance, 15, lambda, &sim));
            }
        }
    }

    #[test]
    fn relevance_alone_leaves_the_order_and_twins_are_parted() {
        let relevance = [1.0, 0.9, 0.8, 0.0];
        let twins = |i: usize, j: usize| if i + j == 1 { 1.0 } else { 0.0 };
        assert_eq!(greedy(&relevance, 4, 1.0, twins), [0, 1, 2, 3]);
        assert_eq!(greedy(&relevance, 4, 0.7, twins), [0, 2, 1, 3]);
        assert!(greedy(&[], 3, 0.5, twins).is_empty());
    }
}
