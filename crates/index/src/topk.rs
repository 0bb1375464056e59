use crate::hit::{Hit, NAN, hit_of, rank, score_of};

/// Scores looked at together: none of them better than the worst kept one is the usual case.
const LANES: usize = 16;

/// The best `k` of all that was offered: best first, ties by id, NaN last.
///
/// Keeps up to `2k` and halves them by selection when full, so an offer costs O(1) on average.
#[derive(Debug, Clone)]
pub struct Top {
    k: usize,
    ranks: Vec<u64>,
    /// Ranks at or below it cannot be among the best.
    floor: u64,
    /// The score in `floor`; negative infinity as long as anything may enter.
    bar: f32,
}

impl Top {
    /// Room for the best `k`.
    pub fn new(k: usize) -> Self {
        Self { k, ranks: Vec::new(), floor: 0, bar: f32::NEG_INFINITY }
    }

    /// A score below this cannot enter any more. (One that equals it may, by its id; NaN never beats it.)
    #[inline]
    pub fn bar(&self) -> f32 {
        self.bar
    }

    /// Whether an offer would be taken, as far as is known.
    #[inline]
    pub fn wants(&self, id: u32, score: f32) -> bool {
        self.k > 0 && rank(score, id) > self.floor
    }

    /// Offers one score; an id must be offered once only.
    #[inline]
    pub fn offer(&mut self, id: u32, score: f32) {
        let rank = rank(score, id);
        if rank > self.floor && self.k > 0 {
            self.ranks.push(rank);
            if self.ranks.len() >= self.k.saturating_mul(2).max(32) {
                self.shrink();
            }
        }
    }

    fn shrink(&mut self) {
        if self.ranks.len() > self.k {
            self.ranks.select_nth_unstable_by(self.k - 1, |a, b| b.cmp(a));
            self.ranks.truncate(self.k);
            self.floor = self.ranks[self.k - 1];
            let score = score_of(self.floor);
            self.bar = if score.is_nan() { f32::NEG_INFINITY } else { score };
        }
    }

    /// Whether NaN might still enter, so that scores cannot be skipped by comparison alone.
    fn takes_nan(&self) -> bool {
        self.floor >> 32 <= u64::from(NAN)
    }

    /// Offers `scores[i]` under the id that `id(i)` gives, if `keep` says so of that id. `keep` is asked
    /// only of what would enter.
    #[inline]
    pub fn offer_all(&mut self, scores: &[f32], id: impl Fn(usize) -> u32, keep: impl Fn(u32) -> bool) {
        for (chunk, at) in scores.chunks(LANES).zip((0..).step_by(LANES)) {
            let bar = self.bar;
            let any = chunk.iter().fold(false, |any, &score| any | (score >= bar));
            if !any && !self.takes_nan() {
                continue;
            }
            for (lane, &score) in chunk.iter().enumerate() {
                let id = id(at + lane);
                if self.wants(id, score) && keep(id) {
                    self.offer(id, score);
                }
            }
        }
    }

    /// The best, best first.
    pub fn finish(mut self) -> Vec<Hit> {
        self.shrink();
        self.ranks.sort_unstable_by(|a, b| b.cmp(a));
        self.ranks.into_iter().map(hit_of).collect()
    }
}

/// The best `k` of `scores`, where `scores[i]` belongs to item `i`, without the items in `exclude`.
///
/// Best first, ties by id, NaN after everything else. `exclude` may be in any order (ascending is
/// fastest), with repeats and with items beyond the end.
///
/// ```
/// use millstream_index::topk_scores;
/// let best = topk_scores(&[0.1, f32::NAN, 0.9, 0.9, 0.5], 2, &[2]);
/// assert_eq!(best.iter().map(|hit| hit.item).collect::<Vec<_>>(), [3, 4]);
/// ```
pub fn topk_scores(scores: &[f32], k: usize, exclude: &[u32]) -> Vec<Hit> {
    if !exclude.is_sorted() {
        let mut sorted = exclude.to_vec();
        sorted.sort_unstable();
        return topk_scores(scores, k, &sorted);
    }
    let mut top = Top::new(k.min(scores.len()));
    let mut start = 0;
    for &item in exclude {
        let end = (item as usize).min(scores.len());
        if end > start {
            top.offer_all(&scores[start..end], |at| (start + at) as u32, |_| true);
        }
        start = start.max((item as usize).saturating_add(1));
    }
    if let Some(rest) = scores.get(start..) {
        top.offer_all(rest, |at| (start + at) as u32, |_| true);
    }
    top.finish()
}
