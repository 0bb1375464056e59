//! From key to slot: open addressing with linear probing, one cache line per look-up.
//!
//! Two functions spread keys. [`mix`] orders files and chooses shards: it is a format. [`spread`] chooses buckets, in memory only, and
//! is quick.

use crate::prefetch::prefetch;

/// A hash of `key` whose every bit depends on every bit of the key (the finaliser of SplitMix64).
/// The top bits choose the shard.
#[inline]
pub(crate) fn mix(key: u64) -> u64 {
    let x = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Where among the buckets a key belongs: the two halves of a product of 128 bits, folded (as wyhash does, Wang 2019).
#[inline]
fn spread(key: u64) -> usize {
    let product = u128::from(key ^ 0x2d35_8dcc_aa6c_78a5) * 0x8bb8_4b93_962e_acc9;
    (product as u64 ^ (product >> 64) as u64) as usize
}

/// No slot: of a free bucket, and of a key that has no row.
pub(crate) const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
#[repr(align(16))] // so that none lies across two cache lines
struct Bucket {
    key: u64,
    slot: u32,
}

/// Maps keys to slots `0..len()`, handed out in order of insertion. To remove keys, build another.
#[derive(Debug, Default)]
pub(crate) struct KeyIndex {
    /// Empty, or a power of two of buckets of which at least a quarter are free.
    buckets: Vec<Bucket>,
    len: u32,
}

impl KeyIndex {
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// The bucket of `key`, or the free one where it belongs; the table must not be empty.
    #[inline]
    fn find(&self, key: u64) -> usize {
        let mask = self.buckets.len() - 1;
        let mut at = spread(key) & mask;
        while self.buckets[at].slot != NONE && self.buckets[at].key != key {
            at = (at + 1) & mask;
        }
        at
    }

    /// Asks for the bucket that `key` leads to, and tells which it is.
    #[inline]
    pub(crate) fn prefetch(&self, key: u64) -> usize {
        let at = spread(key) & self.buckets.len().wrapping_sub(1);
        if let Some(bucket) = self.buckets.get(at) {
            prefetch(std::slice::from_ref(bucket));
        }
        at
    }

    /// The slot of `key`, looked for from bucket `at` on, as [`prefetch`](Self::prefetch) told it; [`NONE`] where there is none, or where
    /// the table has grown since.
    #[inline]
    pub(crate) fn get_from(&self, mut at: usize, key: u64) -> u32 {
        let mask = self.buckets.len().wrapping_sub(1);
        while let Some(bucket) = self.buckets.get(at & mask) {
            if bucket.key == key || bucket.slot == NONE {
                return bucket.slot;
            }
            at += 1;
        }
        NONE
    }

    /// The slot of `key`, or [`NONE`].
    #[inline]
    pub(crate) fn get(&self, key: u64) -> u32 {
        if self.buckets.is_empty() {
            return NONE;
        }
        self.buckets[self.find(key)].slot
    }

    /// The slot of `key`, and whether it was handed out just now.
    #[inline]
    pub(crate) fn get_or_insert(&mut self, key: u64) -> (u32, bool) {
        if self.buckets.len() * 3 <= self.len() * 4 {
            self.grow();
        }
        let at = self.find(key);
        let bucket = &mut self.buckets[at];
        if bucket.slot != NONE {
            return (bucket.slot, false);
        }
        *bucket = Bucket { key, slot: self.len };
        self.len += 1;
        (self.len - 1, true)
    }

    #[cold]
    fn grow(&mut self) {
        let size = (self.buckets.len() * 2).max(16);
        let old = std::mem::replace(&mut self.buckets, vec![Bucket { key: 0, slot: NONE }; size]);
        for bucket in old.into_iter().filter(|bucket| bucket.slot != NONE) {
            let at = self.find(bucket.key);
            self.buckets[at] = bucket;
        }
    }

    /// All pairs of key and slot, in no useful order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        self.buckets.iter().filter(|b| b.slot != NONE).map(|b| (b.key, b.slot))
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<Bucket>()
    }
}
