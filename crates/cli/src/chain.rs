//! A run's directory, opened as a pipeline: the catalogue, the models, the counts.
//!
//! ```text
//! RUN/run.toml        pipeline configuration, where there is one
//! RUN/prepared/       encoder, catalogue, examples
//! RUN/records.mill    users and items as records
//! RUN/retriever/      checkpoints of the two towers
//! RUN/ranker/         checkpoints of the ranker
//! RUN/live/           ledger, live records
//! ```

use millstream_data::{Interactions, Prepared, Split};
use millstream_index::{Flat, Hnsw, HnswConfig, IndexMut, Metric};
use millstream_models::embeds::item_vectors;
use millstream_models::recall::item_cf::ItemCfConfig;
use millstream_models::recall::popularity::Popularity;
use millstream_models::{Embedder, Scorer};
use millstream_pipeline::{Catalogue, Item, Pipeline, PipelineConfig, Resources};
use millstream_schema::{ItemRow, Record};
use millstream_train::BEST;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use crate::records::Records;
use crate::{Failure, measure};

/// Items from which on a graph replaces the exact scan.
const GRAPH_FROM: usize = 50_000;

/// Places inside a run's directory.
pub struct RunDir(pub PathBuf);

impl RunDir {
    /// The prepared data.
    pub fn prepared(&self) -> PathBuf {
        self.0.join("prepared")
    }
    /// Users and items.
    pub fn records(&self) -> PathBuf {
        self.0.join("records.mill")
    }
    /// Checkpoints of the two towers.
    pub fn retriever(&self) -> PathBuf {
        self.0.join("retriever")
    }
    /// Checkpoints of the ranker.
    pub fn ranker(&self) -> PathBuf {
        self.0.join("ranker")
    }
    /// Ledger and live records.
    pub fn live(&self) -> PathBuf {
        self.0.join("live")
    }
    /// The chain's configuration.
    pub fn config(&self) -> PathBuf {
        self.0.join("run.toml")
    }
}

/// Everything that a feed is made of.
pub struct Chain {
    /// The prepared data.
    pub prepared: Prepared,
    /// Users and items.
    pub records: Arc<Records>,
    /// Recall to re-rank.
    pub pipeline: Arc<Pipeline>,
    /// The retriever, for vectors of items that come later.
    pub embedder: Arc<Embedder>,
    /// Its index.
    pub vectors: Arc<Vectors>,
}

/// Item vectors: searched by requests, changed by new items.
pub type Vectors = Box<dyn IndexMut>;

impl Chain {
    /// Opens a run. Counting models take in the parts named: those that are history at that time.
    pub fn open(dir: &RunDir, config: PipelineConfig, history: &[Split]) -> Result<Self, Failure> {
        let prepared = Prepared::open(&dir.prepared())?;
        let records = Arc::new(Records::open(&dir.records())?);
        let embedder = Arc::new(Embedder::open(&dir.retriever().join(BEST), &prepared.encoder)?);
        let scorer = Scorer::open(&dir.ranker().join(BEST), &prepared.encoder)?;
        let scorer = Arc::new(scorer.with_precision(config.rank.precision));
        let vectors = Arc::new(index(&prepared, &embedder)?);
        let item_cf = measure::count_item_cf(&prepared, &ItemCfConfig::default(), history)?;
        let popularity = popularity(&prepared, &records, config.catalogue.segment.as_deref(), history)?;
        let parts = Resources {
            scorer: Some(scorer),
            user_vectors: Some(embedder.clone()),
            search: Some(vectors.clone()),
            item_vectors: Some(vectors.clone()),
            item_cf: Some(Arc::new(item_cf)),
            popularity: Arc::new(RwLock::new(popularity)),
        };
        let catalogue = catalogue(&prepared, &records, &config)?;
        let pipeline = Arc::new(Pipeline::new(config, Arc::new(catalogue), parts)?);
        Ok(Self { prepared, records, pipeline, embedder, vectors })
    }
}

impl Chain {
    /// The same chain with these weights of the channels' orders.
    pub fn fused_with(&mut self, weights: &BTreeMap<String, f32>) -> Result<(), Failure> {
        let mut config = self.pipeline.config().clone();
        config.fuse.channels.extend(weights.iter().map(|(name, w)| (name.clone(), *w)));
        let (catalogue, parts) = (self.pipeline.catalogue().clone(), self.pipeline.resources().clone());
        self.pipeline = Arc::new(Pipeline::new(config, catalogue, parts)?);
        Ok(())
    }

    /// Time of the log's last action, epoch milliseconds; `i64::MIN` when it has none.
    pub fn prepared_end(&self) -> Result<i64, Failure> {
        let mut last = i64::MIN;
        for split in Split::ALL {
            last = last.max(self.prepared.interactions(split)?.time_ms.into_iter().max().unwrap_or(i64::MIN));
        }
        Ok(last)
    }
}

fn catalogue(prepared: &Prepared, records: &Records, config: &PipelineConfig) -> Result<Catalogue, Failure> {
    let known = |ms: i64, never: i64| (ms != never).then_some(ms);
    let item = |(row, record): (usize, &Record)| Item {
        record: record.clone(),
        created_ms: prepared.item_created_ms.get(row).and_then(|&ms| known(ms, i64::MIN)),
        retired_ms: prepared.item_retired_ms.get(row).and_then(|&ms| known(ms, i64::MAX)),
    };
    let items = records.items.iter().enumerate().map(item).collect();
    Ok(Catalogue::new(config.catalogue.clone(), prepared.encoder.clone(), records.users.clone(), items)?)
}

fn index(prepared: &Prepared, embedder: &Embedder) -> Result<Vectors, Failure> {
    let items: Vec<ItemRow> = (0..prepared.items.len() as u32).collect();
    let vectors = item_vectors(embedder, &prepared.assembler, &items)?;
    let dim = embedder.dim();
    Ok(if items.len() < GRAPH_FROM {
        Box::new(Flat::build(dim, Metric::InnerProduct, &items, &vectors)?)
    } else {
        Box::new(Hnsw::build(Metric::InnerProduct, HnswConfig::default(), dim, &items, &vectors)?)
    })
}

/// Decayed counts of the positives of these parts, over all and by segment.
fn popularity(
    prepared: &Prepared,
    records: &Records,
    segment: Option<&str>,
    history: &[Split],
) -> Result<Popularity, Failure> {
    let mut counts = Popularity::new();
    for &split in history {
        let Interactions { offsets, items, time_ms, .. } = prepared.interactions(split)?;
        for user in 0..offsets.len() - 1 {
            let segment = records.users.get(user).and_then(|record| segment_of(record, segment));
            for at in offsets[user] as usize..offsets[user + 1] as usize {
                counts.add(items[at], time_ms[at], 1.0, segment);
            }
        }
    }
    Ok(counts)
}

/// The user's segment for hot lists: the value of the configured field, if it has one.
pub fn segment_of<'a>(user: &'a Record, field: Option<&str>) -> Option<&'a str> {
    field.map(|f| user.get(f)).filter(|value| !value.is_empty())
}
