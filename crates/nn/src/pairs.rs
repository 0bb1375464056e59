//! Which candidates look at which elements: N candidates over R histories, several of which may share one.

use crate::error::{Error, Result};
use crate::ragged::Ragged;
use std::ops::Range;
use std::sync::Arc;

/// Pairs of a task that runs on one thread.
const TASK: usize = 1024;
/// Most tasks: each may keep sums of its own.
const TASKS: usize = 64;

/// P pairs (candidate, element of its history), ordered by candidate, then by element.
///
/// Nothing is stored per pair. Candidates come in the order of their requests, as the candidates of a batch do.
#[derive(Debug, Clone)]
pub struct Pairs {
    /// `[R + 1]`: elements of each history.
    history: Arc<Vec<u32>>,
    /// `[N]`, rising.
    request: Arc<Vec<u32>>,
    /// `[N + 1]`: pairs of each candidate.
    offsets: Arc<Vec<usize>>,
}

/// A stretch of candidates with all that belongs to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) candidates: Range<usize>,
    pub(crate) pairs: Range<usize>,
    /// Elements that no other task has; only of tasks that were cut between requests.
    pub(crate) elements: Range<usize>,
}

impl Pairs {
    /// Candidate n looks at the history of request `request[n]`.
    ///
    /// # Errors
    /// Requests that do not rise, or of which there is no history.
    pub fn new(histories: &Ragged, request: Arc<Vec<u32>>) -> Result<Self> {
        Self::of(histories.offsets().clone(), request)
    }

    /// As [`Pairs::new`], from the histories' offsets `[R + 1]`.
    ///
    /// # Errors
    /// As [`Pairs::new`].
    pub(crate) fn of(history: Arc<Vec<u32>>, request: Arc<Vec<u32>>) -> Result<Self> {
        let rows = history.len().saturating_sub(1);
        if !request.is_sorted() || request.last().is_some_and(|r| *r as usize >= rows) {
            return Err(Error::Batch(format!(
                "candidates must stand in the order of their requests, of which there are {rows}"
            )));
        }
        let mut offsets = Vec::with_capacity(request.len() + 1);
        offsets.push(0);
        let mut end = 0;
        for &r in request.iter() {
            end += (history[r as usize + 1] - history[r as usize]) as usize;
            offsets.push(end);
        }
        Ok(Self { history, request, offsets: Arc::new(offsets) })
    }

    /// Each history is looked at once: pairs are elements.
    pub fn each(histories: &Ragged) -> Self {
        let history = histories.offsets().clone();
        let request = Arc::new((0..histories.rows() as u32).collect());
        let offsets = Arc::new(history.iter().map(|o| *o as usize).collect());
        Self { history, request, offsets }
    }

    /// The same candidates over other elements of the same histories' requests.
    ///
    /// # Panics
    /// If there is another number of histories.
    pub(crate) fn over(&self, histories: &Ragged) -> Self {
        assert_eq!(histories.rows() + 1, self.history.len(), "pairs over another number of histories");
        match Self::new(histories, self.request.clone()) {
            Ok(pairs) => pairs,
            Err(e) => panic!("{e}"),
        }
    }

    /// N.
    pub fn candidates(&self) -> usize {
        self.request.len()
    }

    /// P.
    pub fn len(&self) -> usize {
        self.offsets[self.candidates()]
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `[N + 1]`: pairs of candidate n are `offsets[n]..offsets[n + 1]`.
    pub fn offsets(&self) -> &Arc<Vec<usize>> {
        &self.offsets
    }

    /// Number of elements of all histories.
    pub fn elements(&self) -> usize {
        self.history.last().map_or(0, |end| *end as usize)
    }

    /// Elements that candidate `n` looks at.
    pub fn elements_of(&self, n: usize) -> Range<usize> {
        let r = self.request[n] as usize;
        self.history[r] as usize..self.history[r + 1] as usize
    }

    /// Pairs of candidate `n`.
    pub fn pairs_of(&self, n: usize) -> Range<usize> {
        self.offsets[n]..self.offsets[n + 1]
    }

    /// The candidates `range` alone, over the same histories.
    pub fn part(&self, range: Range<usize>) -> Self {
        let first = self.offsets[range.start];
        Self {
            history: self.history.clone(),
            request: Arc::new(self.request[range.clone()].to_vec()),
            offsets: Arc::new(self.offsets[range.start..=range.end].iter().map(|o| o - first).collect()),
        }
    }

    /// Stretches of candidates with at most about `pairs` pairs each, at least one candidate.
    pub fn stretches(&self, pairs: usize) -> Vec<Range<usize>> {
        self.cut(pairs, false).into_iter().map(|task| task.candidates).collect()
    }

    /// Tasks for threads; cut `between_requests`, each owns the elements that its candidates look at. Borders depend on the
    /// pairs only.
    pub(crate) fn tasks(&self, between_requests: bool) -> Vec<Task> {
        self.cut(TASK.max(self.len().div_ceil(TASKS)), between_requests)
    }

    fn cut(&self, most: usize, between_requests: bool) -> Vec<Task> {
        let n = self.candidates();
        let mut tasks = Vec::new();
        let (mut first, mut first_element) = (0, 0);
        for next in 1..=n {
            let last = next == n;
            let may = last || !between_requests || self.request[next] != self.request[next - 1];
            // Adding the next candidate would go beyond: cut before it.
            let full = last || self.offsets[next + 1] - self.offsets[first] > most;
            if may && full {
                let end = if last { self.elements() } else { self.elements_of(next).start };
                tasks.push(Task {
                    candidates: first..next,
                    pairs: self.offsets[first]..self.offsets[next],
                    elements: first_element..end,
                });
                (first, first_element) = (next, end);
            }
        }
        tasks
    }
}

/// Cuts `values` into consecutive pieces of these lengths.
pub(crate) fn pieces(mut values: &mut [f32], lengths: impl Iterator<Item = usize>) -> Vec<&mut [f32]> {
    let mut out = Vec::new();
    for length in lengths {
        let (piece, rest) = values.split_at_mut(length);
        out.push(piece);
        values = rest;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_cover_every_candidate_pair_and_element_once() {
        let lengths = [3u32, 0, 700, 5, 0, 0, 400, 1200, 2];
        let mut history = vec![0u32];
        lengths.iter().for_each(|l| history.push(history[history.len() - 1] + l));
        let request: Vec<u32> = vec![0, 0, 1, 2, 2, 2, 3, 5, 6, 7, 7, 8];
        let pairs = Pairs::of(Arc::new(history), Arc::new(request)).unwrap();
        assert_eq!(pairs.len(), 6 + 2100 + 5 + 400 + 2400 + 2);
        for between in [false, true] {
            let tasks = pairs.tasks(between);
            assert!(tasks.len() > 2);
            let (mut candidate, mut pair, mut element) = (0, 0, 0);
            for task in &tasks {
                assert_eq!((task.candidates.start, task.pairs.start), (candidate, pair));
                (candidate, pair) = (task.candidates.end, task.pairs.end);
                if between {
                    assert_eq!(task.elements.start, element);
                    element = task.elements.end;
                    for n in task.candidates.clone() {
                        let of = pairs.elements_of(n);
                        assert!(
                            of.is_empty() || of.start >= task.elements.start && of.end <= task.elements.end
                        );
                    }
                }
            }
            assert_eq!((candidate, pair), (pairs.candidates(), pairs.len()));
            assert!(!between || element == pairs.elements());
        }
        let part = pairs.part(3..7);
        assert_eq!((part.candidates(), part.len()), (4, 2105));
        assert_eq!(part.elements_of(3), pairs.elements_of(6));
        assert!(Pairs::of(Arc::new(vec![0, 1]), Arc::new(vec![1])).is_err());
        assert!(Pairs::of(Arc::new(vec![0, 1, 2]), Arc::new(vec![1, 0])).is_err());
    }
}
