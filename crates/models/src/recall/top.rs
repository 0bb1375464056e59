//! The best few of many scored rows, kept while they are counted.

use std::cmp::Ordering;

use millstream_schema::ItemRow;

/// Keeps the best `k` of the rows offered: falling score, ties by rising row. Holds at most max(3k, 64) of them
/// before those that are offered together. Only positive scores are taken. What is kept does not depend on the order of offers.
#[derive(Debug)]
pub(crate) struct Top {
    k: usize,
    room: usize,
    /// By [`key`].
    kept: Vec<u64>,
    floor: f32,
}

/// The score's bits above the row's complement: a positive float orders as its bits do.
#[inline(always)]
fn key(row: ItemRow, score: f32) -> u64 {
    u64::from(score.to_bits()) << 32 | u64::from(!row)
}

/// Most offers of [`Top::offer_all`].
pub(crate) const TOGETHER: usize = 256;

/// Kept before all but the best are dropped: few, so that the floor soon tells what need not be offered.
fn room(k: usize) -> usize {
    k.saturating_mul(3).max(64)
}

impl Top {
    /// `k` 0 keeps all.
    pub(crate) fn new(k: usize) -> Self {
        let k = if k == 0 { usize::MAX } else { k };
        Self { k, room: room(k), kept: Vec::new(), floor: f32::MIN_POSITIVE }
    }

    /// Bytes that one of these holds at most, among so many rows.
    pub(crate) fn bytes(k: usize, rows: usize) -> usize {
        let most = if k == 0 { rows } else { room(k) };
        // A growing vector may own twice what it needs.
        most.saturating_add(TOGETHER).saturating_mul(16)
    }

    /// A score below this cannot enter.
    #[inline(always)]
    pub(crate) fn floor(&self) -> f32 {
        self.floor
    }

    /// Offers one row.
    #[inline(always)]
    pub(crate) fn offer(&mut self, row: ItemRow, score: f32) {
        if score >= self.floor {
            self.kept.push(key(row, score));
            if self.kept.len() >= self.room {
                self.cut();
            }
        }
    }

    /// Offers several together, at most [`TOGETHER`]: no branch depends on a score.
    #[inline(always)]
    pub(crate) fn offer_all(&mut self, offers: impl ExactSizeIterator<Item = (ItemRow, f32)>) {
        if offers.len() == 0 {
            return;
        }
        let (mut held, floor) = (self.kept.len(), self.floor);
        self.kept.resize(held + offers.len(), 0);
        let kept = &mut self.kept[..];
        for (row, score) in offers {
            kept[held] = key(row, score);
            held += usize::from(score >= floor);
        }
        self.kept.truncate(held);
        if held >= self.room {
            self.cut();
        }
    }

    /// Whether the floor says what can still enter.
    pub(crate) fn is_tight(&self) -> bool {
        self.floor > f32::MIN_POSITIVE
    }

    /// Raises the floor to the k-th best of those offered so far, if there are so many.
    pub(crate) fn tighten(&mut self) {
        // With `k` of them and a floor, it is theirs.
        if self.kept.len() > self.k || (self.kept.len() == self.k && !self.is_tight()) {
            self.cut();
        }
    }

    #[cold]
    #[inline(never)]
    fn cut(&mut self) {
        let (_, last, _) = self.kept.select_nth_unstable_by(self.k - 1, |a, b| b.cmp(a));
        self.floor = f32::from_bits((*last >> 32) as u32);
        self.kept.truncate(self.k);
    }

    /// Appends what is kept to `out`, best first, and starts anew; returns how many there were.
    pub(crate) fn drain_into(&mut self, out: &mut Vec<(ItemRow, f32)>) -> usize {
        if self.kept.len() > self.k {
            self.cut();
        }
        self.kept.sort_unstable_by(|a, b| b.cmp(a));
        out.extend(self.kept.iter().map(|&x| (!(x as u32), f32::from_bits((x >> 32) as u32))));
        let n = self.kept.len();
        self.kept.clear();
        self.floor = f32::MIN_POSITIVE;
        n
    }
}

/// Falling score, then rising row.
pub(crate) fn by_score(a: &(ItemRow, f32), b: &(ItemRow, f32)) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// Keeps the best `k`, sorted.
pub(crate) fn top(scored: &mut Vec<(ItemRow, f32)>, k: usize) {
    if k == 0 {
        scored.clear();
    }
    if scored.len() > k {
        scored.select_nth_unstable_by(k - 1, by_score);
        scored.truncate(k);
    }
    scored.sort_unstable_by(by_score);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_kept_is_the_head_of_a_full_sort(
            scores in prop::collection::vec(0u8..40, 0..2000),
            k in 0usize..120,
        ) {
            let mut kept = Top::new(k);
            let mut all: Vec<(u32, f32)> = Vec::new();
            for (row, &score) in scores.iter().enumerate() {
                let (row, score) = ((row as u32).wrapping_mul(2_654_435_761), f32::from(score) / 7.0);
                all.push((row, score));
            }
            // One by one, then together.
            let (single, more) = all.split_at(all.len() / 3);
            single.iter().for_each(|&(row, score)| kept.offer(row, score));
            more.chunks(TOGETHER).for_each(|some| kept.offer_all(some.iter().copied()));
            all.retain(|x| x.1 > 0.0);
            all.sort_by(by_score);
            all.truncate(if k == 0 { usize::MAX } else { k });
            let mut got = Vec::new();
            prop_assert_eq!(kept.drain_into(&mut got), all.len());
            prop_assert_eq!(&got, &all);
            prop_assert_eq!(kept.drain_into(&mut got), 0);
        }
    }
}
