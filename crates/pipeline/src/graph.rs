//! How vectors are searched: the `[index]` table.

use millstream_index::{HnswConfig, Storage};
use serde::{Deserialize, Serialize};

use crate::Error;

/// The `[index]` table: of retrievers, of models with vectors, and of item texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IndexConfig {
    /// Items from which on a graph is walked; fewer are all scored, which is exact. 50,000 by default.
    pub from: usize,
    /// Links chosen per item, from 2 to 256. More: better recall, more memory. 16 by default.
    pub m: usize,
    /// Best items remembered while a graph is built, at least 1. 128 by default.
    pub ef_construction: usize,
    /// Best items remembered while searching, at least 1: the recall-for-time knob. 64 by default.
    pub ef: usize,
    /// How a graph stores vectors: `"f32"`, `"bf16"` or `"int8"`. `"f32"` by default.
    pub storage: Storage,
}

impl Default for IndexConfig {
    fn default() -> Self {
        let HnswConfig { m, ef_construction, ef_search, storage, .. } = HnswConfig::default();
        Self { from: 50_000, m, ef_construction, ef: ef_search, storage }
    }
}

impl IndexConfig {
    /// The shape of graphs.
    pub fn graph(&self) -> HnswConfig {
        let &Self { m, ef_construction, ef, storage, .. } = self;
        HnswConfig { m, ef_construction, ef_search: ef, storage, ..HnswConfig::default() }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let most = u32::MAX as usize;
        for (key, value, range) in [
            ("m", self.m, 2..=256),
            ("ef_construction", self.ef_construction, 1..=most),
            ("ef", self.ef, 1..=most),
        ] {
            if !range.contains(&value) {
                let (least, most) = range.into_inner();
                let what = format!("[index]: key `{key}` is {value}, expected from {least} to {most}");
                return Err(Error::Config(what));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PipelineConfig;

    #[test]
    fn the_table_says_what_graphs_are_like_and_mistakes_in_it_are_named() {
        let read = |text: &str| PipelineConfig::parse(text, "run.toml");
        assert_eq!(read("").unwrap().index, IndexConfig::default());
        assert_eq!(IndexConfig::default().graph(), HnswConfig::default());
        let text = "[index]\nfrom = 1000\nm = 8\nef_construction = 64\nef = 32\nstorage = \"bf16\"";
        let config = read(text).unwrap();
        let graph = config.index.graph();
        assert_eq!((config.index.from, graph.m, graph.ef_construction, graph.ef_search), (1000, 8, 64, 32));
        assert_eq!(graph.storage, Storage::Bf16);
        assert_eq!(read(&toml::to_string(&config).unwrap()).unwrap(), config);
        for (keys, parts) in [
            ("m = 1", ["key `m` is 1", "from 2 to 256"]),
            ("m = 257", ["key `m` is 257", "from 2 to 256"]),
            ("ef = 0", ["key `ef` is 0", "from 1 to"]),
            ("ef_construction = 0", ["key `ef_construction` is 0", "from 1 to"]),
            ("ef_constuction = 9", ["run.toml:2", "did you mean `ef_construction`"]),
            ("storage = \"int9\"", ["run.toml:2", "did you mean `int8`"]),
            ("from = -1", ["run.toml:2", "-1"]),
        ] {
            let error = read(&format!("[index]\n{keys}")).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
    }
}
