//! Reading rows.
#![allow(unsafe_code)] // rows of one output, written by several threads

use super::route::Scatter;
use super::{Table, read, write};
use crate::error::Result;
use crate::keys::NONE;
use crate::prefetch::AHEAD;
use crate::shard::Shard;

impl Table {
    pub(crate) fn pull(&self, keys: &[u64], out: &mut [f32]) -> Result<()> {
        let routes = self.route("pull", keys, out.len())?;
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
