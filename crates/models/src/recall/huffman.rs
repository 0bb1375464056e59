//! Huffman's tree over words by frequency (1952): the shorter a word's path, the more often it occurs.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Paths from the root to each word.
#[derive(Debug, Clone, Default)]
pub(crate) struct Huffman {
    /// `[V + 1]`.
    ends: Vec<u32>,
    /// (inner node, 1 where the path turns left, else 0).
    steps: Vec<(u32, f32)>,
}

impl Huffman {
    /// A tree of V words has V − 1 inner nodes; the root is the last.
    pub(crate) fn new(counts: &[u64]) -> Self {
        let words = counts.len();
        let mut heap: BinaryHeap<Reverse<(u64, usize)>> =
            counts.iter().enumerate().map(|(w, &n)| Reverse((n, w))).collect();
        // (parent, whether it is its left child) of each word and inner node.
        let mut above: Vec<(usize, bool)> = vec![(usize::MAX, false); (2 * words).saturating_sub(1)];
        let mut next = words;
        while let (Some(Reverse(a)), Some(Reverse(b))) = (heap.pop(), heap.pop()) {
            above[a.1] = (next, true);
            above[b.1] = (next, false);
            heap.push(Reverse((a.0 + b.0, next)));
            next += 1;
            if heap.len() == 1 {
                break;
            }
        }
        let (mut ends, mut steps) = (vec![0u32], Vec::new());
        for word in 0..words {
            let (from, mut node) = (steps.len(), word);
            while above[node].0 != usize::MAX {
                let (parent, left) = above[node];
                steps.push(((parent - words) as u32, if left { 1.0 } else { 0.0 }));
                node = parent;
            }
            steps[from..].reverse();
            ends.push(steps.len() as u32);
        }
        Self { ends, steps }
    }

    /// The inner nodes from the root to the word, and the turns.
    pub(crate) fn path(&self, word: u32) -> &[(u32, f32)] {
        &self.steps[self.ends[word as usize] as usize..self.ends[word as usize + 1] as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_best_code() {
        // Huffman's lengths for these counts are 1, 2, 3, 4, 4.
        let tree = Huffman::new(&[40, 20, 10, 5, 4]);
        let lengths: Vec<usize> = (0..5).map(|w| tree.path(w).len()).collect();
        assert_eq!(lengths, [1, 2, 3, 4, 4]);
        let turns: Vec<Vec<bool>> =
            (0..5).map(|w| tree.path(w).iter().map(|s| s.1 > 0.5).collect()).collect();
        for (i, a) in turns.iter().enumerate() {
            assert!(turns.iter().enumerate().all(|(j, b)| i == j || !b.starts_with(a)), "a prefix code");
        }
        assert!((0..5).all(|w| tree.path(w)[0].0 == 3), "all begin at the root");
        assert!((0..5).flat_map(|w| tree.path(w)).all(|s| s.0 < 4));
    }

    #[test]
    fn one_word_and_none_have_no_paths() {
        assert!(Huffman::new(&[3]).path(0).is_empty());
        Huffman::new(&[]);
    }
}
