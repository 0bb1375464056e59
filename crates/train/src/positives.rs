//! Batches of single positives, cut from the actions themselves: nothing but the actions need be stored.

use std::sync::Arc;

use millstream_data::Interactions;
use millstream_schema::examples::Action;
use millstream_schema::{Assembler, Batch, BatchSource, Error, Examples};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

use crate::Sampling;

/// What a positive's request knows of its user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Past {
    /// The actions before it.
    #[default]
    Before,
    /// All other actions of the part: for sets, which tell of no order. None is of the positive's item.
    Others,
}

/// How positives are batched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PositivesOptions {
    /// Positives per batch, above 0.
    pub batch_size: usize,
    /// What a request knows of its user; nothing when absent, and then batches hold no columns: for models of a graph, which
    /// have their rows already.
    pub past: Option<Past>,
    /// Latest so many of those actions.
    pub longest: usize,
    /// Items drawn for a batch.
    pub negatives: usize,
    /// Seeds the order and the draws.
    pub seed: u64,
    /// Batches left out at the start: those that a killed run had done.
    pub skip_batches: u64,
}

/// One pass over all positives in a seeded order: a request each, whose positive is the candidate of the same place, then the drawn items.
pub struct EachPositive {
    actions: Arc<Interactions>,
    assembler: Arc<Assembler>,
    sampling: Arc<Sampling>,
    options: PositivesOptions,
    tasks: usize,
    /// Users by action.
    user: Vec<u32>,
    order: Vec<u32>,
    at: u64,
}

impl EachPositive {
    /// The pass; `tasks` is T of the labels.
    ///
    /// # Errors
    /// A batch size of 0, or sampling over another catalogue.
    pub fn new(
        actions: Arc<Interactions>,
        assembler: Arc<Assembler>,
        sampling: Arc<Sampling>,
        (options, tasks): (PositivesOptions, usize),
    ) -> Result<Self, Error> {
        if options.batch_size == 0 {
            return Err(Error::Config("positives need a batch size above 0".into()));
        }
        if sampling.negatives.len() != assembler.items() {
            return Err(Error::Corrupt("negatives are drawn from another catalogue".into()));
        }
        let mut user = Vec::with_capacity(actions.items.len());
        for (u, span) in actions.offsets.windows(2).enumerate() {
            user.resize(span[1] as usize, u as u32);
        }
        let mut order: Vec<u32> = (0..actions.items.len() as u32).collect();
        let mut rng = Pcg64Mcg::seed_from_u64(options.seed);
        for i in (1..order.len()).rev() {
            order.swap(i, rng.random_range(0..=i));
        }
        Ok(Self { actions, assembler, sampling, at: options.skip_batches, options, tasks, user, order })
    }

    /// The actions that a request for this one knows of, oldest first.
    fn past(&self, at: usize, past: Past) -> impl Iterator<Item = Action> + '_ {
        let user = self.user[at] as usize;
        let own = self.actions.offsets[user] as usize..self.actions.offsets[user + 1] as usize;
        let (from, to) = (own.start, if past == Past::Before { at } else { own.end });
        let item = self.actions.items[at];
        let known = move |i: &usize| past == Past::Before || self.actions.items[*i] != item;
        // The latest, and among the others one place more may be the positive's own.
        let mut latest: Vec<usize> = (from..to).rev().filter(known).take(self.options.longest).collect();
        latest.reverse();
        latest.into_iter().map(|i| Action {
            item: self.actions.items[i],
            time_ms: self.actions.time_ms[i],
            kind: self.actions.kind[i],
            value: self.actions.value[i],
        })
    }

    fn batch(&self, number: u64) -> Result<Option<Batch>, Error> {
        let Some(chosen) = self.order.chunks(self.options.batch_size).nth(number as usize) else {
            return Ok(None);
        };
        let r = chosen.len();
        let mut rng =
            Pcg64Mcg::seed_from_u64(self.options.seed ^ (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let drawn = (0..self.options.negatives).map(|_| self.sampling.negatives.draw(&mut rng));
        let mut item: Vec<u32> =
            chosen.iter().map(|at| self.actions.items[*at as usize]).chain(drawn).collect();
        let users: Vec<u32> = chosen.iter().map(|at| self.user[*at as usize]).collect();
        if let Some((log, each)) = &self.sampling.hard {
            for (&at, &user) in chosen.iter().zip(&users) {
                let at = at as usize;
                let asked = (user, self.actions.time_ms[at], self.actions.items[at]);
                log.draw(asked, *each, &mut rng, &mut item);
            }
        }
        let mut labels = vec![1.0; r * self.tasks];
        labels.resize(item.len() * self.tasks, 0.0);
        let candidate_request: Vec<u32> = (0..item.len()).map(|n| n.min(r - 1) as u32).collect();
        let Some(past) = self.options.past else {
            let group = candidate_request.iter().map(|r| users[*r as usize]).collect();
            let (requests, tasks) = (r, self.tasks);
            return Ok(Some(Batch {
                requests,
                candidate_request,
                labels,
                tasks,
                group,
                item,
                ..Batch::default()
            }));
        };
        let mut x = Examples { tasks: self.tasks, labels, ..Examples::default() };
        for at in chosen.iter().map(|at| *at as usize) {
            let end = self.actions.offsets[self.user[at] as usize + 1] as usize;
            let moment = if past == Past::Before { at } else { end - 1 };
            x.request_time_ms.push(self.actions.time_ms[moment]);
            x.history.push(self.past(at, past));
        }
        let encoder = self.assembler.encoder();
        x.context = encoder.context_defaults(r)?;
        x.exposure = encoder.exposure_defaults(item.len())?;
        (x.request_user, x.candidate_request, x.candidate_item) = (users, candidate_request, item);
        self.assembler.batch(&x).map(Some)
    }
}

impl BatchSource for EachPositive {
    fn next_batch(&mut self) -> Result<Option<Batch>, Error> {
        let batch = self.batch(self.at)?;
        self.at += 1;
        Ok(batch)
    }
}
