//! Lists of many rows by several workers within a budget of memory.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rayon::prelude::*;

use crate::Error;
use crate::recall::lists::InvertedLists;
use crate::recall::top::Top;

/// Rows of one unit of parallel work.
const BLOCK: usize = 32;
/// Bytes of an entry while blocks are joined: in its block, whose vector may own twice what it needs, and in the lists.
const ENTRY: usize = 24;

/// Which rows are to be counted.
#[derive(Clone, Copy)]
pub(crate) enum Rows<'a> {
    All,
    /// Rising.
    Some(&'a [u32]),
}

impl Rows<'_> {
    /// How many, if there are `all` in all.
    pub(crate) fn count(&self, all: usize) -> usize {
        match self {
            Self::All => all,
            Self::Some(some) => some.len(),
        }
    }

    pub(crate) fn at(&self, place: usize) -> usize {
        match self {
            Self::All => place,
            Self::Some(some) => some[place] as usize,
        }
    }
}

/// What counting may hold besides its input, and for whom it says so.
#[derive(Clone, Copy)]
pub(crate) struct Budget {
    /// Name of the model.
    pub(crate) model: &'static str,
    /// MiB; 0 for no bound.
    pub(crate) mib: usize,
}

/// What counting takes.
pub(crate) struct Size {
    /// Bytes whatever the number of workers.
    pub(crate) fixed: usize,
    /// Bytes of one worker, without the best of its row.
    pub(crate) worker: usize,
    /// Lists to be made.
    pub(crate) rows: usize,
    /// Rows that may stand in a list.
    pub(crate) columns: usize,
    /// Entries kept per list; 0 for all.
    pub(crate) neighbours: usize,
}

/// How a budget is shared out.
pub(crate) struct Share {
    workers: usize,
    /// Entries that may be held in all.
    entries: usize,
}

impl Budget {
    /// # Errors
    /// It is too small for one worker and the lists.
    pub(crate) fn share(&self, size: &Size) -> Result<Share, Error> {
        let threads = rayon::current_num_threads().max(1);
        if self.mib == 0 {
            return Ok(Share { workers: threads, entries: usize::MAX });
        }
        let worker = size.worker + Top::bytes(size.neighbours, size.columns);
        // Also the lists' ends, and what blocks own besides their entries.
        let fixed = size.fixed + size.rows * 16 + size.rows.div_ceil(BLOCK) * 96;
        let least = size.rows.saturating_mul(size.neighbours.min(size.columns)).saturating_mul(ENTRY);
        let (need, total) = (fixed + worker + least, self.mib << 20);
        if need > total {
            return Err(Error::Config(format!(
                "{}: `memory_mib` is {}, but {} lists of {} neighbours may take {} MiB; lower `neighbours` or raise \
                 `memory_mib`",
                self.model,
                self.mib,
                size.rows,
                size.neighbours,
                need.div_ceil(1 << 20)
            )));
        }
        let workers = ((total - fixed - least) / worker).clamp(1, threads);
        Ok(Share { workers, entries: (total - fixed - workers * worker) / ENTRY })
    }

    fn check(&self, held: usize, share: &Share) -> Result<(), Error> {
        if held <= share.entries {
            return Ok(());
        }
        Err(Error::Config(format!(
            "{}: `memory_mib` is {}, and all neighbours of all rows take more; set `neighbours` or raise `memory_mib`",
            self.model, self.mib
        )))
    }
}

/// Neighbours of some rows that follow each other.
struct Block {
    from: usize,
    counts: Vec<u32>,
    entries: Vec<(u32, f32)>,
}

/// The lists of places 0, 1, … of which `one` offers the neighbours; `scratch` is made once per worker. The result does not depend
/// on the number of workers.
///
/// # Errors
/// The budget is too small.
pub(crate) fn lists_of<S>(
    size: &Size,
    budget: Budget,
    scratch: &(dyn Fn() -> S + Sync),
    one: &(dyn Fn(&mut S, usize, &mut Top) + Sync),
) -> Result<InvertedLists, Error> {
    let share = budget.share(size)?;
    let (next, held) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = |_| -> Result<Vec<Block>, Error> {
        let (mut scratch, mut top) = (scratch(), Top::new(size.neighbours));
        let (mut done, mut expected) = (Vec::new(), 0);
        loop {
            let from = next.fetch_add(BLOCK, Relaxed);
            if from >= size.rows {
                return Ok(done);
            }
            let range = from..(from + BLOCK).min(size.rows);
            let block = block(range, expected, &mut top, |at, top| one(&mut scratch, at, top));
            expected = block.entries.len();
            budget.check(held.fetch_add(block.entries.len(), Relaxed) + block.entries.len(), &share)?;
            done.push(block);
        }
    };
    let done: Vec<Vec<Block>> = (0..share.workers).into_par_iter().map(work).collect::<Result<_, _>>()?;
    let mut blocks: Vec<Block> = done.into_iter().flatten().collect();
    blocks.sort_unstable_by_key(|b| b.from);
    Ok(joined(budget.model, blocks, size.rows))
}

/// Room is made for as many entries as are `expected`: about as many as the block before had.
fn block(range: Range<usize>, expected: usize, top: &mut Top, mut one: impl FnMut(usize, &mut Top)) -> Block {
    let counts = Vec::with_capacity(range.len());
    let mut block = Block { from: range.start, counts, entries: Vec::with_capacity(expected) };
    for at in range {
        one(at, top);
        block.counts.push(top.drain_into(&mut block.entries) as u32);
    }
    block
}

fn joined(kind: &str, blocks: Vec<Block>, rows: usize) -> InvertedLists {
    let mut offsets = Vec::with_capacity(rows + 1);
    let mut entries = vec![(0, 0.0); blocks.iter().map(|b| b.entries.len()).sum()];
    offsets.push(0);
    let (mut rest, mut places) = (&mut entries[..], Vec::with_capacity(blocks.len()));
    for block in blocks {
        for count in &block.counts {
            offsets.push(offsets[offsets.len() - 1] + u64::from(*count));
        }
        let (place, later) = rest.split_at_mut(block.entries.len());
        rest = later;
        places.push((place, block));
    }
    // Half of the time goes into memory that is touched for the first time, and given back.
    places.into_par_iter().for_each(|(place, block)| place.copy_from_slice(&block.entries));
    InvertedLists::new(kind, offsets, entries)
}
