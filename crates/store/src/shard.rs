use crate::counts::Counts;
use crate::keys::{KeyIndex, mix};
use crate::prefetch::prefetch;

/// Rows per chunk: small enough that a table of few keys stays small, and growth copies nothing.
const CHUNK_ROWS: usize = 128;

/// One part of a table: its keys and, chunk by chunk, its rows of `stride` words.
///
/// Slots are `u32`; a shard would need hundreds of gigabytes of rows to run out of them.
#[derive(Debug)]
pub(crate) struct Shard {
    keys: KeyIndex,
    chunks: Vec<Box<[f32]>>,
    stride: usize,
    /// Of keys without a row, where the table counts before it admits.
    pub(crate) counts: Option<Counts>,
    /// Keys dropped, with the number of the expiry that did it, ascending.
    pub(crate) graves: Vec<(u64, u64)>,
}

impl Shard {
    pub(crate) fn new(stride: usize, counts: Option<Counts>) -> Self {
        Self { keys: KeyIndex::default(), chunks: Vec::new(), stride, counts, graves: Vec::new() }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The slot of `key`, or [`NONE`](crate::keys::NONE). `hash` is `mix(key)` here and below.
    #[inline]
    pub(crate) fn get(&self, hash: u64, key: u64) -> u32 {
        self.keys.get(hash, key)
    }

    /// The slot of `key`; a new one holds a zeroed row and the answer says `true`.
    #[inline]
    pub(crate) fn get_or_insert(&mut self, hash: u64, key: u64) -> (u32, bool) {
        let (slot, new) = self.keys.get_or_insert(hash, key);
        if new && slot as usize >= self.chunks.len() * CHUNK_ROWS {
            self.chunks.push(vec![0.0; CHUNK_ROWS * self.stride].into_boxed_slice());
        }
        (slot, new)
    }

    #[inline]
    fn place(&self, slot: u32) -> (usize, usize) {
        (slot as usize / CHUNK_ROWS, slot as usize % CHUNK_ROWS * self.stride)
    }

    #[inline]
    pub(crate) fn row(&self, slot: u32) -> &[f32] {
        let (chunk, at) = self.place(slot);
        &self.chunks[chunk][at..at + self.stride]
    }

    #[inline]
    pub(crate) fn row_mut(&mut self, slot: u32) -> &mut [f32] {
        let (chunk, at) = self.place(slot);
        &mut self.chunks[chunk][at..at + self.stride]
    }

    /// As [`row`](Self::row) for a slot that may not exist.
    #[inline]
    pub(crate) fn try_row(&self, slot: u32) -> Option<&[f32]> {
        let (chunk, at) = self.place(slot);
        self.chunks.get(chunk)?.get(at..at + self.stride)
    }

    /// As [`row_mut`](Self::row_mut) for a slot that may not exist.
    #[inline]
    pub(crate) fn try_row_mut(&mut self, slot: u32) -> Option<&mut [f32]> {
        let (chunk, at) = self.place(slot);
        self.chunks.get_mut(chunk)?.get_mut(at..at + self.stride)
    }

    /// Two rows at once, if they are there and not the same.
    #[inline]
    pub(crate) fn pair_mut(&mut self, first: u32, second: u32) -> Option<(&mut [f32], &mut [f32])> {
        let ((chunk, at), (other, to)) = (self.place(first), self.place(second));
        let stride = self.stride;
        if chunk != other {
            let [a, b] = self.chunks.get_disjoint_mut([chunk, other]).ok()?;
            return Some((a.get_mut(at..at + stride)?, b.get_mut(to..to + stride)?));
        }
        let ranges = [at..at + stride, to..to + stride];
        let [a, b] = self.chunks.get_mut(chunk)?.get_disjoint_mut(ranges).ok()?;
        Some((a, b))
    }

    /// Asks for what the look-up of a key will read.
    #[inline]
    pub(crate) fn prefetch_key(&self, hash: u64) {
        self.keys.prefetch(hash);
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
            let (new, _) = rest.get_or_insert(mix(key), key);
            rest.row_mut(new).copy_from_slice(self.row(slot));
        }
        (self.keys, self.chunks) = (rest.keys, rest.chunks);
        dropped
    }

    /// Calls `change` with every row.
    pub(crate) fn for_each_mut(&mut self, mut change: impl FnMut(&mut [f32])) {
        (0..self.len() as u32).for_each(|slot| change(self.row_mut(slot)));
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let rows = self.chunks.len() * CHUNK_ROWS * self.stride * size_of::<f32>();
        let counts = self.counts.as_ref().map_or(0, Counts::memory_bytes);
        let graves = self.graves.capacity() * size_of::<(u64, u64)>();
        let chunks = self.chunks.capacity() * size_of::<Box<[f32]>>();
        rows + chunks + counts + graves + self.keys.memory_bytes()
    }
}
