use super::graph::Graph;
use super::{Hnsw, HnswConfig};
use crate::error::Result;
use crate::file::{self, Payload, Writer};
use crate::vectors::Vectors;
use std::path::Path;

const MAGIC: [u8; 8] = *b"MILLHNSW";
const VERSION: u32 = 1;

impl Hnsw {
    /// Writes the index to a file, which replaces what was at `path` only when complete.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) when the disk refuses.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut out = Writer::default();
        let HnswConfig { m, ef_construction, ef_search, seed } = self.config;
        [m, ef_construction, ef_search].into_iter().for_each(|number| out.u32(number as u32));
        out.u64(seed);
        out.u32(self.lift.max.to_bits());
        self.vectors.write(&mut out);
        out.u32s(&self.alive.iter().map(|&alive| u32::from(alive)).collect::<Vec<_>>());
        self.graph.write(&mut out);
        out.save(path.as_ref(), MAGIC, VERSION)
    }

    /// Opens a file made by [`Hnsw::save`]; it answers, and takes changes, as the saved one would.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) when it cannot be read, [`Error::Corrupt`](crate::Error::Corrupt)
    /// when it is not such a file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = file::read(path, MAGIC, VERSION)?;
        let mut from = Payload { bytes: &bytes, path };
        let [m, ef_construction, ef_search] =
            [from.u32()?, from.u32()?, from.u32()?].map(|number| number as usize);
        let config = HnswConfig { m, ef_construction, ef_search, seed: from.u64()? };
        config.check().map_err(|e| from.flaw(&e.to_string()))?;
        let max = f32::from_bits(from.u32()?);
        let vectors = Vectors::read(&mut from)?;
        let alive = from.u32s()?;
        let graph = Graph::read(&mut from, m)?;
        from.end()?;
        let mut index = Self::from_parts(config, vectors, graph);
        index.alive = alive.into_iter().map(|alive| alive == 1).collect();
        if !index.restore(max) {
            return Err(from.flaw("items, nodes and links do not match"));
        }
        Ok(index)
    }

    /// Rebuilds what follows from the rest; `false` when the rest contradicts itself.
    fn restore(&mut self, max: f32) -> bool {
        let nodes = self.graph.len();
        if self.alive.len() != nodes || self.vectors.items.len() != nodes {
            return false;
        }
        let alive = |node: u32| self.alive[node as usize];
        if self.graph.entry.is_some_and(|entry| !alive(entry)) || self.graph.entry.is_none() != (nodes == 0) {
            return false;
        }
        self.vectors.rows.clear();
        for node in 0..nodes as u32 {
            self.lift.set(node, self.vectors.row(node));
            if !self.alive[node as usize] {
                self.free.entry(self.graph.level(node)).or_default().insert(node);
                continue;
            }
            let item = self.vectors.items[node as usize];
            if self.vectors.rows.insert(item, node).is_some() {
                return false;
            }
        }
        // Overlong vectors that are gone still shape the sphere.
        self.lift.max = max;
        max >= 0.0
    }
}
