//! A table standing still, in an order that depends on its keys alone.

use super::{Table, own, read, shard_of};
use crate::keys::mix;
use crate::shard::Shard;
use rayon::prelude::*;
use std::sync::RwLockReadGuard;

/// Rows of a table in an order of their own; pushes wait while it is held.
pub(crate) struct Rows<'a> {
    shards: Vec<RwLockReadGuard<'a, Shard>>,
    /// Key, shard and slot.
    order: Vec<(u64, u32, u32)>,
}

impl Table {
    /// All rows in ascending order of key.
    pub(crate) fn by_key(&self) -> Rows<'_> {
        self.rows(|key| key, |_| true)
    }

    /// The rows that `keep` picks by their words, in ascending order of [`mix`] of their keys.
    pub(crate) fn by_hash(&self, keep: impl Fn(&[f32]) -> bool) -> Rows<'_> {
        self.rows(mix, keep)
    }

    fn rows(&self, rank: fn(u64) -> u64, keep: impl Fn(&[f32]) -> bool) -> Rows<'_> {
        let shards: Vec<_> = self.shards.iter().map(read).collect();
        let mut order = Vec::new();
        for (at, shard) in shards.iter().enumerate() {
            let kept = shard.iter().filter(|&(_, slot)| keep(shard.row(slot)));
            order.extend(kept.map(|(key, slot)| (key, at as u32, slot)));
        }
        order.par_sort_unstable_by_key(|&(key, ..)| rank(key));
        Rows { shards, order }
    }

    /// Puts a whole row, and gives its place for [`row_at`](Self::row_at).
    pub(crate) fn put_key(&mut self, key: u64) -> (u32, u32) {
        let at = shard_of(mix(key), self.shards.len());
        let shard = own(&mut self.shards[at]);
        if let Some(counts) = &mut shard.counts {
            counts.forget(key);
        }
        (at as u32, shard.get_or_insert(key).0)
    }

    /// The row at a place of [`put_key`](Self::put_key).
    pub(crate) fn row_at(&mut self, (shard, slot): (u32, u32)) -> &mut [f32] {
        own(&mut self.shards[shard as usize]).row_mut(slot)
    }
}

impl Rows<'_> {
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = u64> {
        self.order.iter().map(|&(key, ..)| key)
    }

    /// Keys with their whole rows.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (u64, &[f32])> {
        self.order.iter().map(|&(key, at, slot)| (key, self.shards[at as usize].row(slot)))
    }

    /// The shards, which stand still as well.
    pub(crate) fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.shards.iter().map(|shard| &**shard)
    }
}
