//! Indexes over vectors, as `[index]` says: exact where items are few, a graph where they are many. A graph is kept in
//! the run's directory and opened at the next start, when it is of the same vectors.
//!
//! ```text
//! RUN/index/NAME/     snapshots with one file each, `graph.mill`; their metadata is the fingerprint of what it was
//!                     built from
//! ```

use millstream_index::{Flat, Hnsw, Index, Metric, Snapshots};
use millstream_pipeline::{IndexConfig, PipelineConfig};
use millstream_schema::ItemRow;
use std::path::PathBuf;
use std::time::Instant;

use crate::Failure;
use crate::chain::{RunDir, Vectors};

/// The file of a snapshot.
const FILE: &str = "graph.mill";

/// Where indexes come from.
pub struct Graphs {
    config: IndexConfig,
    folder: PathBuf,
}

/// How a graph came about.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    /// It was kept from before.
    Opened,
    /// It was built, as there was none.
    Built,
    /// It was built, as what was kept is of no use.
    Rebuilt,
}

impl Graphs {
    /// Those of a run.
    pub fn of(dir: &RunDir, config: &PipelineConfig) -> Self {
        Self { config: config.index.clone(), folder: dir.0.join("index") }
    }

    /// A live index over these vectors, `[items.len(), D]`, by inner product; `name` is that of its folder.
    ///
    /// # Errors
    /// A vector that is not finite, or no memory. A graph that cannot be opened or kept is none: it is built.
    pub fn index(
        &self,
        name: &str,
        dim: usize,
        items: &[ItemRow],
        vectors: &[f32],
    ) -> Result<Vectors, Failure> {
        if items.is_empty() || items.len() < self.config.from {
            return Ok(Box::new(Flat::build(dim, Metric::InnerProduct, items, vectors)?));
        }
        let started = Instant::now();
        let (graph, came) = self.graph(name, dim, items, vectors)?;
        let seconds = started.elapsed().as_secs_f64();
        tracing::info!("index `{name}`: {} items, {came:?} in {seconds:.1} s", graph.len());
        Ok(Box::new(graph))
    }

    fn graph(
        &self,
        name: &str,
        dim: usize,
        items: &[ItemRow],
        vectors: &[f32],
    ) -> Result<(Hnsw, Came), Failure> {
        let config = self.config.graph();
        let print = config.fingerprint(Metric::InnerProduct, dim, items, vectors).to_le_bytes();
        let snapshots = match Snapshots::new(self.folder.join(name)) {
            Ok(snapshots) => snapshots,
            Err(e) => {
                tracing::warn!("index `{name}`: {e}; its graph is built at every start");
                return Ok((Hnsw::build(Metric::InnerProduct, config, dim, items, vectors)?, Came::Built));
            }
        };
        let useless = match snapshots.open(|files| Hnsw::open_mapped(files.join(FILE))) {
            Ok(Some(mut kept)) if kept.metadata == print && kept.value.dim() == dim => {
                for (number, e) in kept.skipped {
                    tracing::warn!("index `{name}`: snapshot {number} is passed over: {e}");
                }
                kept.value.set_ef_search(config.ef_search)?;
                return Ok((kept.value, Came::Opened));
            }
            Ok(None) => None,
            Ok(Some(_)) => Some("what was kept is of other vectors or options".to_owned()),
            Err(e) => Some(e.to_string()),
        };
        if let Some(why) = &useless {
            tracing::warn!("index `{name}`: {why}; its graph is built again");
        }
        let graph = Hnsw::build(Metric::InnerProduct, config, dim, items, vectors)?;
        if let Err(e) = snapshots.publish(&print, |files| graph.save(files.join(FILE))) {
            tracing::warn!("index `{name}`: its graph is not kept for the next start: {e}");
        }
        Ok((graph, if useless.is_some() { Came::Rebuilt } else { Came::Built }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_index::IndexMut;
    use millstream_index::bench::{Shape, synthetic};
    use std::fs;
    use std::path::Path;

    const DIM: usize = 8;

    fn graphs(folder: &Path, keys: &str) -> Graphs {
        let config = PipelineConfig::parse(&format!("[index]\nfrom = 500\n{keys}"), "run.toml").unwrap();
        Graphs::of(&RunDir(folder.to_owned()), &config)
    }

    fn sample() -> (Vec<ItemRow>, Vec<f32>) {
        ((0..600).map(|row| row * 3).collect(), synthetic(Shape::Clustered, 600, DIM, 1))
    }

    #[test]
    fn the_next_start_opens_what_was_built_and_it_answers_and_changes_alike() {
        let dir = tempfile::tempdir().unwrap();
        let (items, vectors) = sample();
        let start = || graphs(dir.path(), "ef = 40").graph("two_tower", DIM, &items, &vectors).unwrap();
        let (built, first) = start();
        let (opened, second) = start();
        assert_eq!((first, second), (Came::Built, Came::Opened));
        for index in [&built, &opened] {
            index.upsert(5000, &[9.0; DIM]).unwrap();
            assert!(index.remove(6));
        }
        for query in vectors.chunks(DIM).take(50) {
            assert_eq!(
                built.search(query, 10, &|_| true).unwrap(),
                opened.search(query, 10, &|_| true).unwrap()
            );
        }
        // What changed while it was served is no part of what was kept.
        let (again, came) = start();
        assert_eq!((came, again.len(), again.vector(5000)), (Came::Opened, 600, None));
        // Effort is no matter of the graph.
        let (other, came) = graphs(dir.path(), "ef = 7").graph("two_tower", DIM, &items, &vectors).unwrap();
        assert_eq!((came, other.config().ef_search), (Came::Opened, 7));
    }

    #[test]
    fn other_vectors_and_other_options_are_built_again() {
        let dir = tempfile::tempdir().unwrap();
        let (items, mut vectors) = sample();
        let came = |keys: &str, vectors: &[f32]| {
            let graphs = graphs(dir.path(), keys);
            let (graph, came) = graphs.graph("two_tower", DIM, &items, vectors).unwrap();
            let query = &vectors[..DIM];
            let best: f32 =
                vectors.chunks(DIM).map(|x| millstream_index::dot(x, query)).fold(f32::MIN, f32::max);
            let found = graph.search(query, 1, &|_| true).unwrap()[0].score;
            assert!((found - best).abs() < 0.05 * best.abs(), "{found}, {best}");
            came
        };
        assert_eq!(came("", &vectors), Came::Built);
        for keys in ["m = 8", "storage = \"int8\"", "ef_construction = 60"] {
            assert_eq!((came(keys, &vectors), came(keys, &vectors)), (Came::Rebuilt, Came::Opened), "{keys}");
        }
        assert_eq!(came("", &vectors), Came::Rebuilt);
        vectors[599 * DIM] += 0.001;
        assert_eq!((came("", &vectors), came("", &vectors)), (Came::Rebuilt, Came::Opened));
    }

    #[test]
    fn a_damaged_graph_is_built_again_and_few_items_are_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (items, vectors) = sample();
        let start = || graphs(dir.path(), "").graph("als", DIM, &items, &vectors).unwrap().1;
        assert_eq!(start(), Came::Built);
        let path = dir.path().join("index/als/snapshot-0000000001").join(FILE);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!((start(), start()), (Came::Rebuilt, Came::Opened));
        let few = graphs(dir.path(), "").index("few", DIM, &items[..499], &vectors[..499 * DIM]).unwrap();
        assert!(few.len() == 499 && !dir.path().join("index/few").exists());
        assert!(graphs(dir.path(), "").index("none", DIM, &[], &[]).unwrap().is_empty());
    }

    #[test]
    fn where_nothing_can_be_kept_there_is_an_index_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("index"), "a file where the folder should be").unwrap();
        let (items, vectors) = sample();
        let index = graphs(dir.path(), "").index("two_tower", DIM, &items, &vectors).unwrap();
        assert_eq!(index.len(), 600);
    }
}
