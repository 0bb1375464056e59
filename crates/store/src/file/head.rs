use crate::config::{RowType, TableConfig};
use crate::layout::Layout;
use serde::{Deserialize, Serialize};

/// What a file says of its tables before any of their rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// Factor of all learning rates.
    pub(crate) scale: f32,
    /// Whether rows come with steps and optimiser state.
    pub(crate) state: bool,
    pub(crate) tables: Vec<TableHead>,
}

/// One table of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TableHead {
    pub(crate) config: TableConfig,
    pub(crate) step: u64,
    /// Step from which the steps of rows count.
    pub(crate) base: u64,
    pub(crate) expiries: u64,
    /// Step and expiries from which a delta goes on; of a snapshot `None`.
    pub(crate) from: Option<(u64, u64)>,
    /// The mean of rows where the table has it as default row, else empty.
    pub(crate) mean: Vec<f32>,
    pub(crate) rows: u64,
    pub(crate) removed: u64,
    /// Bytes of counts.
    pub(crate) counts: u64,
    /// Whether the counts replace those there were.
    pub(crate) all_counts: bool,
}

impl Head {
    /// What is wrong with it, if anything.
    pub(crate) fn flaw(&self) -> Option<String> {
        if !(self.scale >= 0.0 && self.scale.is_finite()) {
            return Some("the learning rate scale is no positive number".into());
        }
        self.tables.iter().enumerate().find_map(|(at, table)| {
            let twice = self.tables[..at].iter().any(|other| other.config.name == table.config.name);
            let mean = table.mean.len();
            let mean = mean != 0 && mean != table.config.dim;
            (twice.then(|| "a table is there twice".to_owned()))
                .or_else(|| table.config.flaw())
                .or_else(|| mean.then(|| format!("the mean of table `{}` is cut", table.config.name)))
        })
    }
}

impl TableHead {
    pub(crate) fn is_delta(&self) -> bool {
        self.from.is_some()
    }
}

/// The number of parts of the index for so many rows.
pub(crate) fn buckets(rows: u64) -> u64 {
    (rows / 8).max(1).next_power_of_two()
}

/// Which of `buckets` parts a hash is in.
#[inline]
pub(crate) fn bucket_of(hash: u64, buckets: u64) -> u64 {
    ((u128::from(hash) * u128::from(buckets)) >> 64) as u64
}

impl Layout {
    /// Bytes of a row's weights in a file.
    pub(crate) fn weight_bytes(self) -> usize {
        match self.dtype {
            RowType::F32 => 4 * self.dim,
            RowType::Bf16 => 2 * self.dim,
        }
    }
}
