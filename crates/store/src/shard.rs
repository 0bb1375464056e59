use crate::keys::KeyIndex;
use crate::prefetch::prefetch;

/// Rows per chunk: small enough that a table of few keys stays small, and growth copies nothing.
const CHUNK_ROWS: usize = 128;

/// One part of a table: its keys and, chunk by chunk, its rows of `stride` floats.
///
/// Slots are `u32`; a shard would need hundreds of gigabytes of rows to run out of them.
#[derive(Debug)]
pub(crate) struct Shard {
    keys: KeyIndex,
    chunks: Vec<Box<[f32]>>,
    stride: usize,
}

impl Shard {
    pub(crate) fn new(stride: usize) -> Self {
        Self { keys: KeyIndex::default(), chunks: Vec::new(), stride }
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn get(&self, key: u64) -> Option<u32> {
        self.keys.get(key)
    }

    /// The slot of `key`; a new one holds a zeroed row and the answer says `true`.
    pub(crate) fn get_or_insert(&mut self, key: u64) -> (u32, bool) {
        let (slot, new) = self.keys.get_or_insert(key);
        if slot as usize >= self.chunks.len() * CHUNK_ROWS {
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

    /// Asks for what the look-up of `key` will read.
    #[inline]
    pub(crate) fn prefetch_key(&self, key: u64) {
        self.keys.prefetch(key);
    }

    /// Asks for the row in `slot`, of which `floats` will be used.
    #[inline]
    pub(crate) fn prefetch_row(&self, slot: u32, floats: usize) {
        prefetch(&self.row(slot)[..floats]);
    }

    /// All pairs of key and slot, in no useful order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        self.keys.iter()
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let rows = self.chunks.len() * CHUNK_ROWS * self.stride * size_of::<f32>();
        rows + self.chunks.capacity() * size_of::<Box<[f32]>>() + self.keys.memory_bytes()
    }
}
