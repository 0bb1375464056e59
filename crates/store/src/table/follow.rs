//! Taking over what a file says.

use super::expire::{STRIDE, lower};
use super::{Table, own, shard_of, write};
use crate::counts::Counts;
use crate::file::TableHead;
use crate::keys::mix;
use rayon::prelude::*;
use std::collections::HashSet;
use std::sync::atomic::Ordering;

/// Counts whose bytes are not such.
pub(crate) struct CountsError;

impl Table {
    /// Takes over all that a head says but the rows.
    pub(crate) fn follow(&mut self, head: &TableHead) {
        while self.clock.base() < head.base {
            let by = u32::try_from(head.base - self.clock.base()).unwrap_or(STRIDE);
            self.clock.base.fetch_add(u64::from(by), Ordering::SeqCst);
            self.shards.iter_mut().for_each(|shard| lower(own(shard), self.rules.layout, by));
        }
        self.clock.step.store(head.step, Ordering::SeqCst);
        self.clock.expiries.store(head.expiries, Ordering::SeqCst);
        self.clear_graves(head.expiries);
        if !head.mean.is_empty() {
            write(&self.mean).clone_from(&head.mean);
        }
    }

    /// Drops the rows of `keys`, which need not be there.
    pub(crate) fn remove(&mut self, keys: &[u64]) {
        let gone: HashSet<u64> = keys.iter().copied().collect();
        if !gone.is_empty() {
            self.shards.par_iter_mut().for_each(|shard| {
                own(shard).retain(|key, _| !gone.contains(&key));
            });
        }
    }

    /// Puts counts as a file has them, in place of those there were if `all`, else beside them.
    pub(crate) fn put_counts(&mut self, bytes: &[u8], all: bool) -> Result<(), CountsError> {
        let shards = self.shards.len();
        let mut sketched = 0;
        for (at, shard) in self.shards.iter_mut().enumerate() {
            match &mut own(shard).counts {
                Some(Counts::Exact(seen)) if all => seen.clear(),
                Some(Counts::Sketch(counters, _)) => {
                    let part = counters.len();
                    let bytes = bytes.get(at * part..(at + 1) * part).ok_or(CountsError)?;
                    counters.copy_from_slice(bytes);
                    sketched += part;
                }
                _ => {}
            }
        }
        let (items, rest) = bytes[sketched..].as_chunks::<16>();
        for item in items {
            let [key, last] = [&item[..8], &item[8..]].map(crate::file::u64_of);
            let hash = mix(key);
            match &mut own(&mut self.shards[shard_of(hash, shards)]).counts {
                Some(Counts::Exact(seen)) => seen.insert(key, (last as u32, (last >> 32) as u32)),
                _ => return Err(CountsError),
            };
        }
        if rest.is_empty() { Ok(()) } else { Err(CountsError) }
    }
}
