mod route;

use crate::error::{Error, Result};
use crate::init::RowInit;
use crate::keys::mix;
use crate::optim::{RowOptim, Update};
use crate::prefetch::AHEAD;
use crate::shard::Shard;
use rayon::prelude::*;
use route::{Routes, Scatter};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Floats moved by a call below which threads cost more than they bring.
const PARALLEL_FLOATS: usize = 16 * 1024;

/// The widest row accepted; a larger number in a file is damage.
const MAX_DIM: usize = 1 << 16;

/// What a table holds and how its rows start and learn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableConfig {
    /// Unique in its store.
    pub name: String,
    /// Weights per row, D, from 1 to 65,536.
    pub dim: usize,
    /// How a new row starts.
    pub init: RowInit,
    /// How gradients change a row.
    pub optim: RowOptim,
    /// L2 factor, at least 0; it reaches only the rows that a push touches.
    pub l2: f32,
    /// Seed of the initial rows.
    pub seed: u64,
}

impl TableConfig {
    /// What is wrong with the configuration, if anything.
    pub(crate) fn flaw(&self) -> Option<String> {
        let at_least_0 = |name: &str, x: f32| {
            (!(x >= 0.0 && x.is_finite())).then(|| format!("{name} is {x}, expected at least 0"))
        };
        let dim = (!(1..=MAX_DIM).contains(&self.dim))
            .then(|| format!("dim is {}, expected from 1 to {MAX_DIM}", self.dim));
        dim.or_else(|| at_least_0("l2", self.l2))
            .or_else(|| at_least_0("the spread of init", self.init.spread()))
            .or_else(|| self.optim.flaw())
            .map(|flaw| format!("table `{}`: {flaw}", self.name))
    }

    /// Floats per row: weights and state.
    pub(crate) fn stride(&self) -> usize {
        self.dim + self.optim.state_len(self.dim)
    }
}

#[derive(Debug)]
pub(crate) struct Table {
    config: TableConfig,
    /// What seed and name come to.
    stream: u64,
    /// Pushes so far.
    step: AtomicU64,
    shards: Box<[RwLock<Shard>]>,
}

// A panic elsewhere while a lock was held leaves rows that are whole floats, so poison is ignored.
fn read(shard: &RwLock<Shard>) -> RwLockReadGuard<'_, Shard> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(shard: &RwLock<Shard>) -> RwLockWriteGuard<'_, Shard> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    /// `shards` must be a power of two.
    pub(crate) fn new(config: TableConfig, shards: usize) -> Self {
        let stride = config.stride();
        let stream = xxhash_rust::xxh3::xxh3_64_with_seed(config.name.as_bytes(), config.seed);
        let shards = (0..shards).map(|_| RwLock::new(Shard::new(stride))).collect();
        Self { config, stream, step: AtomicU64::new(0), shards }
    }

    pub(crate) fn config(&self) -> &TableConfig {
        &self.config
    }

    pub(crate) fn step(&self) -> u64 {
        self.step.load(Ordering::SeqCst)
    }

    pub(crate) fn set_step(&self, step: u64) {
        self.step.store(step, Ordering::SeqCst);
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| read(shard).len()).sum()
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.shards.iter().map(|shard| read(shard).memory_bytes()).sum()
    }

    #[allow(unsafe_code)] // rows of one output, written by several threads
    pub(crate) fn pull(&self, keys: &[u64], out: &mut [f32]) -> Result<()> {
        let (dim, routes) = (self.config.dim, self.route("pull", keys, out.len())?);
        let out = Scatter::new(out, dim);
        self.each_shard(&routes, |shard, positions| {
            let shard = read(shard);
            let slots: Vec<_> =
                (keys_of(keys, positions, |key| shard.prefetch_key(key))).map(|key| shard.get(key)).collect();
            for (at, (&position, slot)) in positions.iter().zip(&slots).enumerate() {
                if let Some(Some(next)) = slots.get(at + AHEAD) {
                    shard.prefetch_row(*next, dim);
                }
                // SAFETY: positions are below keys.len(), which `route` compared with `out`, and each
                // lies in one shard's part of the routes, so no two calls share a row.
                let out = unsafe { out.row(position) };
                match slot {
                    Some(slot) => out.copy_from_slice(&shard.row(*slot)[..dim]),
                    None => out.fill(0.0),
                }
            }
        });
        Ok(())
    }

    #[allow(unsafe_code)] // rows of one output, written by several threads
    pub(crate) fn pull_or_init(&self, keys: &[u64], out: &mut [f32]) -> Result<()> {
        let (dim, routes) = (self.config.dim, self.route("pull", keys, out.len())?);
        let out = Scatter::new(out, dim);
        self.each_shard(&routes, |shard, positions| {
            let shard = &mut *write(shard);
            let slots = self.slots(shard, keys, positions);
            for (at, (&position, &slot)) in positions.iter().zip(&slots).enumerate() {
                if let Some(&next) = slots.get(at + AHEAD) {
                    shard.prefetch_row(next, dim);
                }
                // SAFETY: as in `pull`.
                unsafe { out.row(position) }.copy_from_slice(&shard.row(slot)[..dim]);
            }
        });
        Ok(())
    }

    pub(crate) fn push(&self, keys: &[u64], grads: &[f32], scale: f32) -> Result<()> {
        self.update(keys, grads, scale, |shard, routed| self.push_summed(shard, routed))
    }

    pub(crate) fn push_unique(&self, keys: &[u64], grads: &[f32], scale: f32) -> Result<()> {
        self.update(keys, grads, scale, |shard, routed| {
            let slots = self.slots(shard, keys, routed.positions);
            for (at, (&position, &slot)) in routed.positions.iter().zip(&slots).enumerate() {
                if let Some(&next) = slots.get(at + AHEAD) {
                    shard.prefetch_row(next, self.config.stride());
                }
                routed.update.apply(shard.row_mut(slot), routed.grad(position), self.config.l2);
            }
        })
    }

    /// Checks the arguments, counts the step and hands each shard its part.
    fn update(
        &self,
        keys: &[u64],
        grads: &[f32],
        scale: f32,
        apply: impl Fn(&mut Shard, &Routed<'_>) + Sync,
    ) -> Result<()> {
        let routes = self.route("push", keys, grads.len())?;
        self.refuse_non_finite(keys, grads)?;
        let step = self.step.fetch_add(1, Ordering::SeqCst) + 1;
        let update = self.config.optim.at_step(step, scale);
        self.each_shard(&routes, |shard, positions| {
            let routed = Routed { positions, keys, grads, dim: self.config.dim, update };
            apply(&mut write(shard), &routed);
        });
        Ok(())
    }

    /// Sums the gradients of each key in order of position, then updates its row once.
    fn push_summed(&self, shard: &mut Shard, routed: &Routed<'_>) {
        let slots = self.slots(shard, routed.keys, routed.positions);
        let mut pairs: Vec<u64> = (slots.iter().zip(routed.positions))
            .map(|(&slot, &position)| u64::from(slot) << 32 | u64::from(position))
            .collect();
        pairs.sort_unstable();
        let mut sum = vec![0.0; routed.dim];
        let mut done = 0;
        for run in pairs.chunk_by(|a, b| a >> 32 == b >> 32) {
            done += run.len();
            if let Some(&next) = pairs.get(done + AHEAD) {
                shard.prefetch_row((next >> 32) as u32, self.config.stride());
            }
            let row = shard.row_mut((run[0] >> 32) as u32);
            let first = routed.grad(run[0] as u32);
            if run.len() == 1 {
                routed.update.apply(row, first, self.config.l2);
                continue;
            }
            sum.copy_from_slice(first);
            for &pair in &run[1..] {
                sum.iter_mut().zip(routed.grad(pair as u32)).for_each(|(sum, g)| *sum += g);
            }
            routed.update.apply(row, &sum, self.config.l2);
        }
    }

    /// The slot of each key, with new rows made as needed.
    fn slots(&self, shard: &mut Shard, keys: &[u64], positions: &[u32]) -> Vec<u32> {
        let mut slots = Vec::with_capacity(positions.len());
        for (at, &position) in positions.iter().enumerate() {
            if let Some(&next) = positions.get(at + AHEAD) {
                shard.prefetch_key(keys[next as usize]);
            }
            let key = keys[position as usize];
            let (slot, new) = shard.get_or_insert(key);
            if new {
                let (weights, state) = shard.row_mut(slot).split_at_mut(self.config.dim);
                self.config.init.fill(mix(self.stream ^ mix(key)), weights);
                self.config.optim.init_state(state);
            }
            slots.push(slot);
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
        if routes.len() * self.config.dim < PARALLEL_FLOATS {
            (0..self.shards.len()).for_each(one);
        } else {
            (0..self.shards.len()).into_par_iter().for_each(one);
        }
    }

    fn route(&self, verb: &str, keys: &[u64], floats: usize) -> Result<Routes> {
        let (name, dim) = (&self.config.name, self.config.dim);
        if keys.len() >= u32::MAX as usize || Some(floats) != keys.len().checked_mul(dim) {
            return Err(Error::Input(format!(
                "{verb} on table `{name}`: {} keys of dim {dim} do not fit {floats} floats",
                keys.len()
            )));
        }
        Ok(Routes::new(keys, self.shards.len()))
    }

    fn refuse_non_finite(&self, keys: &[u64], grads: &[f32]) -> Result<()> {
        let finite = |chunk: &[f32]| chunk.iter().fold(true, |all, g| all & g.is_finite());
        if grads.chunks(4096).all(finite) {
            return Ok(());
        }
        let at = grads.iter().position(|g| !g.is_finite()).unwrap_or(0) / self.config.dim;
        Err(Error::Input(format!(
            "push on table `{}`: the gradient of key {} is not finite",
            self.config.name, keys[at]
        )))
    }

    /// Puts a whole row (weights and state) as read from a file; `false` when the key is there already.
    pub(crate) fn insert_row(&mut self, key: u64, row: impl Iterator<Item = f32>) -> bool {
        let at = route::shard_of(key, self.shards.len());
        let shard = self.shards[at].get_mut().unwrap_or_else(PoisonError::into_inner);
        let (slot, new) = shard.get_or_insert(key);
        shard.row_mut(slot).iter_mut().zip(row).for_each(|(to, from)| *to = from);
        new
    }

    /// All rows in order of key; pushes wait while the answer is held.
    pub(crate) fn sorted(&self) -> Sorted<'_> {
        let shards: Vec<_> = self.shards.iter().map(read).collect();
        let mut order = Vec::with_capacity(shards.iter().map(|shard| shard.len()).sum());
        for (at, shard) in shards.iter().enumerate() {
            order.extend(shard.iter().map(|(key, slot)| (key, at as u32, slot)));
        }
        order.par_sort_unstable();
        Sorted { shards, order }
    }
}

/// A table standing still, in order of key.
pub(crate) struct Sorted<'a> {
    shards: Vec<RwLockReadGuard<'a, Shard>>,
    order: Vec<(u64, u32, u32)>,
}

impl Sorted<'_> {
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// Keys with their whole rows, weights and state.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (u64, &[f32])> {
        self.order.iter().map(|&(key, at, slot)| (key, self.shards[at as usize].row(slot)))
    }
}

/// The keys at `positions`, each announced to `prefetch` some steps before it comes.
fn keys_of(keys: &[u64], positions: &[u32], prefetch: impl Fn(u64)) -> impl Iterator<Item = u64> {
    positions.iter().enumerate().map(move |(at, &position)| {
        if let Some(&next) = positions.get(at + AHEAD) {
            prefetch(keys[next as usize]);
        }
        keys[position as usize]
    })
}

/// What one shard gets of a push.
struct Routed<'a> {
    positions: &'a [u32],
    keys: &'a [u64],
    grads: &'a [f32],
    dim: usize,
    update: Update,
}

impl Routed<'_> {
    #[inline]
    fn grad(&self, position: u32) -> &[f32] {
        let at = position as usize * self.dim;
        &self.grads[at..at + self.dim]
    }
}
