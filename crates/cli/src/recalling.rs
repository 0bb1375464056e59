//! A run's models that learn from all positives at once: trained by `recall train`, opened where a channel names them.
//!
//! ```text
//! RUN/recall/NAME.mill   a model of `[[recall.model]]` with its tables (`models::recall::trained`)
//! ```

use millstream_data::{Prepared, Split};
use millstream_models::recall::factors::{FactorModel, Factors};
use millstream_models::recall::offline::OfflineModel;
use millstream_models::recall::trained::{About, Trained, catalogue_number};
use millstream_pipeline::config::{ChannelConfig, RecallModel};
use millstream_pipeline::queries::Folded;
use millstream_pipeline::vectors::Retrieval;
use millstream_pipeline::{Live, PipelineConfig, Resources};
use millstream_schema::{ItemRow, suggest};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::chain::{RunDir, Vectors};
use crate::counted::{Counted, Table};
use crate::graphs::Graphs;
use crate::progress::Bar;
use crate::{Failure, Global, measure};

/// The model whose lists stand in for those that are counted when a run is opened.
pub const ITEM_CF: &str = "item_cf";

/// Factors with a live index over their items.
pub struct Learned {
    /// What was learned.
    pub model: Arc<FactorModel>,
    /// The index.
    pub vectors: Arc<Vectors>,
}

/// Which parts are learned from, and the seed.
#[derive(Clone, Copy)]
pub struct Lesson {
    /// The last part that is learned from; those before it are, too.
    pub until: Split,
    /// Seed.
    pub seed: u64,
}

/// How the training of a model went.
#[derive(Debug, Serialize)]
pub struct Taught {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Seconds.
    pub seconds: f64,
    /// Items known.
    pub items: usize,
    /// Numbers per vector, of a model that has such.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dim: Option<usize>,
    /// Pairs of items in its tables.
    pub pairs: usize,
    /// Size of its file.
    pub bytes: u64,
}

/// Trains these models of the run and puts them where [`open`] looks.
pub fn train(
    dir: &RunDir,
    prepared: &Prepared,
    models: &[&RecallModel],
    lesson: Lesson,
    global: &Global,
) -> Result<Vec<Taught>, Failure> {
    if models.is_empty() {
        return Ok(Vec::new());
    }
    let parts: Vec<Split> = Split::ALL.into_iter().filter(|s| *s as u8 <= lesson.until as u8).collect();
    let catalogue = catalogue_number(prepared.users.iter(), prepared.items.iter());
    let mut all = Vec::new();
    for model in models {
        let started = Instant::now();
        let bar = Bar::new(&format!("train {}", model.name), 0, "models", global.quiet);
        let about = About {
            kind: model.kind().to_owned(),
            options: toml::to_string(&model.options)?,
            neighbours: model.neighbours,
            seed: lesson.seed,
            parts: parts.iter().map(|s| s.as_str().to_owned()).collect(),
            catalogue,
        };
        measure::check_times(prepared, &model.model())
            .map_err(|e| format!("recall model `{}`: {e}", model.name))?;
        let trained = measure::with_positives(prepared, &parts, |p| Trained::fit(about, p))
            .map_err(|e| format!("recall model `{}`: {e}", model.name))?;
        let file = dir.recall_model(&model.name);
        let folder = file.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        trained.save(&file)?;
        let taught = Taught {
            name: model.name.clone(),
            kind: model.kind().to_owned(),
            seconds: started.elapsed().as_secs_f64(),
            items: trained.model.items(),
            dim: trained.model.factors().map(Factors::dim),
            pairs: trained.tables.iter().map(|t| t.1.pairs()).sum(),
            bytes: std::fs::metadata(&file).map_or(0, |m| m.len()),
        };
        bar.done(format!("{}, {:.1} s", taught.kind, taught.seconds));
        all.push(taught);
    }
    Ok(all)
}

/// The models of these names; all where none is named.
pub fn chosen<'a>(config: &'a PipelineConfig, names: &[String]) -> Result<Vec<&'a RecallModel>, Failure> {
    let all = &config.recall.models;
    let find = |name: &String| {
        all.iter().find(|m| m.name == *name).ok_or_else(|| {
            let known: Vec<&str> = all.iter().map(|m| m.name.as_str()).collect();
            format!("--model: {}", suggest::unknown("recall model", name, known.iter().copied()))
        })
    };
    match (all.is_empty(), names.is_empty()) {
        (true, _) => Err("run.toml has no [[recall.model]]; name one there first".into()),
        (_, true) => Ok(all.iter().collect()),
        _ => Ok(names.iter().map(find).collect::<Result<_, _>>()?),
    }
}

/// The name of the retriever that a channel of kind `vector` asks.
pub fn retriever_of(channel: &ChannelConfig) -> &str {
    channel.options.get("retriever").and_then(toml::Value::as_str).unwrap_or(&channel.name)
}

/// The table that a channel of kind `i2i` looks up.
fn table_of(channel: &ChannelConfig) -> &str {
    channel.options.get("table").and_then(toml::Value::as_str).unwrap_or(ITEM_CF)
}

/// Names of the models that the channels use.
fn used(config: &PipelineConfig) -> BTreeSet<&str> {
    let of = |channel: &ChannelConfig| -> Option<&str> {
        let named = match channel.kind() {
            "vector" => retriever_of(channel),
            "i2i" => table_of(channel),
            "user_cf" => channel.options.get("model").and_then(toml::Value::as_str)?,
            "bspm" => channel.options.get("model").and_then(toml::Value::as_str).unwrap_or(&channel.name),
            _ => return None,
        };
        // A dot parts a model's further tables from its name.
        let name = named.split_once('.').map_or(named, |x| x.0);
        config.recall.models.iter().map(|m| m.name.as_str()).find(|m| *m == name)
    };
    let mut names: BTreeSet<&str> = config.channels.iter().filter_map(of).collect();
    // It takes the place of the table that every run has.
    names.extend(config.recall.models.iter().map(|m| m.name.as_str()).filter(|m| *m == ITEM_CF));
    names
}

/// Opens the models that channels use and puts them among the parts, and those that follow events among the counted tables.
/// `history` are the parts that may be known.
pub fn open(
    dir: &RunDir,
    config: &PipelineConfig,
    (prepared, history): (&Prepared, &[Split]),
    (parts, counted): (&mut Resources, &mut Vec<Counted>),
) -> Result<Vec<Learned>, Failure> {
    let names = used(config);
    let catalogue = match names.is_empty() {
        true => 0,
        false => catalogue_number(prepared.users.iter(), prepared.items.iter()),
    };
    let mut learned = Vec::new();
    for model in config.recall.models.iter().filter(|m| names.contains(m.name.as_str())) {
        let Trained { about, model: trained, tables } = read(dir, model, (catalogue, history))?;
        for (addition, lists) in tables {
            let lists = Arc::new(Live::new(lists));
            counted.extend(Counted::of_model(&model.name, &about, &lists)?);
            if model.name == ITEM_CF {
                parts.item_cf = Some(lists.clone());
            }
            parts.item_lists.insert(About::table_name(&model.name, &addition), lists);
        }
        let factors = match trained {
            OfflineModel::Factors(factors) => factors,
            OfflineModel::Spectral(spectral) => spectral.factors().clone(),
            OfflineModel::Users(cf) => {
                let cf = Arc::new(Live::new(*cf));
                counted.push(Counted::new(&model.name, &about, Table::UserCf(cf.clone())));
                parts.user_cf.insert(model.name.clone(), cf);
                continue;
            }
            OfflineModel::Filter(filter) => {
                parts.filters.insert(model.name.clone(), Arc::from(filter));
                continue;
            }
            OfflineModel::Lists(_) => continue,
        };
        let factors = Arc::new(factors);
        let vectors = Arc::new(index(&Graphs::of(dir, config), &model.name, &factors)?);
        let queries = Arc::new(Folded::new(factors.clone()));
        parts.retrievers.insert(model.name.clone(), Retrieval { queries, search: vectors.clone() });
        learned.push(Learned { model: factors, vectors });
    }
    check(config, parts)?;
    Ok(learned)
}

/// Reads a model and sees to it that it is the one that the run means.
fn read(
    dir: &RunDir,
    model: &RecallModel,
    (catalogue, history): (u64, &[Split]),
) -> Result<Trained, Failure> {
    let file = dir.recall_model(&model.name);
    let command = format!("millstream recall train --run {} --model {}", dir.0.display(), model.name);
    let refuse = |what: &str| -> Failure { format!("{}: {what}; `{command}`", file.display()).into() };
    if !file.exists() {
        return Err(refuse("there is no such file; the model is yet to be trained"));
    }
    let trained = Trained::open(&file)?;
    let about = &trained.about;
    let same = about.kind == model.kind()
        && about.neighbours == model.neighbours
        && about.model()?.options == model.options;
    if !same {
        return Err(refuse("was trained with other options than run.toml says; train it again"));
    }
    if about.catalogue != catalogue {
        return Err(refuse("learned from other users and items than those of the run; train it again"));
    }
    let late = |part: &&String| !history.iter().any(|h| h.as_str() == part.as_str());
    if let Some(part) = about.parts.iter().find(late) {
        let until = history.last().map_or("train", |h| h.as_str());
        return Err(refuse(&format!(
            "has learned from `{part}`, which must not be known here; train it again with `--until {until}`"
        )));
    }
    Ok(trained)
}

/// What a channel asks of a model must be there; the models that it did not open are valid names, too.
fn check(config: &PipelineConfig, parts: &Resources) -> Result<(), Failure> {
    let (models, tables) = (&config.recall.models, parts.lists());
    let further = models
        .iter()
        .flat_map(|m| About::tables(m.kind()).iter().map(|addition| About::table_name(&m.name, addition)));
    let known: Vec<String> = tables.keys().cloned().chain(further).collect();
    for channel in &config.channels {
        let (name, kind) = (&channel.name, channel.kind());
        let found = |name: &str| models.iter().find(|m| m.name == name);
        if kind == "i2i" && !tables.contains_key(table_of(channel)) && !models.is_empty() {
            let problem = suggest::unknown("table", table_of(channel), known.iter().map(String::as_str));
            return Err(format!("options of channel `{name}`: {problem}").into());
        }
        if kind == "vector"
            && let Some(model) = found(retriever_of(channel))
            && !parts.retrievers.contains_key(&model.name)
        {
            let (model, kind) = (&model.name, model.kind());
            return Err(
                format!("channel `{name}`: `{model}` is a `{kind}`, which has no vectors to search").into()
            );
        }
    }
    Ok(())
}

/// An index over the items that were met.
fn index(graphs: &Graphs, name: &str, model: &FactorModel) -> Result<Vectors, Failure> {
    let dim = model.dim();
    let (mut items, mut vectors): (Vec<ItemRow>, Vec<f32>) = Default::default();
    for (item, vector) in (0u32..).zip(model.items().chunks_exact(dim)) {
        if vector.iter().any(|x| *x != 0.0) {
            items.push(item);
            vectors.extend_from_slice(vector);
        }
    }
    graphs.index(&format!("recall/{name}"), dim, &items, &vectors)
}

impl Learned {
    /// An item is there again, or its record has changed: its vector is what it was. New items have none.
    pub fn put(&self, item: ItemRow) -> Result<(), millstream_index::Error> {
        let dim = self.model.dim();
        match self.model.items().chunks_exact(dim).nth(item as usize) {
            Some(vector) if vector.iter().any(|x| *x != 0.0) => self.vectors.upsert(item, vector),
            _ => Ok(()),
        }
    }
}
