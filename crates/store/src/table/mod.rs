mod expire;
mod follow;
mod mean;
mod order;
mod pull;
mod push;
mod route;

use crate::config::TableConfig;
use crate::counts::Counts;
use crate::error::{Error, Result};
use crate::keys::NONE;
use crate::prefetch::AHEAD;
use crate::rules::Rules;
use crate::shard::Shard;
pub(crate) use expire::{is_zero, rebase};
pub(crate) use follow::CountsError;
pub(crate) use mean::mean_of_rows;
pub(crate) use order::Rows;
pub(crate) use push::Stroke;
use rayon::prelude::*;
use route::Routes;
pub(crate) use route::shard_of;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Floats moved by a call below which threads cost more than they bring.
const PARALLEL_FLOATS: usize = 16 * 1024;

#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) rules: Rules,
    pub(crate) clock: Clock,
    /// The default row of [`DefaultRow::Mean`](crate::DefaultRow::Mean).
    pub(crate) mean: RwLock<Vec<f32>>,
    shards: Box<[RwLock<Shard>]>,
}

/// What a table counts.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// Pushes so far.
    pub(crate) step: AtomicU64,
    /// Step from which the words of rows count.
    pub(crate) base: AtomicU64,
    /// Expiries so far.
    pub(crate) expiries: AtomicU64,
    /// The last expiry whose dropped rows are no longer known.
    pub(crate) buried: AtomicU64,
}

impl Clock {
    pub(crate) fn step(&self) -> u64 {
        self.step.load(Ordering::SeqCst)
    }

    pub(crate) fn base(&self) -> u64 {
        self.base.load(Ordering::SeqCst)
    }

    pub(crate) fn expiries(&self) -> u64 {
        self.expiries.load(Ordering::SeqCst)
    }

    pub(crate) fn buried(&self) -> u64 {
        self.buried.load(Ordering::SeqCst)
    }

    /// `step` as the words of rows have it; ask where the base stands still, under a shard's lock for one.
    pub(crate) fn word(&self, step: u64) -> u32 {
        u32::try_from(step.saturating_sub(self.base())).unwrap_or(u32::MAX)
    }

    /// The word of the step to come.
    pub(crate) fn coming(&self) -> u32 {
        self.word(self.step() + 1)
    }
}

// A panic elsewhere while a lock was held leaves rows that are whole floats, so poison is ignored.
pub(crate) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

fn own<T>(lock: &mut RwLock<T>) -> &mut T {
    lock.get_mut().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    /// `shards` must be a power of two.
    pub(crate) fn new(config: TableConfig, shards: usize) -> Self {
        let counts = || config.admission.map(|admission| Counts::new(admission, shards));
        let rules = Rules::new(config.clone());
        let stride = rules.layout.stride();
        let parts = (0..shards).map(|_| RwLock::new(Shard::new(stride, counts()))).collect();
        let mean = RwLock::new(vec![0.0; config.dim]);
        Self { rules, clock: Clock::default(), mean, shards: parts }
    }

    pub(crate) fn config(&self) -> &TableConfig {
        &self.rules.config
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| read(shard).len()).sum()
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.shards.iter().map(|shard| read(shard).memory_bytes()).sum()
    }

    /// What a table that nobody else has is made of.
    pub(crate) fn parts_mut(&mut self) -> (&Rules, &Clock, &RwLock<Vec<f32>>, Vec<&mut Shard>) {
        (&self.rules, &self.clock, &self.mean, self.shards.iter_mut().map(own).collect())
    }

    /// The slot of each key. Where the table admits every key new rows are made as needed; else they are
    /// made only if `sight` says that this is a sighting and it makes enough, and the others are `NONE`.
    fn slots(&self, shard: &mut Shard, keys: &[u64], positions: &[u32], sight: bool) -> Vec<u32> {
        let (rules, word) = (&self.rules, self.clock.coming());
        let mut slots = Vec::with_capacity(positions.len());
        for (at, &position) in positions.iter().enumerate() {
            if let Some(&next) = positions.get(at + AHEAD) {
                shard.prefetch_key(keys[next as usize]);
            }
            let key = keys[position as usize];
            slots.push(rules.slot(shard, key, word, sight));
        }
        if sight && rules.config.admission.is_some() {
            // A key that was let in at a repeat in this very call has its row at every place.
            for (slot, &position) in slots.iter_mut().zip(positions).filter(|(slot, _)| **slot == NONE) {
                *slot = shard.get(keys[position as usize]);
            }
        }
        slots
    }

    /// Runs `work` on every shard that has positions, in parallel when there is enough to do.
    fn each_shard(&self, routes: &Routes, work: impl Fn(&RwLock<Shard>, &[u32]) + Sync) {
        let one = |at: usize| {
            let positions = routes.of(at);
            if !positions.is_empty() {
                work(&self.shards[at], positions);
            }
        };
        if routes.len() * self.rules.layout.dim < PARALLEL_FLOATS {
            (0..self.shards.len()).for_each(one);
        } else {
            (0..self.shards.len()).into_par_iter().for_each(one);
        }
    }

    fn route(&self, verb: &str, keys: &[u64], floats: usize) -> Result<Routes> {
        check_sizes(&self.rules.config, verb, keys, floats)?;
        Ok(Routes::new(keys, self.shards.len()))
    }
}

/// Refuses keys and floats that do not fit one another.
pub(crate) fn check_sizes(config: &TableConfig, verb: &str, keys: &[u64], floats: usize) -> Result<()> {
    let (name, dim) = (&config.name, config.dim);
    if keys.len() >= u32::MAX as usize || Some(floats) != keys.len().checked_mul(dim) {
        return Err(Error::Input(format!(
            "{verb} on table `{name}`: {} keys of dim {dim} do not fit {floats} floats",
            keys.len()
        )));
    }
    Ok(())
}
