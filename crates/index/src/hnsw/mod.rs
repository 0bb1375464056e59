//! A graph walked greedily towards ever better items: hierarchical navigable small worlds (Malkov and
//! Yashunin, TPAMI 2018).
//!
//! Differences from the paper: by inner product, the best are linked (Morozov and Babenko, NeurIPS 2018), told apart
//! by direction, and lists are filled up; the upper levels are walked by a narrow beam, so that clusters are not
//! missed; levels follow from seed and item alone; walks may compare int8 copies, whose best are scored again; filters
//! apply during the walk, with an exact scan when too few items pass; removal bridges the gap; a link leads to every
//! item.
//!
//! Searches never wait for changes: nodes are written once, links are atomics, and when the places are used up
//! the living move to other memory while searches go on in the old.

mod arena;
mod beam;
mod coarse;
mod config;
mod file;
mod insert;
mod lengths;
mod level;
mod search;
mod walk;

pub use config::HnswConfig;
pub use walk::{Candidates, DotScorer, Scorer};

use crate::error::{Error, Result};
use crate::flat::check_lengths;
use crate::hit::Hit;
use crate::index::{Index, IndexMut, KeepEach, Metric, prepare_batch};
use crate::rows::check_dim;
use arena::{Arena, Room};
use beam::{MAX_NODES, Pool};
use coarse::Frame;
use insert::{Linker, batch_len};
use lengths::Lengths;
use level::level_of;
use millstream_schema::ItemRow;
use rayon::prelude::*;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Places at first.
const FIRST_ROOM: usize = 64;

/// Vectors that a move looks at to see where copies are to be taken from.
const SAMPLE: usize = 1 << 16;

/// How far [`Hnsw::search_with`] goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walk {
    /// Items wanted.
    pub k: usize,
    /// Best items remembered on the way; `k` if that is more.
    pub ef: usize,
    /// The walk ends once more nodes than this were scored on the ground.
    pub budget: usize,
}

/// What a walk brought.
#[derive(Debug, Clone, PartialEq)]
pub struct Walked {
    /// At most `k`, best first, ties by id.
    pub hits: Vec<Hit>,
    /// Nodes scored on the way.
    pub scored: usize,
    /// Whether it came to its own end within the budget.
    pub complete: bool,
}

/// An approximate index. The same items in the same order give the same graph, on any number of threads, when
/// they come in the same portions: all to [`Hnsw::build`], or one after the other to [`IndexMut::upsert`].
///
/// Searches and changes may go on side by side: searches never wait, changes wait for one another. A search that
/// starts after [`IndexMut::remove`] returned does not find the item; one that starts after
/// [`IndexMut::upsert`] returned can: a link leads to its node, though the search is approximate as ever.
///
/// Bytes per item: `4`, `2` or `1` times D rounded up to a multiple of 16 by storage, as much as int8 again when
/// coarse, about `9·m`, and some 60 for the rest. While the living move to other memory, once in a number of
/// insertions of about half the items, twice that.
#[derive(Debug)]
pub struct Hnsw {
    config: HnswConfig,
    /// What searches walk; replaced as a whole when nodes move.
    current: RwLock<Arc<Arena>>,
    writer: Mutex<Writer>,
    /// Grows by 1 before and after items change from one node to another, so it is odd for that moment.
    replaced: AtomicU64,
    pool: Pool,
}

/// What only changes need.
#[derive(Debug, Default)]
struct Writer {
    lengths: Lengths,
    /// See [`Linker::incoming`].
    incoming: Vec<AtomicU32>,
    /// Places after which the living move.
    room: usize,
}

impl Hnsw {
    /// An empty index of vectors of `dim` numbers.
    ///
    /// # Errors
    /// [`Error::Input`] when a number is outside its range, [`Error::Memory`] when there is no memory.
    pub fn new(dim: usize, metric: Metric, config: HnswConfig) -> Result<Self> {
        check_dim(dim)?;
        config.check()?;
        let frame = config.copies().then(|| Frame::plain(dim));
        let arena = Arena::zeroed((dim, metric), &config, Room::for_nodes(FIRST_ROOM, config.m), frame)?;
        Ok(Self::from_parts(config, arena, Writer { room: FIRST_ROOM, ..Writer::default() }))
    }

    fn from_parts(config: HnswConfig, arena: Arena, writer: Writer) -> Self {
        let (current, writer) = (RwLock::new(Arc::new(arena)), Mutex::new(writer));
        Self { config, current, writer, replaced: AtomicU64::new(0), pool: Pool::default() }
    }

    /// An index over `items` with `vectors`, `[items.len(), D]`; of an item named twice the last counts. Uses
    /// rayon's threads.
    ///
    /// # Errors
    /// [`Error::Input`] when the lengths do not match or a number is outside its range, [`Error::Memory`] when
    /// there is no memory.
    pub fn build(
        metric: Metric,
        config: HnswConfig,
        dim: usize,
        items: &[ItemRow],
        vectors: &[f32],
    ) -> Result<Self> {
        check_dim(dim)?;
        config.check()?;
        check_lengths(dim, items, vectors)?;
        check_nodes(items.len())?;
        let vectors = prepare_all(metric, dim, items, vectors)?;
        let frame = if config.copies() { Frame::fit(dim, &vectors) } else { None };
        let room = Room::for_nodes(items.len().max(FIRST_ROOM), config.m);
        let arena = Arena::zeroed((dim, metric), &config, room, frame)?;
        let index = Self::from_parts(config, arena, Writer { room: room.nodes, ..Writer::default() });
        index.put_all(items, &vectors)?;
        Ok(index)
    }

    /// Puts many items, as [`IndexMut::upsert`] does one; of an item named twice the last counts. They are linked
    /// in portions on rayon's threads, and each can be found when its portion is done.
    ///
    /// # Errors
    /// As [`IndexMut::upsert`]; nothing has changed when a vector is refused.
    pub fn upsert_all(&self, items: &[ItemRow], vectors: &[f32]) -> Result<()> {
        let dim = self.dim();
        check_lengths(dim, items, vectors)?;
        self.put_all(items, &prepare_all(self.metric(), dim, items, vectors)?)
    }

    /// As [`Hnsw::upsert_all`], of vectors that are as they are to be stored.
    fn put_all(&self, items: &[ItemRow], prepared: &[f32]) -> Result<()> {
        let dim = self.dim();
        let last: HashMap<ItemRow, usize> = items.iter().zip(0..).map(|(&item, at)| (item, at)).collect();
        let wanted: Vec<usize> = (0..items.len()).filter(|at| last[&items[*at]] == *at).collect();
        let mut writer = self.writer();
        let mut rest = wanted.as_slice();
        while !rest.is_empty() {
            let (portion, after) = rest.split_at(batch_len(self.len()).min(rest.len()));
            let portion: Vec<(ItemRow, &[f32])> =
                portion.iter().map(|&at| (items[at], &prepared[at * dim..][..dim])).collect();
            self.put(&mut writer, &portion)?;
            rest = after;
        }
        // Not before: what comes later cuts links.
        let arena = self.arena();
        let new: Vec<u32> = {
            let nodes = arena.nodes();
            wanted.iter().filter_map(|&at| nodes.get(&items[at]).copied()).collect()
        };
        self.linker(&arena, &writer).lead_to(&new);
        Ok(())
    }

    /// The configuration.
    pub fn config(&self) -> HnswConfig {
        self.config
    }

    /// Whether walks compare int8 copies: as configured, unless they do not tell these vectors apart well enough
    /// ([`HnswConfig::coarse`]).
    pub fn is_coarse(&self) -> bool {
        self.arena().coarse.is_some()
    }

    /// Changes how many nodes a search remembers.
    ///
    /// # Errors
    /// [`Error::Input`] when `ef` is 0.
    pub fn set_ef_search(&mut self, ef: usize) -> Result<()> {
        let config = HnswConfig { ef_search: ef, ..self.config };
        config.check()?;
        self.config = config;
        Ok(())
    }

    /// What is walked now.
    fn arena(&self) -> Arc<Arena> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn linker<'a>(&'a self, arena: &'a Arena, writer: &'a Writer) -> Linker<'a> {
        let Writer { lengths, incoming, .. } = writer;
        Linker { config: &self.config, arena, lengths, incoming, pool: &self.pool }
    }

    /// Adds nodes for items, each named once, links them, and lets go of the nodes that these items had. The answer is who lost
    /// links to the new ones.
    fn put(&self, writer: &mut Writer, portion: &[(ItemRow, &[f32])]) -> Result<Vec<u32>> {
        let level = |item: ItemRow| level_of(self.config.seed, item, self.config.m);
        let levels = portion.iter().map(|&(item, _)| usize::from(level(item))).sum();
        let arena = self.with_room(writer, portion.len(), levels)?;
        let olds: Vec<u32> = {
            let nodes = arena.nodes();
            portion.iter().filter_map(|(item, _)| nodes.get(item).copied()).collect()
        };
        let new: Vec<u32> =
            portion.iter().map(|&(item, vector)| arena.add(item, level(item), vector)).collect();
        writer.lengths.note(&arena);
        writer.incoming.resize_with(arena.len(), AtomicU32::default);
        let dropped = self.linker(&arena, writer).link(&new, &olds);
        self.replaced.fetch_add(1, AcqRel);
        for (&(item, _), &node) in portion.iter().zip(&new) {
            arena.set_alive(node, true);
            arena.nodes_mut().insert(item, node);
        }
        for &old in &olds {
            arena.set_alive(old, false);
        }
        self.replaced.fetch_add(1, AcqRel);
        olds.iter().for_each(|&old| self.detach(&arena, writer, old));
        Ok(dropped)
    }

    /// Lets go of a dead node's links and of its role as entry.
    fn detach(&self, arena: &Arena, writer: &Writer, node: u32) {
        self.linker(arena, writer).bridge(node);
        if arena.entry() == Some(node) {
            arena.set_entry(arena.highest());
        }
    }

    /// What is walked now, with room for so many nodes more and the sum of their levels.
    fn with_room(&self, writer: &mut Writer, more: usize, levels: usize) -> Result<Arc<Arena>> {
        let arena = self.arena();
        let room = Room::for_nodes(writer.room, self.config.m);
        let enough = arena.len() + more <= room.nodes && arena.upper_after(levels) <= room.upper;
        if enough && arena.fits(more, levels) {
            return Ok(arena);
        }
        if !enough {
            let living = arena.living() + more;
            writer.room = living + (living / 2).max(FIRST_ROOM);
        }
        check_nodes(writer.room)?;
        self.move_to(writer, &arena, enough, levels)
    }

    /// Moves nodes to an arena with the writer's room, and room for levels to come: all of them, or the living.
    fn move_to(&self, writer: &mut Writer, from: &Arena, all: bool, levels: usize) -> Result<Arc<Arena>> {
        let mut room = Room::for_nodes(writer.room, self.config.m);
        room.upper = room.upper.max(from.upper_after(levels));
        let frame = match all {
            true => from.frame().cloned(),
            false if self.config.copies() => Frame::fit(from.dim, &from.sample(SAMPLE)),
            false => None,
        };
        let to = Arena::zeroed((from.dim, from.metric), &self.config, room, frame)?;
        let nodes = 0..from.len() as u32;
        let kept = |node: u32| all || from.is_alive(node);
        let numbers: Vec<Option<u32>> =
            nodes.clone().map(|node| kept(node).then(|| to.add_from(from, node))).collect();
        let mut links = Vec::new();
        for (node, number) in nodes.zip(&numbers) {
            let &Some(number) = number else { continue };
            for level in 0..=from.level(node) {
                links.clear();
                links.extend(from.links(node, level).filter_map(|near| numbers[near as usize]));
                to.set_links(number, level, &links);
            }
            if from.is_alive(node) {
                to.set_alive(number, true);
                to.nodes_mut().insert(from.item(node), number);
            }
        }
        to.set_entry(from.entry().and_then(|entry| numbers[entry as usize]));
        (writer.lengths, writer.incoming) = (Lengths::of(&to), incoming(&to));
        let to = Arc::new(to);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = to.clone();
        Ok(to)
    }
}

/// Vectors `[items.len(), D]` as they are stored and compared, checked.
fn prepare_all(metric: Metric, dim: usize, items: &[ItemRow], vectors: &[f32]) -> Result<Vec<f32>> {
    let mut prepared = Vec::with_capacity(vectors.len());
    for (item, vector) in items.iter().zip(vectors.chunks_exact(dim)) {
        prepared.extend(metric.prepare(&format!("the vector of item {item}"), vector, dim)?);
    }
    Ok(prepared)
}

fn check_nodes(nodes: usize) -> Result<()> {
    if nodes > MAX_NODES {
        return Err(Error::Input(format!("{nodes} nodes are too many, a graph holds at most {MAX_NODES}")));
    }
    Ok(())
}

/// How many links of living nodes lead to each node on the ground.
fn incoming(arena: &Arena) -> Vec<AtomicU32> {
    let mut counts = Vec::new();
    counts.resize_with(arena.len(), AtomicU32::default);
    for node in (0..arena.len() as u32).filter(|&node| arena.is_alive(node)) {
        for to in arena.links(node, 0) {
            counts[to as usize].fetch_add(1, Relaxed);
        }
    }
    counts
}

impl Index for Hnsw {
    fn dim(&self) -> usize {
        self.arena().dim
    }

    fn len(&self) -> usize {
        self.arena().living()
    }

    fn metric(&self) -> Metric {
        self.arena().metric
    }

    fn copy_vector(&self, item: ItemRow, out: &mut [f32]) -> bool {
        let arena = self.arena();
        let node = arena.nodes().get(&item).copied();
        node.filter(|_| out.len() == arena.dim).map(|node| arena.rows.read(node, out)).is_some()
    }

    fn search(&self, query: &[f32], k: usize, keep: &dyn Fn(ItemRow) -> bool) -> Result<Vec<Hit>> {
        let query = self.metric().prepare("the query", query, self.dim())?;
        Ok(self.search_prepared(&query, k, keep))
    }

    fn search_batch(&self, queries: &[f32], k: usize, keep: KeepEach<'_>) -> Result<Vec<Vec<Hit>>> {
        let queries = prepare_batch(self.metric(), queries, self.dim())?;
        Ok(queries
            .par_chunks(self.dim())
            .enumerate()
            .map(|(at, query)| self.search_prepared(query, k, &|item| keep(at, item)))
            .collect())
    }
}

impl IndexMut for Hnsw {
    fn upsert(&self, item: ItemRow, vector: &[f32]) -> Result<()> {
        let vector = self.metric().prepare(&format!("the vector of item {item}"), vector, self.dim())?;
        let mut writer = self.writer();
        let dropped = self.put(&mut writer, &[(item, &vector)])?;
        let arena = self.arena();
        let node = arena.nodes().get(&item).copied();
        let linker = self.linker(&arena, &writer);
        linker.lead_to(node.as_slice());
        linker.look_for(dropped);
        Ok(())
    }

    fn remove(&self, item: ItemRow) -> bool {
        let mut writer = self.writer();
        let arena = self.arena();
        let Some(node) = arena.nodes_mut().remove(&item) else { return false };
        arena.set_alive(node, false);
        self.detach(&arena, &writer, node);
        if arena.living() == 0 {
            // Without the living there is nowhere to begin: the rest has no use any more.
            arena.set_entry(None);
            *writer = Writer { room: FIRST_ROOM, ..Writer::default() };
            let room = Room::for_nodes(FIRST_ROOM, self.config.m);
            // With no memory for an empty one, the places of the old are used up first.
            let frame = self.config.copies().then(|| Frame::plain(arena.dim));
            match Arena::zeroed((arena.dim, arena.metric), &self.config, room, frame) {
                Ok(empty) => *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(empty),
                Err(_) => (writer.lengths, writer.incoming) = (Lengths::of(&arena), incoming(&arena)),
            }
        }
        true
    }
}
