use crate::error::{Error, Result};
use crate::rows::Storage;
use serde::{Deserialize, Serialize};

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

impl HnswConfig {
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
