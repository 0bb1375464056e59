//! Which positions of a call go to which shard, and how shards write to one output side by side.
#![allow(unsafe_code)]

use crate::keys::mix;
use std::marker::PhantomData;

/// The shard, among a power of two, of a key with this hash: its top bits.
#[inline]
pub(crate) fn shard_of(hash: u64, shards: usize) -> usize {
    ((u128::from(hash) * shards as u128) >> 64) as usize
}

/// The positions of a call, ordered by shard (a counting sort, so stable).
pub(super) struct Routes {
    order: Vec<u32>,
    starts: Vec<u32>,
}

impl Routes {
    /// `keys` must be fewer than `u32::MAX`.
    pub(super) fn new(keys: &[u64], shards: usize) -> Self {
        let shard: Vec<u16> = keys.iter().map(|&key| shard_of(mix(key), shards) as u16).collect();
        let mut starts = vec![0u32; shards + 1];
        for &at in &shard {
            starts[at as usize + 1] += 1;
        }
        for at in 0..shards {
            starts[at + 1] += starts[at];
        }
        let mut next = starts.clone();
        let mut order = vec![0; keys.len()];
        for (position, &at) in shard.iter().enumerate() {
            let place = &mut next[at as usize];
            order[*place as usize] = position as u32;
            *place += 1;
        }
        Self { order, starts }
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// The positions of one shard, ascending.
    pub(super) fn of(&self, shard: usize) -> &[u32] {
        &self.order[self.starts[shard] as usize..self.starts[shard + 1] as usize]
    }
}

/// A slice of rows that several threads write to, each its own rows.
pub(super) struct Scatter<'a> {
    start: *mut f32,
    len: usize,
    dim: usize,
    rows: PhantomData<&'a mut [f32]>,
}

// SAFETY: the only access is `row`, whose contract forbids two threads the same row; `f32` is Send.
unsafe impl Sync for Scatter<'_> {}

impl<'a> Scatter<'a> {
    pub(super) fn new(rows: &'a mut [f32], dim: usize) -> Self {
        Self { start: rows.as_mut_ptr(), len: rows.len(), dim, rows: PhantomData }
    }

    /// Row `at`.
    ///
    /// # Safety
    /// No other borrow of the same row may be alive.
    #[allow(clippy::mut_from_ref)]
    pub(super) unsafe fn row(&self, at: u32) -> &mut [f32] {
        let at = at as usize * self.dim;
        assert!(at + self.dim <= self.len);
        // SAFETY: in bounds by the assertion, and the caller holds this row alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), self.dim) }
    }
}
