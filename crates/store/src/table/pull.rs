//! Reading rows.
#![allow(unsafe_code)] // rows of one output, written by several threads

use super::route::{Routes, Scatter, shard_of};
use super::{PARALLEL_FLOATS, Table, check_sizes, read, write};
use crate::error::Result;
use crate::keys::{NONE, mix};
use crate::prefetch::AHEAD;
use crate::shard::Shard;

impl Table {
    pub(crate) fn pull(&self, keys: &[u64], out: &mut [f32]) -> Result<()> {
        check_sizes(&self.rules.config, "pull", keys, out.len())?;
        if out.len() < PARALLEL_FLOATS {
            self.pull_in_order(keys, out);
            return Ok(());
        }
        let routes = Routes::new(keys, self.shards.len());
        let out = Scatter::new(out, self.rules.layout.dim);
        let mean = read(&self.mean);
        self.each_shard(&routes, |shard, positions| {
            let shard = read(shard);
            let slots = find(&shard, keys, positions);
            // SAFETY: `route` compared `keys` with `out`, and each position is in one shard's part.
            unsafe { self.copy(&shard, keys, (positions, &slots), (&out, &mean)) };
        });
        Ok(())
    }

    /// As [`Table::pull`], on this thread, for few keys: a shard would have too few of them for look-ups to be announced in time, so that they
    /// are taken as they come, and all shards that have one are held meanwhile.
    fn pull_in_order(&self, keys: &[u64], out: &mut [f32]) {
        // A copy: nobody who changes the mean, and holds shards the while, is to wait for this.
        let mean = read(&self.mean).clone();
        let of: Vec<u16> = keys.iter().map(|&key| shard_of(mix(key), self.shards.len()) as u16).collect();
        let mut wanted = vec![false; self.shards.len()];
        of.iter().for_each(|&at| wanted[at as usize] = true);
        // In ascending order, as everyone who holds several does: no two wait for one another.
        let held: Vec<_> =
            self.shards.iter().zip(wanted).map(|(shard, wanted)| wanted.then(|| read(shard))).collect();
        let shard = |at: usize| held[of[at] as usize].as_deref();
        let ahead = |at: usize| (at + AHEAD < keys.len()).then(|| shard(at + AHEAD)).flatten();
        (0..keys.len().min(AHEAD)).filter_map(|at| Some((shard(at)?, keys[at]))).for_each(|(s, k)| {
            s.prefetch_key(k);
        });
        let find = |at: usize| {
            if let Some(next) = ahead(at) {
                next.prefetch_key(keys[at + AHEAD]);
            }
            let found = shard(at).map_or(NONE, |s| s.get(keys[at]));
            if let Some(shard) = shard(at).filter(|_| found != NONE) {
                shard.prefetch_row(found, self.rules.layout.weights);
            }
            found
        };
        let slots: Vec<u32> = (0..keys.len()).map(find).collect();
        let rows = out.chunks_exact_mut(self.rules.layout.dim).zip(&slots).zip(keys);
        for (at, ((out, &slot), &key)) in rows.enumerate() {
            match shard(at).filter(|_| slot != NONE) {
                Some(shard) => self.rules.layout.read(shard.row(slot), out),
                None => self.rules.default_row(key, &mean, out),
            }
        }
    }

    pub(crate) fn pull_or_init(&self, keys: &[u64], out: &mut [f32]) -> Result<()> {
        let routes = self.route("pull", keys, out.len())?;
        let out = Scatter::new(out, self.rules.layout.dim);
        let mean = read(&self.mean);
        self.each_shard(&routes, |shard, positions| {
            let shard = &mut *write(shard);
            let slots = self.slots(shard, keys, positions, true);
            // SAFETY: as in `pull`.
            unsafe { self.copy(shard, keys, (positions, &slots), (&out, &mean)) };
        });
        Ok(())
    }

    /// Copies the weights of the rows in `slots` to `positions` of the output.
    ///
    /// # Safety
    /// All positions lie in the output, and no other thread has any of them.
    unsafe fn copy(
        &self,
        shard: &Shard,
        keys: &[u64],
        (positions, slots): (&[u32], &[u32]),
        (out, mean): (&Scatter<'_>, &[f32]),
    ) {
        for (at, (&position, &slot)) in positions.iter().zip(slots).enumerate() {
            if let Some(&next) = slots.get(at + AHEAD) {
                shard.prefetch_row(next, self.rules.layout.weights);
            }
            // SAFETY: by this function's contract.
            let out = unsafe { out.row(position) };
            match slot {
                NONE => self.rules.default_row(keys[position as usize], mean, out),
                _ => self.rules.layout.read(shard.row(slot), out),
            }
        }
    }
}

/// The slot of each key or [`NONE`], each announced some steps before it comes.
fn find(shard: &Shard, keys: &[u64], positions: &[u32]) -> Vec<u32> {
    let one = |(at, &position): (usize, &u32)| {
        if let Some(&next) = positions.get(at + AHEAD) {
            shard.prefetch_key(keys[next as usize]);
        }
        shard.get(keys[position as usize])
    };
    positions.iter().enumerate().map(one).collect()
}
