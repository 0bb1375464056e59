//! Changing rows.

use super::{Clock, Table, write};
use crate::config::{RowType, TableConfig};
use crate::error::{Error, Result};
use crate::keys::{NONE, mix};
use crate::layout::Layout;
use crate::optim::Update;
use crate::prefetch::AHEAD;
use crate::rules::Rules;
use crate::shard::Shard;
use std::sync::atomic::Ordering;

/// How one step changes any row of a table.
#[derive(Debug)]
pub(crate) struct Stroke<'a> {
    config: &'a TableConfig,
    layout: Layout,
    update: Update,
    /// The step as rows have it.
    word: u32,
    /// What table and step come to: the source of random rounding.
    stream: u64,
    /// Weights of a bf16 row while they are f32s, `[D]`.
    wide: Vec<f32>,
}

impl<'a> Stroke<'a> {
    /// The change that step `step` makes at this learning rate scale. Ask where the clock's base stands still.
    pub(crate) fn new(rules: &'a Rules, clock: &Clock, step: u64, scale: f32) -> Self {
        Self {
            config: &rules.config,
            layout: rules.layout,
            update: rules.config.optim.at_step(step, scale),
            word: clock.word(step),
            stream: rules.stream ^ mix(step),
            wide: Vec::new(),
        }
    }

    /// Changes `row` by its gradient `[D]`.
    #[inline]
    pub(crate) fn apply(&mut self, row: &mut [f32], key: u64, grad: &[f32]) {
        let (layout, l2) = (self.layout, self.config.l2);
        layout.touch(row, self.word);
        let (weights, state) = row[..layout.live()].split_at_mut(layout.weights);
        match layout.dtype {
            RowType::F32 => self.update.apply(weights, state, grad, l2),
            RowType::Bf16 => {
                self.wide.resize(layout.dim, 0.0);
                layout.read(weights, &mut self.wide);
                self.update.apply(&mut self.wide, state, grad, l2);
                layout.write_dithered(weights, &self.wide, mix(self.stream ^ mix(key)));
            }
        }
    }
}

impl Table {
    pub(crate) fn push(&self, keys: &[u64], grads: &[f32], scale: f32) -> Result<()> {
        self.update(keys, grads, scale, |shard, routed, stroke| self.push_summed(shard, routed, stroke))
    }

    pub(crate) fn push_unique(&self, keys: &[u64], grads: &[f32], scale: f32) -> Result<()> {
        self.update(keys, grads, scale, |shard, routed, stroke| {
            let slots = self.slots(shard, keys, routed.positions, false);
            for (at, (&position, &slot)) in routed.positions.iter().zip(&slots).enumerate() {
                if let Some(&next) = slots.get(at + AHEAD) {
                    shard.prefetch_row(next, self.rules.layout.stride());
                }
                if slot != NONE {
                    stroke.apply(shard.row_mut(slot), keys[position as usize], routed.grad(position));
                }
            }
        })
    }

    /// Checks the arguments, counts the step and hands each shard its part.
    fn update(
        &self,
        keys: &[u64],
        grads: &[f32],
        scale: f32,
        apply: impl Fn(&mut Shard, &Routed<'_>, &mut Stroke<'_>) + Sync,
    ) -> Result<()> {
        let routes = self.route("push", keys, grads.len())?;
        self.refuse_non_finite(keys, grads)?;
        let step = self.clock.step.fetch_add(1, Ordering::SeqCst) + 1;
        self.rebase_if_full(step);
        self.each_shard(&routes, |shard, positions| {
            let routed = Routed { positions, keys, grads, dim: self.rules.layout.dim };
            let shard = &mut *write(shard);
            apply(shard, &routed, &mut Stroke::new(&self.rules, &self.clock, step, scale));
        });
        self.follow_mean(step);
        Ok(())
    }

    /// Sums the gradients of each key in order of position, then updates its row once.
    fn push_summed(&self, shard: &mut Shard, routed: &Routed<'_>, stroke: &mut Stroke<'_>) {
        let slots = self.slots(shard, routed.keys, routed.positions, false);
        let mut pairs: Vec<u64> = (slots.iter().zip(routed.positions))
            .filter(|(slot, _)| **slot != NONE)
            .map(|(&slot, &position)| u64::from(slot) << 32 | u64::from(position))
            .collect();
        pairs.sort_unstable();
        let mut sum = vec![0.0; routed.dim];
        let mut done = 0;
        for run in pairs.chunk_by(|a, b| a >> 32 == b >> 32) {
            done += run.len();
            if let Some(&next) = pairs.get(done + AHEAD) {
                shard.prefetch_row((next >> 32) as u32, self.rules.layout.stride());
            }
            let row = shard.row_mut((run[0] >> 32) as u32);
            let (key, first) = (routed.keys[run[0] as u32 as usize], routed.grad(run[0] as u32));
            if run.len() == 1 {
                stroke.apply(row, key, first);
                continue;
            }
            sum.copy_from_slice(first);
            for &pair in &run[1..] {
                sum.iter_mut().zip(routed.grad(pair as u32)).for_each(|(sum, g)| *sum += g);
            }
            stroke.apply(row, key, &sum);
        }
    }

    fn refuse_non_finite(&self, keys: &[u64], grads: &[f32]) -> Result<()> {
        let finite = |chunk: &[f32]| chunk.iter().fold(true, |all, g| all & g.is_finite());
        if grads.chunks(4096).all(finite) {
            return Ok(());
        }
        let at = grads.iter().position(|g| !g.is_finite()).unwrap_or(0) / self.rules.layout.dim;
        Err(Error::Input(format!(
            "push on table `{}`: the gradient of key {} is not finite",
            self.rules.config.name, keys[at]
        )))
    }
}

/// What one shard gets of a push.
struct Routed<'a> {
    positions: &'a [u32],
    keys: &'a [u64],
    grads: &'a [f32],
    dim: usize,
}

impl Routed<'_> {
    #[inline]
    fn grad(&self, position: u32) -> &[f32] {
        let at = position as usize * self.dim;
        &self.grads[at..at + self.dim]
    }
}
