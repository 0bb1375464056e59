//! The elements of a history that are most like a candidate, by inner product.
//!
//! A history's keys are transposed once for all candidates of a stretch, so that the products of a candidate with all elements are as many
//! sums side by side. The order of each sum is that of the width: a candidate finds the same alone and among others.

use crate::Pairs;
use crate::chunks::wide;
use rayon::prelude::*;
use std::ops::Range;

/// Candidates that share a transposed history on one thread.
const STRETCH: usize = 64;
/// Elements whose sums are made side by side.
const LANES: usize = 32;

/// Of each candidate's history the `k` elements with the greatest inner product with it, of equal ones the later, in their
/// order: offsets `[N + 1]` and elements. All of a history that is no longer than `k`.
///
/// `keys` is `[E, W]`, `targets` `[N, W]`.
pub(crate) fn nearest(
    pairs: &Pairs,
    (keys, targets): (&[f32], &[f32]),
    width: usize,
    k: usize,
) -> (Vec<u32>, Vec<u32>) {
    let n = pairs.candidates();
    let stretch = |first: usize| {
        let mut search = Search { keys, width, transposed: Vec::new(), held: 0..0, scores: Vec::new() };
        let candidates = first..(first + STRETCH).min(n);
        let (mut counts, mut found) = (Vec::with_capacity(candidates.len()), Vec::new());
        for candidate in candidates {
            let from = found.len();
            let target = &targets[candidate * width..][..width];
            search.best(pairs.elements_of(candidate), target, k, &mut found);
            counts.push((found.len() - from) as u32);
        }
        (counts, found)
    };
    let parts: Vec<_> = (0..n).into_par_iter().step_by(STRETCH).map(stretch).collect();
    let mut offsets = Vec::with_capacity(n + 1);
    offsets.push(0);
    let mut end = 0;
    for count in parts.iter().flat_map(|(counts, _)| counts) {
        end += count;
        offsets.push(end);
    }
    (offsets, parts.into_iter().flat_map(|(_, found)| found).collect())
}

struct Search<'a> {
    keys: &'a [f32],
    width: usize,
    /// `[W, L']` of the history held, L' a multiple of [`LANES`], zero where nothing is.
    transposed: Vec<f32>,
    held: Range<usize>,
    scores: Vec<f32>,
}

impl Search<'_> {
    fn best(&mut self, elements: Range<usize>, target: &[f32], k: usize, found: &mut Vec<u32>) {
        let n = elements.len();
        if n <= k {
            return found.extend(elements.map(|e| e as u32));
        }
        if k == 0 {
            return;
        }
        if self.held != elements {
            self.hold(elements.clone());
        }
        scores(target, &self.transposed, &mut self.scores);
        let order: Vec<i32> = self.scores[..n].iter().map(|s| place(*s)).collect();
        let mut sorted = order.clone();
        let (_, least, above) = sorted.select_nth_unstable(n - k);
        let least = *least;
        // What is among the k − 1 above may equal the least of the k.
        let wanted = 1 + above.iter().filter(|o| **o == least).count();
        let mut passed = order.iter().filter(|o| **o == least).count() - wanted;
        for (at, order) in order.iter().enumerate().filter(|(_, o)| **o >= least) {
            if *order == least && passed > 0 {
                passed -= 1;
            } else {
                found.push((elements.start + at) as u32);
            }
        }
    }

    fn hold(&mut self, elements: Range<usize>) {
        let (n, width) = (elements.len(), self.width);
        let padded = n.next_multiple_of(LANES);
        self.transposed.clear();
        self.transposed.resize(width * padded, 0.0);
        self.scores.resize(padded, 0.0);
        for (at, key) in self.keys[elements.start * width..].chunks_exact(width).take(n).enumerate() {
            for (w, value) in key.iter().enumerate() {
                self.transposed[w * padded + at] = *value;
            }
        }
        self.held = elements;
    }
}

/// A whole number in the order of the floats, as by `total_cmp`.
fn place(score: f32) -> i32 {
    let bits = score.to_bits().cast_signed();
    bits ^ ((bits >> 31) & i32::MAX)
}

wide! {
    /// `out[e] = Σ_w target[w] keys[w, e]` for keys `[W, out.len()]`.
    fn scores(target: &[f32], keys: &[f32], out: &mut [f32]) {
        let row = out.len();
        for (at, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let mut sums = [0.0f32; LANES];
            for (w, t) in target.iter().enumerate() {
                let keys = &keys[w * row + at * LANES..][..LANES];
                for lane in 0..LANES {
                    sums[lane] += t * keys[lane];
                }
            }
            *out = sums;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    /// Sorts all by falling product and rising age.
    fn naive(keys: &[f32], elements: Range<usize>, target: &[f32], k: usize) -> Vec<u32> {
        let w = target.len();
        let score = |e: usize| keys[e * w..][..w].iter().zip(target).fold(0.0f32, |sum, (a, b)| sum + b * a);
        let mut all: Vec<u32> = elements.map(|e| e as u32).collect();
        all.sort_by(|a, b| score(*b as usize).total_cmp(&score(*a as usize)).then(b.cmp(a)));
        all.truncate(k);
        all.sort_unstable();
        all
    }

    proptest! {
        #[test]
        fn a_search_finds_what_sorting_finds(
            lengths in prop::collection::vec(0usize..90, 1..4),
            each in 1usize..70, width in 1usize..9, k in 0usize..40, levels in 2u32..40, seed in any::<u64>(),
        ) {
            let mut state = seed | 1;
            // Few levels: many products are equal.
            let mut draw = || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                ((state >> 40) as u32 % levels) as f32 - 3.0
            };
            let mut offsets = vec![0u32];
            lengths.iter().for_each(|l| offsets.push(offsets[offsets.len() - 1] + *l as u32));
            let elements = offsets[offsets.len() - 1] as usize;
            let keys: Vec<f32> = (0..elements * width).map(|_| draw()).collect();
            let requests: Vec<u32> = (0..lengths.len() as u32).flat_map(|r| vec![r; each]).collect();
            let targets: Vec<f32> = (0..requests.len() * width).map(|_| draw()).collect();
            let pairs = Pairs::of(Arc::new(offsets), Arc::new(requests)).expect("pairs");
            let (offsets, found) = nearest(&pairs, (&keys, &targets), width, k);
            prop_assert_eq!(offsets.len(), pairs.candidates() + 1);
            for n in 0..pairs.candidates() {
                let own = &found[offsets[n] as usize..offsets[n + 1] as usize];
                prop_assert_eq!(own, &naive(&keys, pairs.elements_of(n), &targets[n * width..][..width], k)[..]);
            }
        }
    }

    #[test]
    fn places_keep_the_order_of_floats() {
        let order = [f32::NEG_INFINITY, -2.5, -0.0, 0.0, 1e-30, 1.0, f32::INFINITY, f32::NAN];
        assert!(order.map(place).is_sorted());
    }
}
