//! Graphs on disk. Version 3 lays everything out as it is in memory, so that it can be mapped:
//!
//! ```text
//! m, ef_construction, ef_search u32, seed u64, storage, coarse, dim, metric u32, entry u32,
//! nodes, links above the ground, room u64, centre and units of the copies: D f32 each, or none without copies,
//! zeros up to the next multiple of 64 bytes of the file;
//! then sections, each filled up with zeros to a multiple of 64 bytes: vectors, their scales, int8 copies, their
//! scales, items u32, levels u8, marks of life u32, ground links u32, upper links u32, where they start u32
//! ```
//! Version 2 has the largest square of a vector, f32, before the entry, and neither centre nor units. Links between
//! vectors of different length were chosen otherwise up to then: a graph by inner product opens and finds what it
//! did, and finds more when it is built again.
#![allow(unsafe_code)]

use super::arena::{Arena, Parts, Room};
use super::coarse::{Coarse, Frame};
use super::lengths::Lengths;
use super::level::MAX_LEVEL;
use super::{Hnsw, HnswConfig, Writer, incoming};
use crate::block::{Block, Plain};
use crate::error::Result;
use crate::file::{self, HEADER_LEN, Payload, SECTION_ALIGN};
use crate::index::Metric;
use crate::rows::{Rows, Storage, check_dim};
use crate::vectors::Vectors;
use memmap2::MmapMut;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

const MAGIC: [u8; 8] = *b"MILLHNSW";
const VERSION: u32 = 3;

#[cfg(target_endian = "big")]
compile_error!("index files are mapped as they are, which takes a little-endian machine");

impl Hnsw {
    /// Writes the index to a file, which replaces what was at `path` only when complete. Searches go on
    /// meanwhile, changes wait.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) when the disk refuses.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let writer = self.writer();
        let arena = self.arena();
        let mut head = file::Writer::default();
        let HnswConfig { m, ef_construction, ef_search, seed, storage, .. } = self.config;
        [m, ef_construction, ef_search].into_iter().for_each(|number| head.u32(number as u32));
        head.u64(seed);
        let flags = [storage.code(), u32::from(self.config.coarse), arena.dim as u32, arena.metric.code()];
        flags.into_iter().for_each(|number| head.u32(number));
        head.u32(arena.entry.load(Relaxed));
        let (nodes, upper) = (arena.len(), arena.upper_after(0));
        [nodes, upper, writer.room].into_iter().for_each(|number| head.u64(number as u64));
        let frame = arena.frame();
        head.f32s(frame.map_or(&[], |frame| &frame.centre));
        head.f32s(frame.map_or(&[], |frame| &frame.units));
        let head = head.aligned();
        let sections = sections(&arena, m, nodes, upper);
        let mut pieces = vec![head.as_slice()];
        for section in sections {
            pieces.push(section);
            pieces.push(&[0; SECTION_ALIGN][..section.len().next_multiple_of(SECTION_ALIGN) - section.len()]);
        }
        file::save(path.as_ref(), MAGIC, VERSION, &pieces)
    }

    /// Opens a file made by [`Hnsw::save`]; it answers, and takes changes, as the saved one would.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) when it cannot be read, [`Error::Corrupt`](crate::Error::Corrupt)
    /// when it is not such a file, [`Error::Memory`](crate::Error::Memory) when there is no memory.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let index = Self::open_mapped(path)?;
        index.move_to(&mut index.writer(), &index.arena(), true, 0)?;
        Ok(index)
    }

    /// As [`Hnsw::open`], for serving: the file stays where it is, its pages come as they are walked and are
    /// shared between processes. It must not be written to in place meanwhile ([`Hnsw::save`] does not). Header,
    /// length, checksum and every link are checked before. A removal copies the pages it touches, and the first
    /// insertion everything; the file never changes. A file of version 1 is read into memory.
    ///
    /// # Errors
    /// As [`Hnsw::open`].
    pub fn open_mapped(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (map, version) = file::map(path, MAGIC, VERSION)?;
        let mut from = Payload { bytes: &map[HEADER_LEN..], path };
        match version {
            1 => version_1(&mut from),
            _ => mapped(&mut from, &map, version),
        }
    }
}

/// The memory of an arena's nodes, in the order of the file.
fn sections(arena: &Arena, m: usize, nodes: usize, upper: usize) -> [&[u8]; 10] {
    let rows = |rows: Option<&'_ Rows>| -> [usize; 2] {
        rows.map_or([0; 2], |rows| Rows::sizes(rows.storage(), arena.dim, nodes))
    };
    let coarse = arena.coarse.as_ref().map(|coarse| &coarse.rows);
    let ([bytes, scales], [coarse_bytes, coarse_scales]) = (rows(Some(&arena.rows)), rows(coarse));
    // SAFETY: nodes that are there are not written any more; the marks and links are only changed by the
    // writer, whose lock the caller holds.
    unsafe {
        [
            arena.rows.bytes.bytes(bytes),
            arena.rows.scales.bytes(scales),
            coarse.map_or(&[], |rows| rows.bytes.bytes(coarse_bytes)),
            coarse.map_or(&[], |rows| rows.scales.bytes(coarse_scales)),
            arena.items.bytes(nodes),
            arena.levels.bytes(nodes),
            arena.alive.bytes(nodes),
            arena.ground.bytes(nodes * 2 * m),
            arena.upper.bytes(upper),
            arena.upper_at.bytes(nodes),
        ]
    }
}

/// Takes sections off a mapped file.
struct Sections<'a> {
    map: &'a Arc<MmapMut>,
    at: usize,
}

impl Sections<'_> {
    fn take<T: Plain>(&mut self, len: usize) -> Option<Block<T>> {
        let block = Block::of_file(self.map, self.at, len)?;
        self.at = (self.at + len * size_of::<T>()).next_multiple_of(SECTION_ALIGN);
        Some(block)
    }

    fn rows(&mut self, storage: Storage, dim: usize, nodes: usize) -> Option<Rows> {
        let [bytes, scales] = Rows::sizes(storage, dim, nodes);
        let (bytes, scales) = (self.take(bytes)?, self.take(scales)?);
        Some(Rows::of(storage, dim, bytes, scales))
    }

    fn parts(
        &mut self,
        config: &HnswConfig,
        (dim, frame): (usize, Option<Frame>),
        [nodes, upper]: [usize; 2],
    ) -> Option<Parts> {
        let rows = self.rows(config.storage, dim, nodes)?;
        let coarse = match frame {
            Some(frame) => Some(Coarse { frame, rows: self.rows(Storage::Int8, dim, nodes)? }),
            None => None,
        };
        Some(Parts {
            rows,
            coarse,
            items: self.take(nodes)?,
            levels: self.take(nodes)?,
            alive: self.take(nodes)?,
            ground: self.take(nodes.checked_mul(2 * config.m)?)?,
            upper: self.take(upper)?,
            upper_at: self.take(nodes)?,
        })
    }
}

fn mapped(from: &mut Payload<'_>, map: &Arc<MmapMut>, version: u32) -> Result<Hnsw> {
    let [m, ef_construction, ef_search] =
        [from.u32()?, from.u32()?, from.u32()?].map(|number| number as usize);
    let seed = from.u64()?;
    let storage = Storage::from_code(from.u32()?).ok_or_else(|| from.flaw("unknown storage"))?;
    let coarse = from.u32()? == 1;
    let config = HnswConfig { m, ef_construction, ef_search, seed, storage, coarse };
    config.check().map_err(|e| from.flaw(&e.to_string()))?;
    let dim = from.u32()? as usize;
    check_dim(dim).map_err(|e| from.flaw(&e.to_string()))?;
    let metric = Metric::from_code(from.u32()?).ok_or_else(|| from.flaw("unknown metric"))?;
    if version == 2 {
        from.u32()?;
    }
    let entry = from.u32()?;
    let counts =
        [from.u64()?, from.u64()?, from.u64()?].map(|count| usize::try_from(count).unwrap_or(usize::MAX));
    let [nodes, upper, room] = counts;
    let frame = match version {
        2 => config.copies().then(|| Frame::plain(dim)),
        _ => frame(from, &config, dim)?,
    };
    let start = (map.len() - from.bytes.len()).next_multiple_of(SECTION_ALIGN);
    let mut sections = Sections { map, at: start };
    let parts = sections.parts(&config, (dim, frame), [nodes, upper]).filter(|_| sections.at == map.len());
    let parts = parts.ok_or_else(|| from.flaw("its sections do not fill it"))?;
    // More room than nodes is a promise of memory only, but a wild one is damage.
    if room < nodes || room > 4 * nodes + 1024 || upper > u32::MAX as usize || nodes > super::MAX_NODES {
        return Err(from.flaw("its counts do not match"));
    }
    let arena = Arena::of(dim, metric, m, parts);
    arena.len.store(nodes as u32, Relaxed);
    arena.upper_used.store(upper as u32, Relaxed);
    arena.entry.store(entry, Relaxed);
    finish(from, config, arena, room)
}

/// What copies are taken from; `None` where there are none.
fn frame(from: &mut Payload<'_>, config: &HnswConfig, dim: usize) -> Result<Option<Frame>> {
    let frame = Frame { centre: from.f32s()?, units: from.f32s()? };
    if frame.centre.is_empty() && frame.units.is_empty() {
        return Ok(None);
    }
    let whole = [frame.centre.len(), frame.units.len()] == [dim; 2];
    let finite = frame.centre.iter().all(|x| x.is_finite());
    let sound = whole && finite && frame.units.iter().all(|&unit| unit > 0.0 && unit <= 1.0);
    if sound && config.copies() {
        Ok(Some(frame))
    } else {
        Err(from.flaw("what its copies are taken from is not sound"))
    }
}

/// Rebuilds what follows from the rest, which must not contradict itself.
fn finish(from: &Payload<'_>, config: HnswConfig, arena: Arena, room: usize) -> Result<Hnsw> {
    let sound = arena.is_sound().then(|| {
        let mut nodes = arena.nodes_mut();
        let alive = (0..arena.len() as u32).filter(|&node| arena.is_alive(node));
        let mut alone = true;
        for node in alive {
            alone &= nodes.insert(arena.item(node), node).is_none();
        }
        arena.living.store(nodes.len() as u32, Relaxed);
        alone
    });
    if sound != Some(true) {
        return Err(from.flaw("items, nodes and links do not match"));
    }
    let (lengths, incoming) = (Lengths::of(&arena), incoming(&arena));
    Ok(Hnsw::from_parts(config, arena, Writer { lengths, incoming, room }))
}

/// Version 1: lists, vectors of f32; links with their number before them.
fn version_1(from: &mut Payload<'_>) -> Result<Hnsw> {
    let [m, ef_construction, ef_search] =
        [from.u32()?, from.u32()?, from.u32()?].map(|number| number as usize);
    let seed = from.u64()?;
    let config = HnswConfig { m, ef_construction, ef_search, seed, ..HnswConfig::default() };
    config.check().map_err(|e| from.flaw(&e.to_string()))?;
    // The largest square of a vector.
    from.u32()?;
    let Vectors { dim, metric, floats, items } = Vectors::read(from)?;
    let (alive, entry, levels) = (from.u32s()?, from.u32()?, from.u32s()?);
    let (ground, upper) = (from.u32s()?, from.u32s()?);
    from.end()?;
    let nodes = items.len();
    let all_levels: usize = levels.iter().map(|&level| level as usize).fold(0, usize::saturating_add);
    let level_sound = levels.iter().all(|&level| level <= u32::from(MAX_LEVEL));
    let sizes = [alive.len(), levels.len(), ground.len() / (2 * m + 1)] == [nodes; 3];
    if !level_sound
        || !sizes
        || upper.len() != all_levels.saturating_mul(m + 1)
        || ground.len() % (2 * m + 1) != 0
    {
        return Err(from.flaw("the links do not match the nodes"));
    }
    let mut room = Room::for_nodes(nodes, m);
    room.upper = room.upper.max(all_levels * m);
    let arena = Arena::zeroed((dim, metric), &config, room, Some(Frame::plain(dim)))?;
    for ((&item, vector), &level) in items.iter().zip(floats.chunks_exact(dim)).zip(&levels) {
        arena.add(item, level as u8, vector);
    }
    let mut upper = upper.chunks_exact(m + 1);
    for (node, ground) in (0..nodes as u32).zip(ground.chunks_exact(2 * m + 1)) {
        for level in 0..=arena.level(node) {
            let part = if level == 0 { Some(ground) } else { upper.next() };
            let links = part.and_then(|part| part[1..].get(..part[0] as usize));
            let links = links.filter(|links| links.iter().all(|&to| (to as usize) < nodes));
            arena.set_links(node, level, links.ok_or_else(|| from.flaw("a link leads nowhere"))?);
        }
        arena.set_alive(node, alive[node as usize] == 1);
    }
    arena.entry.store(entry.wrapping_add(1), Relaxed);
    finish(from, config, arena, nodes)
}
