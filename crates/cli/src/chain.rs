//! A run's directory, opened as a pipeline: the catalogue, the models, the counts.
//!
//! ```text
//! RUN/run.toml        pipeline configuration, see `run_file`
//! RUN/prepared/       encoder, catalogue, examples
//! RUN/records.mill    users and items as records
//! RUN/retriever/      checkpoints of the two towers
//! RUN/retrievers/*/   checkpoints of further retrievers, for channels of kind `vector`
//! RUN/recall/*.mill   models of `[[recall.model]]`, see `recalling`
//! RUN/index/          graphs over vectors, where items are many, see `graphs`
//! RUN/ranker/         checkpoints of the ranker
//! RUN/live/           ledger, live records
//! ```

use millstream_data::{EvalUsers, Interactions, Prepared, Split};
use millstream_index::IndexMut;
use millstream_models::embeds::item_vectors;
use millstream_models::recall::item_cf::ItemCfConfig;
use millstream_models::recall::popularity::Popularity;
use millstream_models::{Embedder, Scorer};
use millstream_pipeline::channels::hot;
use millstream_pipeline::config::ChannelConfig;
use millstream_pipeline::near_line::BestKept;
use millstream_pipeline::queries::Embedded;
use millstream_pipeline::vectors::Retrieval;
use millstream_pipeline::{
    Catalogue, Item, Live, Pipeline, PipelineConfig, Request, Resources, Takers, UserRows,
};
use millstream_schema::{ItemRow, Record, suggest};
use millstream_train::BEST;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use crate::ahead::{self, Shelf};
use crate::content::Content;
use crate::counted::{self, Counted, Table};
use crate::graphs::Graphs;
use crate::recalling::{self, ITEM_CF, Learned, retriever_of};
use crate::records::Records;
use crate::{Failure, measure, run_file};

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
    /// Checkpoints of a further retriever.
    pub fn retriever_named(&self, name: &str) -> PathBuf {
        if name == TWO_TOWER { self.retriever() } else { self.0.join("retrievers").join(name) }
    }
    /// A model of `[[recall.model]]`.
    pub fn recall_model(&self, name: &str) -> PathBuf {
        self.0.join("recall").join(format!("{name}.mill"))
    }
    /// Checkpoints of the ranker.
    pub fn ranker(&self) -> PathBuf {
        self.0.join("ranker")
    }
    /// What was ranked and not shown, a request a line.
    pub fn passed_over(&self) -> PathBuf {
        self.0.join("passed_over.jsonl")
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
    pub prepared: Arc<Prepared>,
    /// Users and items.
    pub records: Arc<Records>,
    /// Recall to re-rank.
    pub pipeline: Arc<Pipeline>,
    /// The retrievers, for vectors of items that come later; the two towers first.
    pub retrievers: Vec<Retriever>,
    /// Vectors of item texts, where the configuration asks for them.
    pub content: Option<Content>,
    /// Factors that channels search, for items that come and go.
    pub learned: Vec<Learned>,
    /// Counting tables that can follow live events.
    pub counted: Vec<Counted>,
    /// What a worker keeps for users, where a channel of that kind is named.
    pub ahead: Option<Arc<Shelf>>,
}

/// A retriever with the index over its item vectors.
pub struct Retriever {
    /// The name channels know it by.
    pub name: String,
    /// The model.
    pub embedder: Arc<Embedder>,
    /// The index.
    pub vectors: Arc<Vectors>,
}

/// The name of the retriever that every run has.
const TWO_TOWER: &str = "two_tower";

/// Item vectors: searched by requests, changed by new items.
pub type Vectors = Box<dyn IndexMut>;

impl Chain {
    /// Opens a run. Counting models take in the parts named: those that are history at that time.
    pub fn open(dir: &RunDir, mut config: PipelineConfig, history: &[Split]) -> Result<Self, Failure> {
        let prepared = Arc::new(Prepared::open(&dir.prepared())?);
        if let Some(dataset) = prepared.dataset() {
            run_file::match_ids(&mut config.catalogue, &dataset)?;
        }
        let records = Arc::new(Records::open(&dir.records())?);
        let retrievers = retrievers(dir, &config, &prepared)?;
        let vectors = retrievers[0].vectors.clone();
        let scorer = Scorer::open(&dir.ranker().join(BEST), &prepared.encoder)?;
        let scorer = Arc::new(scorer.with_precision(config.rank.precision));
        let popularity = popularity(&prepared, &records, &config, history)?;
        let uses = |kind: &str| config.channels.iter().any(|c| c.kind() == kind);
        let content = Content::of(&config, &records.items, &Graphs::of(dir, &config))?;
        let ahead = uses(ahead::KIND).then(|| Arc::new(Shelf::default()));
        let mut parts = Resources {
            scorer: Some(scorer),
            retrievers: retrievers.iter().map(Retriever::retrieval).collect(),
            search: Some(vectors.clone()),
            item_vectors: Some(vectors),
            item_cf: None,
            item_lists: BTreeMap::new(),
            takers: None,
            content: content.as_ref().map(Content::part),
            user_cf: BTreeMap::new(),
            user_rows: Arc::new(UserRows::new(prepared.users.len())),
            filters: BTreeMap::new(),
            near_line: ahead.clone().map(|shelf| shelf as Arc<dyn BestKept>),
            popularity: Arc::new(RwLock::new(popularity)),
            event_kinds: run_file::event_kinds(&prepared),
        };
        let mut counted = count(&config, (&prepared, history), &mut parts)?;
        let learned = recalling::open(dir, &config, (&prepared, history), (&mut parts, &mut counted))?;
        let catalogue = catalogue(&prepared, &records, &config)?;
        let pipeline = Arc::new(Pipeline::new(config, Arc::new(catalogue), parts)?);
        Ok(Self { prepared, records, pipeline, retrievers, content, learned, counted, ahead })
    }
}

impl Chain {
    /// Says on stderr what is configured and does nothing.
    pub fn tell_notes(&self) {
        self.pipeline.notes().iter().for_each(|note| eprintln!("note: {note}"));
    }

    /// The two towers.
    pub fn embedder(&self) -> &Arc<Embedder> {
        &self.retrievers[0].embedder
    }

    /// The same chain with these weights of the channels' orders.
    pub fn fused_with(&mut self, weights: &BTreeMap<String, f32>) -> Result<(), Failure> {
        let mut config = self.pipeline.config().clone();
        config.fuse.channels.extend(weights.iter().map(|(name, w)| (name.clone(), *w)));
        let (catalogue, parts) = (self.pipeline.catalogue().clone(), self.pipeline.resources().clone());
        self.pipeline = Arc::new(Pipeline::new(config, catalogue, parts)?);
        Ok(())
    }

    /// A request for `n` items for every evaluated user, at the moment their part begins.
    pub fn requests(&self, users: &EvalUsers, n: usize) -> Vec<Request> {
        let field = self.pipeline.config().catalogue.segment.as_deref();
        let segment = |row: u32| {
            self.records.users.get(row as usize).and_then(|user| segment_of(user, field)).map(str::to_owned)
        };
        let request = |place: usize| {
            let user = users.users[place];
            Request {
                history: users.history.span(place).map(|at| users.history.action(at)).collect(),
                seen: Arc::new(users.seen.row(place).iter().copied().collect()),
                segment: segment(user),
                ..Request::new(self.prepared.users.name(user), user, users.time_ms[place], n)
            }
        };
        (0..users.users.len()).map(request).collect()
    }

    /// Time of the log's last action, epoch milliseconds; `i64::MIN` when it has none.
    pub fn prepared_end(&self) -> Result<i64, Failure> {
        Ok(self.prepared.all_actions()?.time_ms.into_iter().max().unwrap_or(i64::MIN))
    }
}

/// Users and items as the pipeline sees them.
pub fn catalogue(
    prepared: &Prepared,
    records: &Records,
    config: &PipelineConfig,
) -> Result<Catalogue, Failure> {
    let known = |ms: i64, never: i64| (ms != never).then_some(ms);
    let item = |(row, record): (usize, &Record)| Item {
        record: record.clone(),
        created_ms: prepared.item_created_ms.get(row).and_then(|&ms| known(ms, i64::MIN)),
        retired_ms: prepared.item_retired_ms.get(row).and_then(|&ms| known(ms, i64::MAX)),
    };
    let items = records.items.iter().enumerate().map(item).collect();
    Ok(Catalogue::new(config.catalogue.clone(), prepared.encoder.clone(), records.users.clone(), items)?)
}

impl Retriever {
    fn retrieval(&self) -> (String, Retrieval) {
        let queries = Arc::new(Embedded(self.embedder.clone()));
        (self.name.clone(), Retrieval { queries, search: self.vectors.clone() })
    }
}

/// The two towers and every retriever that a channel of kind `vector` names.
fn retrievers(dir: &RunDir, config: &PipelineConfig, prepared: &Prepared) -> Result<Vec<Retriever>, Failure> {
    let mut names = vec![TWO_TOWER];
    for channel in config.channels.iter().filter(|c| c.kind() == "vector") {
        let name = retriever_of(channel);
        let offline = config.recall.models.iter().any(|m| m.name == name);
        // A bare `vector` means the only one there is.
        if name != "vector" && !names.contains(&name) && !offline {
            names.push(name);
        }
    }
    let graphs = Graphs::of(dir, config);
    let open = |name: &str| -> Result<Retriever, Failure> {
        let folder = dir.retriever_named(name);
        if name != TWO_TOWER && !folder.is_dir() {
            let what = "there is no such folder; a channel of kind `vector` needs the checkpoints of its retriever there";
            let models = config.recall.models.iter().map(|m| m.name.as_str());
            let meant = suggest::nearest(name, models)
                .map_or_else(String::new, |near| format!(", or did you mean the recall model `{near}`?"));
            return Err(format!("{}: {what}{meant}", folder.display()).into());
        }
        let embedder = Arc::new(Embedder::open(&folder.join(BEST), &prepared.encoder)?);
        let (items, vectors) = vectors_of(prepared, &embedder)?;
        let index = graphs.index(&format!("retrievers/{name}"), embedder.dim(), &items, &vectors)?;
        let vectors = Arc::new(index);
        Ok(Retriever { name: name.to_owned(), embedder, vectors })
    };
    names.into_iter().map(open).collect()
}

/// Counts the tables that no file holds: ItemCF, unless a model takes its place, and who took what, where a channel asks for it.
fn count(
    config: &PipelineConfig,
    (prepared, history): (&Prepared, &[Split]),
    parts: &mut Resources,
) -> Result<Vec<Counted>, Failure> {
    let mut counted = Vec::new();
    let mut add = |name: &str, table| {
        counted.push(Counted { name: name.to_owned(), parts: history.to_vec(), table });
    };
    if !config.recall.models.iter().any(|m| m.name == ITEM_CF) {
        let options = ItemCfConfig::default().for_items(prepared.items.len());
        let table = Arc::new(Live::new(measure::count_item_cf(prepared, &options, history)?));
        parts.item_cf = Some(table.clone());
        add(ITEM_CF, Table::ItemCf(options, table));
    }
    let untrained = |c: &ChannelConfig| c.kind() == "user_cf" && !c.options.contains_key("model");
    if config.channels.iter().any(untrained) {
        let actions = counted::actions(prepared, history)?;
        let takers = Takers::new(prepared.users.len(), prepared.items.len(), &actions)?;
        let takers = Arc::new(Live::new(takers));
        parts.takers = Some(takers.clone());
        add("user_cf", Table::Takers(takers));
    }
    Ok(counted)
}

/// Every item and its vector.
fn vectors_of(prepared: &Prepared, embedder: &Embedder) -> Result<(Vec<ItemRow>, Vec<f32>), Failure> {
    let items: Vec<ItemRow> = (0..prepared.items.len() as u32).collect();
    let vectors = item_vectors(embedder, &prepared.assembler, &items)?;
    Ok((items, vectors))
}

/// Decayed counts of the positives of these parts, over all and by segment.
fn popularity(
    prepared: &Prepared,
    records: &Records,
    config: &PipelineConfig,
    history: &[Split],
) -> Result<Popularity, Failure> {
    let segment = config.catalogue.segment.as_deref();
    let mut counts = Popularity::with_windows(&hot::windows(config));
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
