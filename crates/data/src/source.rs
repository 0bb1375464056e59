//! Batches from a block file, in constant memory: a thread reads and assembles ahead of the trainer.
//!
//! With a shuffle seed, blocks are read in a seeded order, several of them form a pool, and the pool's
//! requests are shuffled; without one, the order is that of the file. Requests are never cut: a batch
//! holds whole requests, up to `batch_size` candidates (more only where one request alone has more).
//! What is left of a pool opens the next one, so that all batches but the last are full.
//!
//! Memory: one pool (about [`POOL_BLOCKS`] blocks, or four batches) and three assembled batches.

use std::sync::Arc;

use millstream_schema::{Assembler, Batch, BatchSource, Examples};

use crate::Error;
use crate::ahead::{Ahead, Outlet};
use crate::blocks::{BLOCK_CANDIDATES, BlockReader};
use crate::negatives::next;

/// Blocks per shuffle pool, at least.
pub const POOL_BLOCKS: usize = 16;
/// Batches assembled ahead.
const AHEAD: usize = 2;

/// How a [`Source`] walks its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceOptions {
    /// Candidates per batch, above 0.
    pub batch_size: usize,
    /// Seed of the order; the order of the file when absent.
    pub shuffle: Option<u64>,
    /// Batches left out at the start: those that a killed run had done. They are cut, not assembled.
    pub skip_batches: u64,
}

/// Changes the examples of a batch before they are assembled; told the number of the batch, skipped ones
/// counted, so that what it draws does not depend on where a run was broken off.
pub type Edit = Box<dyn FnMut(&mut Examples, u64) -> Result<(), millstream_schema::Error> + Send>;

/// Batches of one pass over a block file.
#[derive(Debug)]
pub struct Source {
    batches: Ahead<Box<Batch>>,
}

impl Source {
    /// Starts reading.
    ///
    /// # Errors
    /// Batch size 0, or no thread to be had.
    pub fn start(
        blocks: BlockReader,
        assembler: Arc<Assembler>,
        options: SourceOptions,
    ) -> Result<Self, Error> {
        Self::start_with(blocks, assembler, options, Box::new(|_, _| Ok(())))
    }

    /// As [`Source::start`], with each batch's examples changed before they are assembled.
    ///
    /// # Errors
    /// As [`Source::start`].
    pub fn start_with(
        blocks: BlockReader,
        assembler: Arc<Assembler>,
        options: SourceOptions,
        mut edit: Edit,
    ) -> Result<Self, Error> {
        if options.batch_size == 0 {
            return Err(Error::Config("the batch size must be above 0".into()));
        }
        let work = move |outlet: &Outlet<Box<Batch>>| {
            let walk = Walk::new(blocks, options);
            send_batches(walk, &assembler, (options.skip_batches, &mut edit), outlet)
        };
        Ok(Self { batches: Ahead::start("batches", AHEAD, work)? })
    }
}

impl BatchSource for Source {
    fn next_batch(&mut self) -> Result<Option<Batch>, millstream_schema::Error> {
        Ok(self.batches.next()?.map(|batch| *batch))
    }
}

fn send_batches(
    mut walk: Walk,
    assembler: &Assembler,
    (mut number, edit): (u64, &mut Edit),
    outlet: &Outlet<Box<Batch>>,
) -> Result<(), Error> {
    while let Some(mut examples) = walk.next()? {
        edit(&mut examples, number)?;
        number += 1;
        let batch = assembler.batch(&examples)?;
        if !outlet.give(Box::new(batch)) {
            return Ok(());
        }
    }
    Ok(())
}

/// Cuts the examples of a file into batches.
struct Walk {
    blocks: BlockReader,
    options: SourceOptions,
    /// Blocks in reading order, and how many were read.
    order: Vec<u32>,
    read: usize,
    rng: u64,
    pool: Examples,
    /// Requests of the pool in the order they go out, their candidates, and how many are gone.
    requests: Vec<u32>,
    sizes: Vec<u32>,
    gone: usize,
    skip: u64,
}

impl Walk {
    fn new(blocks: BlockReader, options: SourceOptions) -> Self {
        let mut order: Vec<u32> = (0..blocks.entries().len() as u32).collect();
        let mut rng = options.shuffle.unwrap_or(0);
        if options.shuffle.is_some() {
            shuffle(&mut order, &mut rng);
        }
        Self {
            order,
            rng,
            blocks,
            options,
            read: 0,
            pool: Examples::default(),
            requests: Vec::new(),
            sizes: Vec::new(),
            gone: 0,
            skip: options.skip_batches,
        }
    }

    /// The next batch's examples.
    fn next(&mut self) -> Result<Option<Examples>, Error> {
        loop {
            let mut end = self.cut();
            if end.is_none() && self.read < self.order.len() {
                self.refill()?;
                continue;
            }
            // The last batch takes what there is.
            end = end.or((self.gone < self.requests.len()).then_some(self.requests.len()));
            let Some(end) = end else { return Ok(None) };
            let start = std::mem::replace(&mut self.gone, end);
            if self.skip == 0 {
                return Ok(Some(self.pool.gather(&self.requests[start..end])));
            }
            self.skip -= 1;
        }
    }

    /// Where a full batch ends; `None` when the pool does not hold one for certain.
    fn cut(&self) -> Option<usize> {
        let mut candidates = 0;
        for at in self.gone..self.requests.len() {
            candidates += self.sizes[self.requests[at] as usize] as usize;
            if candidates > self.options.batch_size {
                return Some(at.max(self.gone + 1));
            }
            if candidates == self.options.batch_size {
                return Some(at + 1);
            }
        }
        None
    }

    /// What is left, then the next blocks, in a new order.
    fn refill(&mut self) -> Result<(), Error> {
        let shuffled = self.options.shuffle.is_some();
        let mut pool = self.pool.gather(&self.requests[self.gone..]);
        let wanted = if shuffled {
            POOL_BLOCKS.max((4 * self.options.batch_size).div_ceil(BLOCK_CANDIDATES))
        } else {
            1
        };
        for _ in 0..wanted {
            let Some(&block) = self.order.get(self.read) else { break };
            pool.append(&self.blocks.read(block as usize)?)?;
            self.read += 1;
        }
        self.pool = pool;
        self.gone = 0;
        self.requests = (0..self.pool.requests() as u32).collect();
        self.sizes = vec![0; self.requests.len()];
        self.pool.candidate_request.iter().for_each(|&r| self.sizes[r as usize] += 1);
        if shuffled {
            shuffle(&mut self.requests, &mut self.rng);
        }
        Ok(())
    }
}

/// Fisher–Yates.
fn shuffle(values: &mut [u32], rng: &mut u64) {
    for i in (1..values.len()).rev() {
        // 32 random bits times the range: the bias is below one in a million for our lengths.
        let at = ((next(rng) >> 32) * (i as u64 + 1)) >> 32;
        values.swap(i, at as usize);
    }
}

#[cfg(test)]
mod tests;
