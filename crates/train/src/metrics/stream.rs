//! AUC and means of a stream: fixed memory, mergeable, over everything or over a sliding window.
//!
//! Progressive validation (score a row, push it here, then learn from it) uses [`WindowAuc`] and [`WindowMean`].
//!
//! ```
//! use millstream_train::metrics::{Bins, StreamAuc, WindowAuc, WindowMean};
//!
//! let mut all = StreamAuc::new(Bins::default()); // logits
//! let mut recent = WindowAuc::new(Bins::default(), 10_000, 10);
//! let mut loss = WindowMean::new(10_000, 10);
//! for (logit, label) in [(2.0, 1.0), (-1.0, 0.0), (0.5, 0.0)] {
//!     all.push(logit, label, 1.0);
//!     recent.push(logit, label, 1.0);
//!     loss.push(0.3, 1.0);
//! }
//! assert_eq!(all.value(), Some(1.0));
//! assert_eq!(recent.value(), Some(1.0));
//! assert!((loss.value().unwrap() - 0.3).abs() < 1e-12);
//! ```

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Bins, StreamAuc};

/// AUC over the latest examples of a stream: a ring of histograms, the oldest of which is dropped as a whole.
///
/// Covers the latest `window` examples less at most a `parts`-th of them; before so many came, all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WindowAuc {
    ring: Ring<StreamAuc>,
    bins: Bins,
}

impl WindowAuc {
    /// Over the latest `window` examples, dropped in `parts` steps; each of both is at least 1.
    pub fn new(bins: Bins, window: u64, parts: usize) -> Self {
        Self { ring: Ring::new(StreamAuc::new(bins), window, parts), bins }
    }

    /// Adds the next example; see [`StreamAuc::push`].
    pub fn push(&mut self, score: f32, label: f32, weight: f32) {
        let bins = self.bins;
        self.ring.newest(|| StreamAuc::new(bins)).push(score, label, weight);
    }

    /// Adds the window of a stream that ran beside this one, newest part to newest part.
    ///
    /// # Panics
    /// When bins or lengths differ: both come from the caller's own code.
    pub fn merge(&mut self, other: &Self) {
        let bins = self.bins;
        self.ring.merge(&other.ring, || StreamAuc::new(bins), StreamAuc::merge);
    }

    /// The window as one histogram.
    pub fn whole(&self) -> StreamAuc {
        let mut whole = StreamAuc::new(self.bins);
        self.ring.parts.iter().for_each(|part| whole.merge(part));
        whole
    }

    /// In [0, 1]; `None` when one class is missing in the window.
    pub fn value(&self) -> Option<f64> {
        self.whole().value()
    }

    /// What [`Self::value`] may be off, at most.
    pub fn error_bound(&self) -> Option<f64> {
        self.whole().error_bound()
    }
}

/// Weighted mean over the latest values of a stream, such as the loss of each row before learning from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WindowMean {
    /// Σ weight · value and Σ weight.
    ring: Ring<(f64, f64)>,
}

impl WindowMean {
    /// Over the latest `window` values, dropped in `parts` steps; each of both is at least 1.
    pub fn new(window: u64, parts: usize) -> Self {
        Self { ring: Ring::new((0.0, 0.0), window, parts) }
    }

    /// Adds the next value.
    pub fn push(&mut self, value: f64, weight: f64) {
        let part = self.ring.newest(|| (0.0, 0.0));
        part.0 += weight * value;
        part.1 += weight;
    }

    /// Adds the window of a stream that ran beside this one, newest part to newest part.
    ///
    /// # Panics
    /// When lengths differ: both come from the caller's own code.
    pub fn merge(&mut self, other: &Self) {
        self.ring.merge(&other.ring, || (0.0, 0.0), |a, b| *a = (a.0 + b.0, a.1 + b.1));
    }

    /// The mean; `None` without weight. Parts are summed from the oldest on.
    pub fn value(&self) -> Option<f64> {
        let (sum, weight) = self.ring.parts.iter().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        (weight > 0.0).then(|| sum / weight).filter(|mean| mean.is_finite())
    }
}

/// The latest parts, oldest first, each of up to `length` examples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Ring<T> {
    parts: VecDeque<T>,
    most: usize,
    length: u64,
    /// Examples in the newest part.
    filled: u64,
}

impl<T> Ring<T> {
    fn new(empty: T, window: u64, parts: usize) -> Self {
        let most = parts.max(1);
        let length = window.div_ceil(most as u64).max(1);
        Self { parts: VecDeque::from([empty]), most, length, filled: 0 }
    }

    /// The part that takes the next example.
    fn newest(&mut self, empty: impl Fn() -> T) -> &mut T {
        if self.filled == self.length || self.parts.is_empty() {
            if self.parts.len() == self.most {
                self.parts.pop_front();
            }
            self.parts.push_back(empty());
            self.filled = 0;
        }
        self.filled += 1;
        let last = self.parts.len() - 1;
        &mut self.parts[last]
    }

    fn merge(&mut self, other: &Self, empty: impl Fn() -> T, add: impl Fn(&mut T, &T)) {
        assert!(self.most == other.most && self.length == other.length, "windows of different lengths");
        while self.parts.len() < other.parts.len() {
            self.parts.push_front(empty());
        }
        self.parts.iter_mut().rev().zip(other.parts.iter().rev()).for_each(|(a, b)| add(a, b));
        self.filled = self.filled.max(other.filled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{auc, test_numbers};

    fn rows(seed: u64, n: usize) -> Vec<(f32, f32, f32)> {
        let mut next = test_numbers(seed);
        let row = |_| {
            let label = f32::from(u8::from(next() < 0.2));
            let noise: f64 = (0..4).map(|_| next() - 0.5).sum();
            (label + 3.0 * noise as f32 - 1.5, label, (1.0 + 3.0 * next()).floor() as f32)
        };
        (0..n).map(row).collect()
    }

    fn exact(rows: &[(f32, f32, f32)]) -> f64 {
        let part = |pick: fn(&(f32, f32, f32)) -> f32| rows.iter().map(pick).collect::<Vec<f32>>();
        auc::weighted(&part(|r| r.0), &part(|r| r.1), &part(|r| r.2)).value.unwrap()
    }

    #[test]
    fn it_is_within_its_stated_bound_of_the_exact_auc_and_finer_bins_are_nearer() {
        for seed in 0..5 {
            let rows = rows(seed, 5_000);
            let bounds = [8, 64, 4096].map(|bins| {
                let mut auc = StreamAuc::new(Bins::Logit { bins, limit: 8.0 });
                rows.iter().for_each(|&(s, y, w)| auc.push(s, y, w));
                let (off, bound) = ((auc.value().unwrap() - exact(&rows)).abs(), auc.error_bound().unwrap());
                assert!(off <= bound + 1e-12, "{off} > {bound}");
                bound
            });
            assert!(bounds[0] > bounds[1] && bounds[1] > bounds[2] && bounds[2] < 1e-3, "{bounds:?}");
        }
    }

    #[test]
    fn the_bound_is_reached_when_a_bin_hides_the_order() {
        let mut auc = StreamAuc::new(Bins::Probability(1));
        [(0.9, 1.0), (0.1, 0.0)].iter().for_each(|&(s, y)| auc.push(s, y, 1.0));
        assert_eq!((auc.value(), auc.error_bound()), (Some(0.5), Some(0.5)));
    }

    #[test]
    fn parts_merged_in_any_order_equal_one_pass_bit_for_bit() {
        let rows = rows(9, 4_000);
        let empty = || StreamAuc::new(Bins::default());
        let mut whole = empty();
        rows.iter().for_each(|&(s, y, w)| whole.push(s, y, w));
        let parts: Vec<StreamAuc> = std::thread::scope(|scope| {
            let threads: Vec<_> = rows
                .chunks(701)
                .map(|chunk| {
                    scope.spawn(move || {
                        let mut part = empty();
                        chunk.iter().for_each(|&(s, y, w)| part.push(s, y, w));
                        part
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let mut merged = empty();
        parts.iter().rev().for_each(|part| merged.merge(part));
        assert_eq!(whole, merged);
    }

    #[test]
    fn a_window_holds_the_latest_examples_and_no_others() {
        let rows = rows(3, 3_000);
        let mut window = WindowAuc::new(Bins::default(), 1_000, 10);
        for (i, &(s, y, w)) in rows.iter().enumerate() {
            window.push(s, y, w);
            if (i + 1) % 370 == 0 {
                // Nine full parts and what the tenth has so far.
                let covered = (i + 1).min(900 + i % 100 + 1);
                let mut naive = StreamAuc::new(Bins::default());
                rows[i + 1 - covered..=i].iter().for_each(|&(s, y, w)| naive.push(s, y, w));
                assert_eq!(window.whole(), naive, "after {} examples", i + 1);
            }
        }
    }

    #[test]
    fn windows_of_parallel_streams_add_up() {
        let (a, b) = (rows(1, 250), rows(2, 250));
        let fill = |rows: &[(f32, f32, f32)]| {
            let mut window = WindowAuc::new(Bins::default(), 100, 4);
            rows.iter().for_each(|&(s, y, w)| window.push(s, y, w));
            window
        };
        let mut both = fill(&a);
        both.merge(&fill(&b));
        let mut naive = fill(&a).whole();
        naive.merge(&fill(&b).whole());
        assert_eq!(both.whole(), naive);
        assert!((both.value().unwrap() - naive.value().unwrap()).abs() < 1e-15);
    }

    #[test]
    fn a_window_mean_forgets() {
        let mut mean = WindowMean::new(4, 2);
        assert_eq!(mean.value(), None);
        (1..=6).for_each(|i| mean.push(f64::from(i), 1.0));
        assert_eq!(mean.value(), Some(4.5));
        let mut other = WindowMean::new(4, 2);
        other.push(0.0, 4.0);
        mean.merge(&other);
        assert_eq!(mean.value(), Some(18.0 / 8.0));
    }

    #[test]
    fn without_examples_there_is_no_figure() {
        let none = StreamAuc::new(Bins::default());
        assert_eq!((none.value(), none.error_bound()), (None, None));
    }
}
