//! The mean of a table's rows, where keys without a row answer with it.

use super::{Table, read, write};
use crate::config::DefaultRow;
use crate::layout::Layout;
use crate::rules::Rules;
use crate::shard::Shard;
use rayon::prelude::*;

/// Sums are whole numbers of 2⁻³², so that their order does not matter.
const UNIT: f64 = (1u64 << 32) as f64;

impl Rules {
    /// Whether the mean is worked out after this step.
    pub(crate) fn mean_is_due(&self, step: u64) -> bool {
        let due = step <= 16 || step.is_power_of_two() || step.is_multiple_of(1024);
        self.config.default_row == DefaultRow::Mean && due
    }
}

impl Table {
    pub(super) fn follow_mean(&self, step: u64) {
        if self.rules.mean_is_due(step) {
            let shards: Vec<_> = self.shards.iter().map(read).collect();
            let shards: Vec<&Shard> = shards.iter().map(|shard| &**shard).collect();
            let mean = mean_of_rows(self.rules.layout, &shards);
            *write(&self.mean) = mean;
        }
    }
}

/// The mean `[D]` of all rows, zeros where there is none.
pub(crate) fn mean_of_rows(layout: Layout, shards: &[&Shard]) -> Vec<f32> {
    let part = |shard: &&Shard| {
        let (mut sums, mut weights) = (vec![0i128; layout.dim], vec![0.0; layout.dim]);
        for (_, slot) in shard.iter() {
            layout.read(shard.row(slot), &mut weights);
            let whole = |w: f32| (f64::from(w) * UNIT) as i128;
            sums.iter_mut().zip(&weights).for_each(|(sum, &w)| *sum += whole(w));
        }
        (shard.len(), sums)
    };
    let add = |(rows, mut sums): (usize, Vec<i128>), (more, others): (usize, Vec<i128>)| {
        sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += other);
        (rows + more, sums)
    };
    let (rows, sums) = shards.par_iter().map(part).reduce(|| (0, vec![0; layout.dim]), add);
    sums.iter().map(|&sum| (sum as f64 / UNIT / rows.max(1) as f64) as f32).collect()
}
