//! The nodes of a graph in memory: vectors, links, items. One writer adds nodes and changes links while any
//! number of readers walk.
#![allow(unsafe_code)]

use super::HnswConfig;
use super::coarse::{Coarse, Frame};
use super::level::MAX_LEVEL;
use crate::block::Block;
use crate::error::{Error, Result};
use crate::index::Metric;
use crate::rows::{Query, Rows};
use millstream_schema::ItemRow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A fixed number of places for nodes. Places are given out in order and never again: a removed node's stays
/// empty until the living move to another arena.
///
/// A node's vector, item and level are written before its number is published by [`Arena::publish`] or a link
/// and never after; links, the mark of life and the entry are atomics.
#[derive(Debug)]
pub(super) struct Arena {
    pub(super) metric: Metric,
    pub(super) dim: usize,
    m: usize,
    room: usize,
    pub(super) rows: Rows,
    /// The vectors once more as int8, for walking; see [`HnswConfig::coarse`].
    pub(super) coarse: Option<Coarse>,
    pub(super) items: Block<u32>,
    pub(super) levels: Block<u8>,
    /// 1 where a node holds an item.
    pub(super) alive: Block<AtomicU32>,
    /// `2m` links per node; a link is a node's number plus 1, and the first 0 ends them.
    pub(super) ground: Block<AtomicU32>,
    /// `m` links per node and level above the ground.
    pub(super) upper: Block<AtomicU32>,
    /// Where a node's part of `upper` starts.
    pub(super) upper_at: Block<u32>,
    pub(super) upper_used: AtomicU32,
    pub(super) len: AtomicU32,
    pub(super) living: AtomicU32,
    /// Number plus 1 of the node where walks begin; 0 when there is none.
    pub(super) entry: AtomicU32,
    /// Which node holds an item.
    nodes: RwLock<HashMap<ItemRow, u32>>,
}

/// How much an arena has room for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) nodes: usize,
    /// Links above the ground.
    pub(super) upper: usize,
}

impl Room {
    /// Enough for these nodes, whose levels are drawn by chance: mean plus eight standard deviations.
    pub(super) fn for_nodes(nodes: usize, m: usize) -> Self {
        let (n, share) = (nodes as f64, 1.0 / (m as f64 - 1.0));
        let parts = n * share + 8.0 * (n * share * (1.0 + 2.0 * share)).sqrt() + f64::from(MAX_LEVEL);
        Self { nodes, upper: (parts.ceil() as usize) * m }
    }
}

impl Arena {
    /// An empty one; with a frame, walks compare copies in it.
    pub(super) fn zeroed(
        (dim, metric): (usize, Metric),
        config: &HnswConfig,
        room: Room,
        frame: Option<Frame>,
    ) -> Result<Self> {
        let nodes = room.nodes;
        let rows = Rows::zeroed(config.storage, dim, nodes)?;
        let coarse = frame.map(|frame| Coarse::zeroed(frame, nodes)).transpose()?;
        let parts = Parts {
            rows,
            coarse,
            items: block(nodes, nodes)?,
            levels: block(nodes, nodes)?,
            alive: block(nodes, nodes)?,
            ground: block(nodes.saturating_mul(2 * config.m), nodes)?,
            upper: block(room.upper, nodes)?,
            upper_at: block(nodes, nodes)?,
        };
        Ok(Self::of(dim, metric, config.m, parts))
    }

    /// An arena without nodes over this memory.
    pub(super) fn of(dim: usize, metric: Metric, m: usize, parts: Parts) -> Self {
        let Parts { rows, coarse, items, levels, alive, ground, upper, upper_at } = parts;
        let (room, zero) = (items.len(), AtomicU32::default);
        let (upper_used, len, living, entry, nodes) = (zero(), zero(), zero(), zero(), RwLock::default());
        Self {
            metric,
            dim,
            m,
            room,
            rows,
            coarse,
            items,
            levels,
            alive,
            ground,
            upper,
            upper_at,
            upper_used,
            len,
            living,
            entry,
            nodes,
        }
    }

    /// Nodes, the removed ones included.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len.load(Acquire) as usize
    }

    /// Places: no node that turns up during a walk has a higher number.
    pub(super) fn room(&self) -> usize {
        self.room
    }

    /// What walks compare.
    #[inline]
    pub(super) fn walked(&self) -> &Rows {
        self.coarse.as_ref().map_or(&self.rows, |coarse| &coarse.rows)
    }

    /// A vector to compare what is walked with.
    pub(super) fn query(&self, vector: &[f32]) -> Query {
        self.coarse.as_ref().map_or_else(|| self.rows.query(vector), |coarse| coarse.query(vector))
    }

    /// What copies are taken from, if there are any.
    pub(super) fn frame(&self) -> Option<&Frame> {
        self.coarse.as_ref().map(|coarse| &coarse.frame)
    }

    /// The vectors of living nodes, `[rows, D]`, evenly spread and at most about so many.
    pub(super) fn sample(&self, most: usize) -> Vec<f32> {
        let step = self.living().div_ceil(most).max(1);
        let living = (0..self.len() as u32).filter(|&node| self.is_alive(node)).step_by(step);
        let mut vectors = Vec::new();
        for node in living {
            let start = vectors.len();
            vectors.resize(start + self.dim, 0.0);
            self.rows.read(node, &mut vectors[start..]);
        }
        vectors
    }

    #[inline]
    pub(super) fn level(&self, node: u32) -> u8 {
        // SAFETY: a node that was handed out is not written any more.
        unsafe { self.levels.slice(node as usize, 1)[0] }
    }

    #[inline]
    pub(super) fn item(&self, node: u32) -> ItemRow {
        // SAFETY: as above.
        unsafe { self.items.slice(node as usize, 1)[0] }
    }

    #[inline]
    pub(super) fn is_alive(&self, node: u32) -> bool {
        self.alive.cells()[node as usize].load(Acquire) == 1
    }

    pub(super) fn set_alive(&self, node: u32, alive: bool) {
        let was = self.alive.cells()[node as usize].swap(u32::from(alive), AcqRel);
        self.living.fetch_add(u32::from(alive).wrapping_sub(was), AcqRel);
    }

    /// Nodes that hold an item.
    #[inline]
    pub(super) fn living(&self) -> usize {
        self.living.load(Acquire) as usize
    }

    pub(super) fn entry(&self) -> Option<u32> {
        self.entry.load(Acquire).checked_sub(1)
    }

    pub(super) fn set_entry(&self, entry: Option<u32>) {
        self.entry.store(entry.map_or(0, |node| node + 1), Release);
    }

    pub(super) fn nodes(&self) -> RwLockReadGuard<'_, HashMap<ItemRow, u32>> {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn nodes_mut(&self) -> RwLockWriteGuard<'_, HashMap<ItemRow, u32>> {
        self.nodes.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Most links on a level.
    pub(super) fn cap(&self, level: u8) -> usize {
        if level == 0 { 2 * self.m } else { self.m }
    }

    /// The node's links on a level as cells, of which the first 0 ends them.
    #[inline(always)]
    pub(super) fn cells(&self, node: u32, level: u8) -> &[AtomicU32] {
        if level == 0 {
            return &self.ground.cells()[node as usize * 2 * self.m..][..2 * self.m];
        }
        // SAFETY: as for levels.
        let at = unsafe { self.upper_at.slice(node as usize, 1) }[0] as usize;
        &self.upper.cells()[at + usize::from(level - 1) * self.m..][..self.m]
    }

    #[inline(always)]
    pub(super) fn links(&self, node: u32, level: u8) -> impl Iterator<Item = u32> {
        self.cells(node, level).iter().map_while(|cell| cell.load(Acquire).checked_sub(1))
    }

    /// Gives a node these links, at most the cap of the level. Links that stay keep their places, so a walk
    /// that reads meanwhile misses none of them.
    pub(super) fn set_links(&self, node: u32, level: u8, links: &[u32]) {
        let cells = self.cells(node, level);
        let mut new = links.iter().filter(|&&to| !self.links(node, level).any(|old| old == to));
        let new: Vec<u32> = new.by_ref().copied().collect();
        let mut new = new.into_iter();
        let mut end = self.links(node, level).count();
        let mut at = 0;
        while at < end {
            let old = cells[at].load(Relaxed).wrapping_sub(1);
            if links.contains(&old) {
                at += 1;
            } else if let Some(to) = new.next() {
                cells[at].store(to + 1, Release);
                at += 1;
            } else {
                // The last one moves here: for a moment it is there twice.
                end -= 1;
                cells[at].store(cells[end].load(Relaxed), Release);
                cells[end].store(0, Release);
            }
        }
        for (to, cell) in new.zip(&cells[end..]) {
            cell.store(to + 1, Release);
        }
    }

    /// Adds a link if there is room; `false` when there is none.
    pub(super) fn try_link(&self, node: u32, level: u8, to: u32) -> bool {
        let free = self.cells(node, level).iter().find(|cell| cell.load(Relaxed) == 0);
        free.map(|cell| cell.store(to + 1, Release)).is_some()
    }

    /// Whether so many nodes more fit, whose levels are so many together.
    pub(super) fn fits(&self, nodes: usize, levels: usize) -> bool {
        self.len() + nodes <= self.room && self.upper_after(levels) <= self.upper.len()
    }

    /// Links above the ground that are in use once nodes with so many levels together were added.
    pub(super) fn upper_after(&self, levels: usize) -> usize {
        self.upper_used.load(Relaxed) as usize + levels * self.m
    }

    /// Writes a node without links into the next place, neither alive nor known to readers; it must fit. Only
    /// one thread may add at a time, which is the writer's, whose lock is held.
    pub(super) fn add(&self, item: ItemRow, level: u8, vector: &[f32]) -> u32 {
        let node = self.len.load(Relaxed);
        let at = node as usize;
        let upper = self.upper_used.load(Relaxed);
        assert!(self.fits(1, usize::from(level)));
        // SAFETY: readers only look at published nodes, and there is one writer.
        unsafe {
            self.rows.set(node, vector);
            if let Some(coarse) = &self.coarse {
                coarse.set(node, vector);
            }
            self.items.write(at, &[item]);
            self.levels.write(at, &[level]);
            self.upper_at.write(at, &[upper]);
        }
        self.upper_used.store(upper + u32::from(level) * self.m as u32, Relaxed);
        self.len.store(node + 1, Release);
        node
    }

    /// As [`Arena::add`], of a node of another arena of the same kind, with its vector bit for bit. Its copy is made
    /// anew where that is taken from elsewhere.
    pub(super) fn add_from(&self, from: &Self, node: u32) -> u32 {
        let to = self.len.load(Relaxed);
        let (at, upper, level) = (to as usize, self.upper_used.load(Relaxed), from.level(node));
        assert!(self.fits(1, usize::from(level)));
        // SAFETY: as in `add`; the source is published.
        unsafe {
            self.rows.copy(to, &from.rows, node);
            match (&self.coarse, &from.coarse) {
                (Some(coarse), Some(from)) if coarse.frame == from.frame => {
                    coarse.rows.copy(to, &from.rows, node);
                }
                (Some(coarse), _) => {
                    let mut vector = vec![0.0; self.dim];
                    from.rows.read(node, &mut vector);
                    coarse.set(to, &vector);
                }
                (None, _) => {}
            }
            self.items.write(at, &[from.item(node)]);
            self.levels.write(at, &[level]);
            self.upper_at.write(at, &[upper]);
        }
        self.upper_used.store(upper + u32::from(level) * self.m as u32, Relaxed);
        self.len.store(to + 1, Release);
        to
    }

    /// The highest of the living nodes, the first of equals.
    pub(super) fn highest(&self) -> Option<u32> {
        (0..self.len() as u32)
            .filter(|&node| self.is_alive(node))
            .max_by_key(|&node| (self.level(node), std::cmp::Reverse(node)))
    }

    /// Whether places and levels fit together, every link leads to a node of that level, and walks begin at a
    /// living node.
    pub(super) fn is_sound(&self) -> bool {
        let len = self.len() as u32;
        let mut upper = 0;
        for node in 0..len {
            // SAFETY: the arena is not shared yet.
            let at = unsafe { self.upper_at.slice(node as usize, 1) }[0] as usize;
            let level = self.level(node);
            if level > MAX_LEVEL || at != upper || self.alive.cells()[node as usize].load(Relaxed) > 1 {
                return false;
            }
            upper += usize::from(level) * self.m;
        }
        let links = |node: u32, level: u8| {
            let cells = self.cells(node, level).iter().map(|cell| cell.load(Relaxed));
            cells.into_iter().all(|to| to == 0 || (to <= len && self.level(to - 1) >= level))
        };
        upper == self.upper_used.load(Relaxed) as usize
            && upper <= self.upper.len()
            && (0..len).all(|node| (0..=self.level(node)).all(|level| links(node, level)))
            && self.entry().is_none_or(|entry| entry < len && self.is_alive(entry))
            && self.entry().is_none() == (len == 0)
            && self.rows.are_finite(len as usize)
            && self.coarse.as_ref().is_none_or(|coarse| coarse.rows.are_finite(len as usize))
    }
}

/// The memory of an arena.
pub(super) struct Parts {
    pub(super) rows: Rows,
    pub(super) coarse: Option<Coarse>,
    pub(super) items: Block<u32>,
    pub(super) levels: Block<u8>,
    pub(super) alive: Block<AtomicU32>,
    pub(super) ground: Block<AtomicU32>,
    pub(super) upper: Block<AtomicU32>,
    pub(super) upper_at: Block<u32>,
}

fn block<T: crate::block::Plain>(len: usize, rows: usize) -> Result<Block<T>> {
    Block::zeroed(len).map_err(|source| Error::Memory { rows, source })
}
