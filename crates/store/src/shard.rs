use crate::counts::Counts;
use crate::keys::KeyIndex;
use crate::prefetch::prefetch;
use crate::room::Room;
use std::ops::Range;

/// Rows that a shard with any has room for: few enough that a table of few keys stays small.
const FIRST_ROWS: usize = 32;

/// One part of a table: its keys and, side by side in the order in which they came, its rows of `stride` words.
///
/// Slots are `u32`; a shard would need hundreds of gigabytes of rows to run out of them.
#[derive(Debug)]
pub(crate) struct Shard {
    keys: KeyIndex,
    rows: Room,
    stride: usize,
    /// Of keys without a row, where the table counts before it admits.
    pub(crate) counts: Option<Counts>,
    /// Keys dropped, with the number of the expiry that did it, ascending.
    pub(crate) graves: Vec<(u64, u64)>,
}

impl Shard {
    pub(crate) fn new(stride: usize, counts: Option<Counts>) -> Self {
        Self { keys: KeyIndex::default(), rows: Room::default(), stride, counts, graves: Vec::new() }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The slot of `key`, or [`NONE`](crate::keys::NONE).
    #[inline]
    pub(crate) fn get(&self, key: u64) -> u32 {
        self.keys.get(key)
    }

    /// The slot of `key`; a new one holds a zeroed row and the answer says `true`.
    #[inline]
    pub(crate) fn get_or_insert(&mut self, key: u64) -> (u32, bool) {
        let (slot, new) = self.keys.get_or_insert(key);
        if new {
            self.reach(slot);
        }
        (slot, new)
    }

    /// Makes room for the row in `slot`.
    #[inline]
    fn reach(&mut self, slot: u32) {
        let end = (slot as usize + 1) * self.stride;
        if end > self.rows.words().len() {
            self.rows.grow(end.max(FIRST_ROWS * self.stride));
        }
    }

    #[inline]
    fn span(&self, slot: u32) -> Range<usize> {
        let at = slot as usize * self.stride;
        at..at + self.stride
    }

    #[inline]
    pub(crate) fn row(&self, slot: u32) -> &[f32] {
        &self.rows.words()[self.span(slot)]
    }

    #[inline]
    pub(crate) fn row_mut(&mut self, slot: u32) -> &mut [f32] {
        let span = self.span(slot);
        &mut self.rows.words_mut()[span]
    }

    /// As [`row`](Self::row) for a slot that may not exist.
    #[inline]
    pub(crate) fn try_row(&self, slot: u32) -> Option<&[f32]> {
        self.rows.words().get(self.span(slot))
    }

    /// As [`row_mut`](Self::row_mut) for a slot that may not exist.
    #[inline]
    pub(crate) fn try_row_mut(&mut self, slot: u32) -> Option<&mut [f32]> {
        let span = self.span(slot);
        self.rows.words_mut().get_mut(span)
    }

    /// Two rows at once, if they are there and not the same.
    #[inline]
    pub(crate) fn pair_mut(&mut self, first: u32, second: u32) -> Option<(&mut [f32], &mut [f32])> {
        let spans = [self.span(first), self.span(second)];
        let [a, b] = self.rows.words_mut().get_disjoint_mut(spans).ok()?;
        Some((a, b))
    }

    /// All rows, and room for more behind them: row by row in the order of slots.
    #[inline]
    pub(crate) fn words_mut(&mut self) -> &mut [f32] {
        self.rows.words_mut()
    }

    /// Asks for what the look-up of a key will read; tells [`get_from`](Self::get_from) where it begins.
    #[inline]
    pub(crate) fn prefetch_key(&self, key: u64) -> usize {
        self.keys.prefetch(key)
    }

    /// As [`get`](Self::get) with what [`prefetch_key`](Self::prefetch_key) told; after new keys it may be
    /// [`NONE`](crate::keys::NONE) for a key with a row.
    #[inline]
    pub(crate) fn get_from(&self, at: usize, key: u64) -> u32 {
        self.keys.get_from(at, key)
    }

    /// Asks for the row in `slot`, of which `words` will be used; does nothing for a slot that is not there.
    #[inline]
    pub(crate) fn prefetch_row(&self, slot: u32, words: usize) {
        if let Some(row) = self.try_row(slot) {
            prefetch(&row[..words.min(row.len())]);
        }
    }

    /// All pairs of key and slot, in no useful order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        self.keys.iter()
    }

    /// Drops the rows of which `keep` says no, and gives their memory back; slots change.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(u64, &[f32]) -> bool) -> Vec<u64> {
        let dropped: Vec<u64> =
            self.iter().filter(|&(key, slot)| !keep(key, self.row(slot))).map(|(key, _)| key).collect();
        if dropped.is_empty() {
            return dropped;
        }
        let gone: std::collections::HashSet<u64> = dropped.iter().copied().collect();
        let mut pairs: Vec<_> = self.iter().filter(|(key, _)| !gone.contains(key)).collect();
        pairs.sort_unstable_by_key(|&(_, slot)| slot);
        let mut rest = Self::new(self.stride, None);
        for (key, slot) in pairs {
            let (new, _) = rest.get_or_insert(key);
            rest.row_mut(new).copy_from_slice(self.row(slot));
        }
        (self.keys, self.rows) = (rest.keys, rest.rows);
        dropped
    }

    /// Calls `change` with every row.
    pub(crate) fn for_each_mut(&mut self, mut change: impl FnMut(&mut [f32])) {
        (0..self.len() as u32).for_each(|slot| change(self.row_mut(slot)));
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let rows = self.rows.memory_bytes(self.len() * self.stride);
        let counts = self.counts.as_ref().map_or(0, Counts::memory_bytes);
        let graves = self.graves.capacity() * size_of::<(u64, u64)>();
        rows + counts + graves + self.keys.memory_bytes()
    }
}
