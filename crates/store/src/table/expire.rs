//! Dropping rows, and keeping the steps that rows remember within four bytes.

use super::{Clock, Table, write};
use crate::config::{DefaultRow, Expiry, RowType};
use crate::counts::Counts;
use crate::layout::Layout;
use crate::optim::RowOptim;
use crate::shard::Shard;
use rayon::prelude::*;
use std::sync::atomic::Ordering;

/// How far the base moves when the words of rows are full.
pub(super) const STRIDE: u32 = 1 << 31;

/// Graves kept at least; more than that only while there are more rows.
const GRAVES: usize = 1 << 16;

impl Table {
    /// Drops what the table's rule names and gives the number of rows dropped.
    pub(crate) fn expire(&self) -> usize {
        let Some(rule) = self.rules.config.expiry else { return 0 };
        let (layout, now) = (self.rules.layout, self.clock.step());
        self.shards.par_iter().for_each(|shard| {
            if let Some(counts) = &mut write(shard).counts {
                counts.halve();
            }
        });
        self.drop_rows(|row| due(rule, layout, row, self.clock.word(now)))
    }

    /// Drops rows of zeros where a key without a row counts as zeros and the optimiser makes zeros on purpose.
    pub(crate) fn drop_zeros(&self) -> usize {
        let (config, layout) = (&self.rules.config, self.rules.layout);
        if !matches!(config.optim, RowOptim::Ftrl { .. }) || config.default_row != DefaultRow::Zeros {
            return 0;
        }
        self.drop_rows(|row| is_zero(layout, row))
    }

    /// Drops the rows that `pick` names by their words, under the shard's lock, and remembers their keys.
    fn drop_rows(&self, pick: impl Fn(&[f32]) -> bool + Sync) -> usize {
        let ordinal = self.clock.expiries.fetch_add(1, Ordering::SeqCst) + 1;
        let dropped = self.shards.par_iter().map(|shard| {
            let shard = &mut *write(shard);
            let gone = shard.retain(|_, row| !pick(row));
            shard.graves.extend(gone.iter().map(|&key| (key, ordinal)));
            (gone.len(), shard.graves.len())
        });
        let (dropped, graves) = dropped.reduce(|| (0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        if graves > GRAVES.max(self.len()) {
            self.clear_graves(ordinal);
        }
        dropped
    }

    /// Forgets which rows were dropped up to an expiry.
    pub(crate) fn clear_graves(&self, up_to: u64) {
        self.clock.buried.fetch_max(up_to, Ordering::SeqCst);
        for shard in &self.shards {
            let graves = &mut write(shard).graves;
            graves.retain(|&(_, ordinal)| ordinal > up_to);
            graves.shrink_to_fit();
        }
    }

    /// Moves the base when `step` no longer fits the words of rows. Rows older than the new base then
    /// count as touched at it.
    pub(super) fn rebase_if_full(&self, step: u64) {
        if self.clock.is_full(step) {
            let mut shards: Vec<_> = self.shards.iter().map(write).collect();
            let mut shards: Vec<&mut Shard> = shards.iter_mut().map(|shard| &mut **shard).collect();
            rebase(&self.clock, step, self.rules.layout, &mut shards);
        }
    }
}

impl Clock {
    pub(crate) fn is_full(&self, step: u64) -> bool {
        step.saturating_sub(self.base()) >= u64::from(u32::MAX)
    }
}

/// Moves the base until `step` fits.
pub(crate) fn rebase(clock: &Clock, step: u64, layout: Layout, shards: &mut [&mut Shard]) {
    while clock.is_full(step) {
        clock.base.fetch_add(u64::from(STRIDE), Ordering::SeqCst);
        shards.iter_mut().for_each(|shard| lower(shard, layout, STRIDE));
    }
}

fn due(rule: Expiry, layout: Layout, row: &[f32], now: u32) -> bool {
    // A row made since the last step has a word one ahead.
    let age = u64::from(now.saturating_sub(layout.touched(row)));
    let old = rule.max_age.is_some_and(|most| age > most);
    old || rule.zero_after.is_some_and(|least| age >= least && is_zero(layout, row))
}

/// Whether all weights are zeros, of either sign.
pub(crate) fn is_zero(layout: Layout, row: &[f32]) -> bool {
    row[..layout.weights].iter().all(|word| match layout.dtype {
        RowType::F32 => *word == 0.0,
        RowType::Bf16 => word.to_bits() & 0x7fff_7fff == 0,
    })
}

pub(super) fn lower(shard: &mut Shard, layout: Layout, by: u32) {
    shard.for_each_mut(|row| layout.touch(row, layout.touched(row).saturating_sub(by)));
    if let Some(counts) = &mut shard.counts {
        Counts::rebase(counts, by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TableConfig;

    #[test]
    fn steps_beyond_four_bytes_move_the_base_and_ages_stay_right() {
        let expiry = Some(Expiry { max_age: Some(5), zero_after: None });
        let table = Table::new(TableConfig { expiry, ..TableConfig::new("t", 1) }, 2);
        let push = |key: u64| table.push(&[key], &[1.0], 1.0).unwrap();
        push(1);
        table.clock.step.store(u64::from(u32::MAX) - 3, Ordering::SeqCst);
        (2..9).for_each(push);
        assert_eq!(table.clock.base(), u64::from(STRIDE));
        assert_eq!(table.len(), 8);
        assert_eq!(table.expire(), 2, "key 1 is old, key 2 is 6 steps old");
        assert_eq!(table.expire(), 0);
        table.clock.step.fetch_add(3 << 32, Ordering::SeqCst);
        push(9);
        assert_eq!((table.expire(), table.len()), (6, 1));
    }
}
