//! Batches of whole sequences, for models that learn from every element of one.

use std::sync::Arc;

use millstream_data::Interactions;
use millstream_models::retriever::Scope;
use millstream_schema::examples::Action;
use millstream_schema::{Assembler, Batch, BatchSource, Columns, Error, Examples};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use crate::Sampling;

/// Draws that may hit an item of the sequence itself before one such is taken after all.
const TRIES: usize = 16;

/// How whole sequences are batched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WholeOptions {
    /// Sequences per batch, above 0.
    pub batch_size: usize,
    /// Latest elements of a sequence that are learned from, above 0.
    pub longest: usize,
    /// Negatives per batch, sequence or element, as `scope` says.
    pub negatives: usize,
    /// Which elements a negative is for.
    pub scope: Scope,
    /// Seeds the order and the draws.
    pub seed: u64,
    /// Batches left out at the start: those that a killed run had done.
    pub skip_batches: u64,
}

/// One pass over the training sequences in a seeded order. A request is a user with the sequence of items but the last as
/// history; the candidates are the items that follow each element, all of the batch's, then the negatives.
///
/// Where each sequence or element has negatives of its own, none is an item of that sequence (but after so many
/// draws in vain).
pub struct WholeSequences {
    sequences: Arc<Interactions>,
    assembler: Arc<Assembler>,
    sampling: Arc<Sampling>,
    options: WholeOptions,
    tasks: usize,
    order: Vec<u32>,
    at: u64,
}

/// Users whose sequence has an element and one that follows.
pub fn learnable(sequences: &Interactions) -> Vec<u32> {
    (0..sequences.users() as u32).filter(|&u| sequences.items_of(u).len() > 1).collect()
}

impl WholeSequences {
    /// The pass; `tasks` is T of the labels.
    ///
    /// # Errors
    /// A batch size or length of 0, or sampling over another catalogue.
    pub fn new(
        sequences: Arc<Interactions>,
        assembler: Arc<Assembler>,
        sampling: Arc<Sampling>,
        (options, tasks): (WholeOptions, usize),
    ) -> Result<Self, Error> {
        if options.batch_size == 0 || options.longest == 0 {
            return Err(Error::Config("whole sequences need a batch size and a history above 0".into()));
        }
        if sampling.negatives.len() != assembler.items() {
            return Err(Error::Corrupt("negatives are drawn from another catalogue".into()));
        }
        let mut order = learnable(&sequences);
        let mut rng = Pcg64Mcg::seed_from_u64(options.seed);
        for i in (1..order.len()).rev() {
            order.swap(i, rng.random_range(0..=i));
        }
        Ok(Self { sequences, assembler, sampling, at: options.skip_batches, options, tasks, order })
    }

    /// The examples of batch `number`; none after the last.
    fn examples(&self, number: u64) -> Result<Option<Examples>, Error> {
        let size = self.options.batch_size;
        let users = self.order.chunks(size).nth(number as usize);
        let Some(users) = users else { return Ok(None) };
        let mut x = Examples { tasks: self.tasks, ..Examples::default() };
        for (row, &user) in users.iter().enumerate() {
            let span = self.latest(user);
            let action = |at: usize| Action {
                item: self.sequences.items[at],
                time_ms: self.sequences.time_ms[at],
                kind: self.sequences.kind[at],
                value: self.sequences.value[at],
            };
            x.request_user.push(user);
            x.request_time_ms.push(self.sequences.time_ms[span.end - 1]);
            x.candidate_item.extend_from_slice(&self.sequences.items[span.start + 1..span.end]);
            x.candidate_request.resize(x.candidate_item.len(), row as u32);
            x.history.push((span.start..span.end - 1).map(action));
        }
        x.labels = vec![1.0; x.candidates() * self.tasks];
        self.draw(users, number, &mut x);
        x.labels.resize(x.candidates() * self.tasks, 0.0);
        x.context = self.assembler.encoder().context_defaults(x.requests())?;
        x.exposure = self.exposure(x.candidates())?;
        Ok(Some(x))
    }

    fn exposure(&self, rows: usize) -> Result<Columns, Error> {
        self.assembler.encoder().exposure_defaults(rows)
    }

    /// Places of the elements that a user's sequence is learned from, and of the one after them.
    fn latest(&self, user: u32) -> std::ops::Range<usize> {
        let offsets = &self.sequences.offsets;
        let (start, end) = (offsets[user as usize] as usize, offsets[user as usize + 1] as usize);
        start.max(end.saturating_sub(self.options.longest + 1))..end
    }

    /// Appends the negatives.
    fn draw(&self, users: &[u32], number: u64, x: &mut Examples) {
        let mut rng =
            Pcg64Mcg::seed_from_u64(self.options.seed ^ (number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let last = users.len() as u32 - 1;
        match self.options.scope {
            Scope::Catalogue => x.candidate_item.extend(0..self.assembler.items() as u32),
            Scope::Batch => {
                let drawn = (0..self.options.negatives).map(|_| self.sampling.negatives.draw(&mut rng));
                x.candidate_item.extend(drawn);
            }
            Scope::Sequence | Scope::Element => {
                for &user in users {
                    let mut own = self.sequences.items_of(user).to_vec();
                    own.sort_unstable();
                    let each = match self.options.scope {
                        Scope::Element => self.latest(user).len() - 1,
                        _ => 1,
                    };
                    for _ in 0..each * self.options.negatives {
                        let mut item = self.sampling.negatives.draw(&mut rng);
                        for _ in 1..TRIES {
                            if own.binary_search(&item).is_err() {
                                break;
                            }
                            item = self.sampling.negatives.draw(&mut rng);
                        }
                        x.candidate_item.push(item);
                    }
                }
            }
        }
        x.candidate_request.resize(x.candidate_item.len(), last);
    }
}

impl BatchSource for WholeSequences {
    fn next_batch(&mut self) -> Result<Option<Batch>, Error> {
        let examples = self.examples(self.at)?;
        self.at += 1;
        examples.map(|x| self.assembler.batch(&x)).transpose()
    }
}
