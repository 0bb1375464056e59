use crate::error::{Error, Result};
use crate::index::Metric;
use crate::rows::Storage;
use millstream_schema::ItemRow;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

/// The shape of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HnswConfig {
    /// Links chosen per node and most links per node above the ground, from 2 to 256. More: better
    /// recall, more memory. 16 by default.
    pub m: usize,
    /// Best nodes remembered while linking, at least 1. 128 by default.
    pub ef_construction: usize,
    /// Best nodes remembered while searching, at least 1; the recall-for-time knob. 64 by default.
    pub ef_search: usize,
    /// Decides the levels of items.
    pub seed: u64,
    /// How vectors are stored. `f32` by default.
    pub storage: Storage,
    /// Whether walks compare int8 copies of vectors, and only the best found are scored by the vectors as stored:
    /// faster, for one byte more per number. Copies are taken around the mean of the vectors; where even so they do
    /// not tell vectors apart well enough, which is tried when a graph is built and when its nodes move, walks go
    /// without them. No effect on `int8` storage. True by default.
    pub coarse: bool,
}

impl Default for HnswConfig {
    fn default() -> Self {
        Self { m: 16, ef_construction: 128, ef_search: 64, seed: 0, storage: Storage::F32, coarse: true }
    }
}

/// How graphs are built; another number where the same vectors make another graph than before.
const BUILT: u32 = 1;

impl HnswConfig {
    /// One number for what [`Hnsw::build`](super::Hnsw::build) would build: other vectors, `[items.len(), D]`, other items
    /// or options have another, but for the effort of searching, which may be set at any time.
    pub fn fingerprint(&self, metric: Metric, dim: usize, items: &[ItemRow], vectors: &[f32]) -> u64 {
        let mut sum = Xxh3::new();
        let &Self { m, ef_construction, seed, storage, coarse, .. } = self;
        for number in [BUILT, metric.code(), storage.code(), u32::from(coarse)] {
            sum.update(&number.to_le_bytes());
        }
        for number in [m as u64, ef_construction as u64, seed, dim as u64, items.len() as u64] {
            sum.update(&number.to_le_bytes());
        }
        items.iter().for_each(|item| sum.update(&item.to_le_bytes()));
        let mut bytes = Vec::new();
        for vectors in vectors.chunks(1 << 12) {
            bytes.clear();
            bytes.extend(vectors.iter().flat_map(|x| x.to_le_bytes()));
            sum.update(&bytes);
        }
        sum.digest()
    }

    /// Whether walks are to compare copies, where these tell vectors apart.
    pub fn copies(&self) -> bool {
        self.coarse && self.storage != Storage::Int8
    }

    pub(super) fn check(&self) -> Result<()> {
        if !(2..=256).contains(&self.m) {
            return Err(Error::Input(format!("m is {}, expected from 2 to 256", self.m)));
        }
        match [("ef_construction", self.ef_construction), ("ef_search", self.ef_search)]
            .into_iter()
            .find(|&(_, ef)| ef == 0 || ef > u32::MAX as usize)
        {
            Some((name, ef)) => {
                Err(Error::Input(format!("{name} is {ef}, expected at least 1 and below 2^32")))
            }
            None => Ok(()),
        }
    }
}
