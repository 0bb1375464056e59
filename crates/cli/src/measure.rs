//! Measuring models on a part of a prepared directory.

use millstream_data::config::Kind;
use millstream_data::{EvalUsers, Prepared, Ragged, Source, SourceOptions, Split, Use};
use millstream_models::ModelConfig;
use millstream_models::embeds::Embeds;
use millstream_models::recall::item_cf::ItemCf;
use millstream_models::recall::offline::{OfflineDef, OfflineModel};
use millstream_models::recall::positives::Positives;
use millstream_train::eval::{self, Rules};
use millstream_train::graded::{self, Grades};
use millstream_train::record::{PartRecord, RECORD, RunRecord};
use millstream_train::{Error, Learner, Metrics, TrainConfig};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::progress::Bar;
use crate::recipe::EvaluateConfig;
use crate::{Failure, Global};

/// AUC, GAUC and log-loss of a ranker; NDCG at `k` of graded tasks.
pub fn scores(
    prepared: &Prepared,
    learner: &Learner,
    (split, k): (Split, &[usize]),
    seen: &dyn Fn(u64),
) -> Result<Metrics, Error> {
    let mut source = in_order(prepared, split)?;
    graded::ranker(learner, &mut source, Grades { tasks: &prepared.graded(), k }, seen)
}

/// Which items an evaluated user may be shown.
pub fn rules<'a>(prepared: &'a Prepared, users: &'a EvalUsers) -> Rules<'a> {
    Rules { eval: users, created_ms: &prepared.item_created_ms, retired_ms: &prepared.item_retired_ms }
}

/// Full-ranking metrics of a retriever.
pub fn vectors(
    prepared: &Prepared,
    model: &dyn Embeds,
    users: &EvalUsers,
    k: &[usize],
) -> Result<Metrics, Error> {
    let most = k.iter().copied().max().unwrap_or(0);
    let lists = eval::retriever_lists(model, &prepared.assembler, &rules(prepared, users), most)?;
    Ok(eval::lists_beside(users, &lists, k, &prepared.item_positives))
}

/// Each user's best `k` by ItemCF from their whole history.
pub fn item_cf_lists(prepared: &Prepared, model: &ItemCf, users: &EvalUsers, k: usize) -> Vec<Vec<u32>> {
    offline_lists(prepared, &OfflineModel::Lists(model.clone()), (users, k), &|_| {})
}

/// Each user's best `k` by a model that learned from all positives at once, from their whole history; `seen` is told how many users
/// are done, now and then.
pub fn offline_lists(
    prepared: &Prepared,
    model: &OfflineModel,
    (users, k): (&EvalUsers, usize),
    seen: &(dyn Fn(u64) + Sync),
) -> Vec<Vec<u32>> {
    let done = AtomicU64::new(0);
    let history = |place: usize| -> Vec<(u32, f32)> {
        // Where seen items may come again, none is barred and the history alone tells of them.
        let mut own = match prepared.repeats() || prepared.bars_some_kinds() {
            true => users.history.item[users.history.span(place)].to_vec(),
            false => users.seen.row(place).to_vec(),
        };
        own.sort_unstable();
        own.dedup();
        own.iter().map(|&item| (item, 1.0)).collect()
    };
    let size = (prepared.items.len(), model.together());
    eval::scored_together(&rules(prepared, users), size, k, &|places, out| {
        let histories: Vec<Vec<(u32, f32)>> = places.clone().map(history).collect();
        let known: Vec<_> =
            places.zip(&histories).map(|(place, h)| (users.users[place], h.as_slice())).collect();
        out.fill(0.0);
        model.score_together(&known, out);
        seen(done.fetch_add(known.len() as u64, Relaxed) + known.len() as u64);
    })
}

/// Each user's best `k` by one score per item for all.
pub fn shared_lists(prepared: &Prepared, scores: &[f32], users: &EvalUsers, k: usize) -> Vec<Vec<u32>> {
    eval::scored_lists(&rules(prepared, users), prepared.items.len(), k, &|_, out| {
        out.copy_from_slice(scores)
    })
}

/// Every item that each user acted on in any part, rising.
fn known(prepared: &Prepared, users: &EvalUsers) -> Result<Ragged<u32>, Failure> {
    let parts = Split::ALL.map(|split| prepared.interactions(split));
    let parts = parts.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut known = Ragged::default();
    for (place, &user) in users.users.iter().enumerate() {
        let mut items: Vec<u32> = parts.iter().flat_map(|part| part.items_of(user)).copied().collect();
        items.extend_from_slice(&users.history.item[users.history.span(place)]);
        items.sort_unstable();
        items.dedup();
        known.push(items);
    }
    Ok(known)
}

/// ItemCF counted on the training positives.
pub fn count_item_cf(
    prepared: &Prepared,
    config: &millstream_models::recall::item_cf::ItemCfConfig,
    splits: &[Split],
) -> Result<ItemCf, Failure> {
    with_positives(prepared, splits, |positives| config.build(positives))
}

/// Refuses options of a model that ask for times, where the data has none: those that sequences are stored with are made up.
///
/// # Errors
/// Names the option.
pub fn check_times(prepared: &Prepared, model: &ModelConfig) -> Result<(), Failure> {
    match OfflineDef::asks_times(model).filter(|_| prepared.kind == Kind::Sequences) {
        Some(key) => Err(format!(
            "model `{}`: `{key}` needs times, and sequences have none; leave it out, or prepare a log",
            model.name
        )
        .into()),
        None => Ok(()),
    }
}

/// What `learn` makes of the positives of these parts.
pub fn with_positives<R>(
    prepared: &Prepared,
    splits: &[Split],
    learn: impl FnOnce(&Positives<'_>) -> Result<R, millstream_models::Error>,
) -> Result<R, Failure> {
    let parts = splits.iter().map(|&s| prepared.interactions(s)).collect::<Result<Vec<_>, _>>()?;
    let (mut offsets, mut item, mut time_ms) = (vec![0u64], Vec::new(), Vec::new());
    for user in 0..prepared.users.len() {
        for part in &parts {
            let span = part.offsets[user] as usize..part.offsets[user + 1] as usize;
            item.extend_from_slice(&part.items[span.clone()]);
            time_ms.extend_from_slice(&part.time_ms[span]);
        }
        offsets.push(item.len() as u64);
    }
    let positives =
        Positives { items: prepared.items.len(), offsets: &offsets, item: &item, time_ms: &time_ms };
    Ok(learn(&positives)?)
}

/// What a trained model reaches on a part; retrievers are judged by full rankings.
pub fn part(
    prepared: &Prepared,
    learner: &Learner,
    split: Split,
    config: &EvaluateConfig,
    global: &Global,
) -> Result<PartRecord, Failure> {
    if learner.retriever().is_ok() {
        let users = prepared.eval_users(split, config.users, EVAL_SEED)?;
        let mut metrics = vectors(prepared, learner, &users, &config.k)?;
        if let Some(negatives) = config.sampled {
            let known = known(prepared, &users)?;
            let how = (&config.k[..], negatives, EVAL_SEED);
            metrics.extend(eval::sampled(learner, &prepared.assembler, (&users, &known), how)?);
        }
        return Ok(PartRecord::of_lists(metrics, users.users.len(), &ranking_space(prepared, config)));
    }
    let rows = prepared.rows(split, Use::Rank);
    let bar = Bar::new("evaluate", rows, "rows", global.quiet);
    let what = format!("all rows of the {split} part, as they were exposed or sampled");
    let record = if prepared.graded().contains(&true) {
        let metrics = scores(prepared, learner, (split, &config.k), &|done| bar.at(done))?;
        PartRecord::of_rows(metrics, rows, &what)
    } else {
        let mut source = in_order(prepared, split)?;
        let scored = eval::scored(learner, &mut source, &|done| bar.at(done))?;
        PartRecord::of_scores(learner.tasks(), &scored, &what)
    };
    bar.done(format!("{rows} rows"));
    Ok(record)
}

/// As [`part`], also written into the record of the run in `dir`.
pub fn part_into(
    dir: &Path,
    (prepared, learner): (&Prepared, &Learner),
    split: Split,
    config: &EvaluateConfig,
    global: &Global,
) -> Result<PartRecord, Failure> {
    let found = part(prepared, learner, split, config, global)?;
    write_part(dir, (prepared, learner), split, &found)?;
    Ok(found)
}

/// Writes what was measured on a part into the record of the run in `dir`.
pub fn write_part(
    dir: &Path,
    (prepared, learner): (&Prepared, &Learner),
    split: Split,
    found: &PartRecord,
) -> Result<(), Failure> {
    // A run of an earlier version has no record; measuring it makes one of what is known.
    let mut record = if dir.join(RECORD).exists() {
        RunRecord::open(dir)?
    } else {
        let model = learner.header().model;
        let known = RunRecord::new(&model, &TrainConfig::default(), learner.tasks(), prepared.dir());
        RunRecord { training: serde_json::Value::Null, ..known }
    };
    record.parts.insert(split.as_str().to_owned(), found.clone());
    Ok(record.save(dir)?)
}

fn ranking_space(prepared: &Prepared, config: &EvaluateConfig) -> String {
    let users =
        config.users.map_or_else(|| "all users".to_owned(), |n| format!("{n} users drawn with a fixed seed"));
    format!("full ranking of {} items for {users} with positives in the part", prepared.items.len())
}

/// Seeds the draw of users where not all are evaluated; the same users for every model.
pub const EVAL_SEED: u64 = 20_26;

/// Batches of a part in file order, for measuring.
fn in_order(prepared: &Prepared, split: Split) -> Result<Source, millstream_data::Error> {
    prepared.source(split, Use::Rank, SourceOptions { batch_size: 8192, shuffle: None, skip_batches: 0 })
}
